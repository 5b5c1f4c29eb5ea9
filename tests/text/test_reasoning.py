"""What a client reads: whole characters, thinking apart from answer, stops that sleep while the model thinks."""

from __future__ import annotations

import random
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from raison.text.reasoning import ReasoningStream
from raison.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.build()
CLOSE = TOKENIZER.think_close


def read(ids: list[int], thinking: bool = True, stop: tuple[str, ...] = ()) -> tuple[str, str, bool]:
    """Thinking, answer and whether a stop string ended it, as the pieces tell."""
    stream = ReasoningStream(TOKENIZER.decode, CLOSE, thinking, stop)
    pieces = []
    for token in ids:
        pieces.append(stream.push(token))
        if stream.stopped:
            break
    pieces.append(stream.finish())
    sides = ("".join(p.text for p in pieces if p.thinking is side) for side in (True, False))
    return *sides, stream.stopped


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd"))


@given(TEXT, TEXT, st.lists(st.text("ab \n", min_size=1), max_size=2))
def test_pieces_join_to_thinking_and_answer(thinking: str, answer: str, stop: list[str]) -> None:
    ids = [*TOKENIZER.encode_user(thinking), CLOSE, *TOKENIZER.encode_user(answer)]
    cut = min((answer.find(s) for s in stop if s in answer), default=len(answer))
    seen, told, stopped = read(ids, stop=tuple(stop))
    assert (seen, stopped) == (thinking, any(s in answer for s in stop))
    assert told == answer[: len(told)]
    assert len(told) >= cut if stopped else told == answer
    assert not any(s in told for s in stop)


@given(st.lists(st.integers(0, TOKENIZER.size - 1), max_size=30))
def test_any_ids_lose_nothing(ids: list[int]) -> None:
    """Broken characters too: the pieces are what the whole would decode to."""
    close = ids.index(CLOSE) if CLOSE in ids else len(ids)
    stream = ReasoningStream(TOKENIZER.decode, CLOSE, True)
    text = "".join(stream.push(token).text for token in ids) + stream.finish().text
    assert text == TOKENIZER.decode(ids[:close]) + TOKENIZER.decode(ids[close + 1 :])


def test_half_a_character_is_held_back() -> None:
    ids = TOKENIZER.encode("€")
    assert len(ids) == 3
    stream = ReasoningStream(TOKENIZER.decode, CLOSE, thinking=False)
    assert [stream.push(token).text for token in ids] == ["", "", "€"]


def test_stop_sleeps_while_thinking_and_wakes_after() -> None:
    ids = [*TOKENIZER.encode("a\n\nb"), CLOSE, *TOKENIZER.encode("c\n\nd")]
    assert read(ids, stop=("\n\n",)) == ("a\n\nb", "c", True)
    assert read(ids, thinking=False, stop=("\n\n",))[1:] == ("a", True)


def test_beginning_of_a_stop_is_held_until_it_is_none() -> None:
    stream = ReasoningStream(TOKENIZER.decode, CLOSE, thinking=False, stop=("END",))
    assert [stream.push(token).text for token in TOKENIZER.encode("xENxE")] == ["x", "", "", "ENx", ""]
    assert stream.finish().text == "E"


def test_second_closing_tag_is_text_of_the_answer() -> None:
    assert read([CLOSE, *TOKENIZER.encode("1"), CLOSE, *TOKENIZER.encode("2")]) == ("", "1</think>2", False)


def test_stop_over_token_borders_matches_the_plain_search() -> None:
    numbers = random.Random(0)
    for _ in range(300):
        text = "".join(numbers.choice("ab") for _ in range(12))
        stop = "".join(numbers.choice("ab") for _ in range(numbers.randint(1, 5)))
        _, answer, stopped = read(TOKENIZER.encode(text), thinking=False, stop=(stop,))
        assert (answer, stopped) == (text.split(stop)[0], stop in text)


def test_no_torch() -> None:
    code = "import sys, raison.text.reasoning; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
