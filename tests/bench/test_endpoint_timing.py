"""The definitions, on recorded times: what a request's figures are, to the digit."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from raison.bench.endpoint.counting import Counter, load_counter
from raison.bench.endpoint.known_server import TOKEN
from raison.bench.endpoint.records import Ask, Exchange, Heard, Measured, Piece, Served
from raison.bench.endpoint.timing import gaps, measured, output_speed, served
from raison.reasoner import SHIPPED
from raison.text.tokenizer import Tokenizer


def words() -> Counter:
    """Counts a token a word, however long."""
    backend = Backend(WordLevel({"?": 0}, unk_token="?"))
    backend.pre_tokenizer = WhitespaceSplit()
    return Counter(backend, "words")


def figures(pieces: list[Piece], due: float = 10.0, sent: float = 10.0, ended: float = 20.0) -> Measured:
    heard = Heard("whole", "", tuple(pieces), len(pieces), "stop", {"completion_tokens": 9})
    return measured(Ask(b"", 5), Exchange(due, sent, ended, 200, "", ()), heard, words(), 8.0)


def test_times_count_from_when_the_request_was_due() -> None:
    pieces = [Piece(11.0, "so it", ""), Piece(12.0, " is", ""), Piece(13.0, "", "seven"), Piece(15.0, "", " or eight")]
    row = figures(pieces, due=10.0, sent=10.5, ended=15.25)
    assert (row.scheduled, row.late, row.ttft, row.ttfat, row.end_to_end) == (2.0, 0.5, 1.0, 3.0, 5.25)
    assert (row.prompt_tokens, row.thinking_tokens, row.answer_tokens, row.tokens) == (5, 3, 3, 6)
    assert row.output_speed == pytest.approx((6 - 2) / (15 - 11))
    assert row.itl == pytest.approx(1.0) and row.longest_gap == 2.0
    assert row.response_500 == pytest.approx(3.0 + 500 / 1.0)
    assert row.gaps == ((1.0, 1), (1.0, 1), (2.0, 2)) and row.served.completion_tokens == 9


def test_what_there_is_not_is_none() -> None:
    at_once = figures([Piece(11.0, "", "seven or eight")])
    assert (at_once.ttft, at_once.ttfat, at_once.output_speed, at_once.itl) == (1.0, 1.0, None, None)
    assert figures([Piece(11.0, "so", ""), Piece(12.0, " it", "")]).ttfat is None
    nothing = figures([])
    assert (nothing.ttft, nothing.output_speed, nothing.tokens, nothing.gaps) == (None, None, 0, ())


def test_speed_leaves_the_first_piece_out() -> None:
    assert output_speed([1.0, 2.0, 3.0], [50, 1, 1]) == 1.0
    assert output_speed([1.0], [50]) is None
    assert output_speed([1.0, 1.0], [1, 1]) is None


def test_a_gap_goes_on_until_a_token_is_complete() -> None:
    assert gaps([1.0, 2.0, 4.0, 5.0], [1, 0, 3, 1]) == ((3.0, 3), (1.0, 1))


def test_tokens_of_parts_sum_to_those_of_the_whole() -> None:
    counter = words()
    for parts in (["one tw", "o three"], ["", "one", " ", "two"], ["one"], []):
        assert sum(counter.parts(parts)) == counter.count("".join(parts))
    assert counter.parts(["one tw", "o three"]) == [1, 2], "a word counts where its last letter comes"
    shipped = load_counter("")
    text = "Wait, 123 + 45 -> ünïcödé 𝛼 <think>x</think>"
    assert (
        sum(shipped.parts(list(text)))
        == shipped.count(text)
        == len(shipped.parts(list(text))) + (len(text.encode()) - len(text) - shipped_merges(text))
    )


def shipped_merges(text: str) -> int:
    """Bytes less tokens: what the shipped vocabulary joins."""
    return len(text.encode()) - len(Tokenizer.build().encode(text))


def test_the_shipped_vocabulary_counts_the_known_servers_tokens_one_by_one() -> None:
    counter = load_counter("")
    assert counter.shipped and counter.count(TOKEN * 57) == 57
    assert load_counter(str(SHIPPED)).count("one two") == counter.count("one two") == 7
    assert not load_counter(str(SHIPPED / "tokenizer.json")).shipped


def test_usage_is_taken_as_far_as_it_is_numbers() -> None:
    details = {"prompt_tokens_details": {"cached_tokens": 3}, "completion_tokens_details": {"reasoning_tokens": 4}}
    assert served({"prompt_tokens": 5, "completion_tokens": 6, **details}) == Served(5, 3, 6, 4)
    assert served({"prompt_tokens": "5", "completion_tokens": True, "completion_tokens_details": None}) == Served()
