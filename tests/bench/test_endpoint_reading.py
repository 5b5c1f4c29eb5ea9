"""Bytes with their times into text with its times: cut anywhere, in every dialect, whole or failed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raison.bench.endpoint.events import events
from raison.bench.endpoint.reading import read
from raison.bench.endpoint.records import STOPPED, WHOLE, Exchange, Heard, Piece

DONE = b"data: [DONE]\n\n"


def event(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return f"data: {json.dumps({'choices': choices, **more})}\n\n".encode()


def exchange(
    reads: Sequence[tuple[float, bytes]], status: int = 200, kind: str = "text/event-stream", failure: str = ""
) -> Exchange:
    return Exchange(0.0, 0.0, reads[-1][0] if reads else 1.0, status, kind, tuple(reads), failure)


def heard(*reads: tuple[float, bytes], **more: Any) -> Heard:
    return read(exchange(reads, **more))


END = (9.0, event({}, "stop") + DONE)


def test_an_event_has_the_time_of_the_read_that_completed_it() -> None:
    data = ": ping\r\n\r\ndata: ä\r\ndata: b\r\nid: 3\r\n\r\ndata:c\n\ndata: last".encode()
    for cut in range(len(data) + 1):  # in the middle of a character too
        found = list(events([(1.0, data[:cut]), (2.0, data[cut:])]))
        assert [text for _, text in found] == ["ä\nb", "c", "last"]
    late = data.index(b"b\r\n") + 1
    assert [at for at, _ in events([(1.0, data[:late]), (2.0, data[late:])])] == [2.0, 2.0, 2.0]
    early = data.index(b"c\n") + 2
    assert [at for at, _ in events([(1.0, data[:early]), (2.0, data[early:])])] == [1.0, 1.0, 2.0]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thinking_is_read_from_either_field(field: str) -> None:
    found = heard(
        (1.0, event({"role": "assistant", "content": ""})),
        (2.0, event({field: "so"})), (3.0, event({"content": "7"})), END,
    )  # fmt: skip
    assert found.outcome == WHOLE and found.finish == "stop"
    assert found.pieces == (Piece(2.0, "so", ""), Piece(3.0, "", "7")) and found.events == 2


def test_both_fields_at_once_say_it_once() -> None:
    assert heard((1.0, event({"reasoning_content": "so", "reasoning": "so"})), END).thinking == "so"


@pytest.mark.parametrize(
    "parts",
    [["<think>so", "</think>7"], ["so</think>7"], ["<thi", "nk>s", "o</th", "ink>", "7"],
     ["\n<think>", "so</think>", "7"]],
)  # fmt: skip
def test_tags_in_the_text_part_it_wherever_they_are_cut(parts: list[str]) -> None:
    found = heard(*((float(at), event({"content": part})) for at, part in enumerate(parts)), END)
    assert (found.thinking.strip(), found.answer) == ("so", "7")
    assert next(piece.at for piece in found.pieces if piece.answer) == len(parts) - 1
    assert found.events == len(parts)


def test_only_the_first_closing_tag_closes_and_an_open_thought_is_no_answer() -> None:
    assert heard((1.0, event({"content": "a</think>b</think>c"})), END).answer == "b</think>c"
    open_thought = heard((1.0, event({"content": "<think>a b"})), END)
    assert (open_thought.thinking, open_thought.answer) == ("a b", "")
    tagged = heard((1.0, event({"reasoning": "so"})), (2.0, event({"content": "a</think>b"})), END)
    assert tagged.answer == "a</think>b", "beside a field of its own the text is as it stands"


def test_events_of_one_read_are_one_piece() -> None:
    found = heard((1.0, event({"content": "a"}) + event({"content": "b"})), (2.0, event({"content": "c"})), END)
    assert found.pieces == (Piece(1.0, "", "ab"), Piece(2.0, "", "c")) and found.events == 3


def test_usage_comes_last_or_with_every_event_or_not_at_all() -> None:
    usage = {"completion_tokens": 2}
    assert heard((1.0, event({"content": "a"})), (2.0, event({}, "stop") + event(usage=usage) + DONE)).usage == usage
    each = heard((1.0, event({"content": "a"}, usage={"completion_tokens": 1})), (2.0, event({}, "stop", usage=usage)))
    assert each.usage == usage
    assert heard((1.0, event({"content": "a"}, usage=None)), END).usage == {}


@pytest.mark.parametrize(
    ("reads", "more", "outcome"),
    [
        ([], {"status": 0, "failure": "no connection"}, "no connection"),
        ([], {"status": 0, "failure": "timeout"}, "timeout"),
        ([], {"status": 0, "failure": STOPPED}, STOPPED),
        ([(1.0, b'{"error": "busy"}')], {"status": 429, "kind": "application/json"}, "HTTP 429"),
        ([(1.0, b'{"choices": []}')], {"kind": "application/json"}, "no event stream"),
        ([(1.0, event({"content": "a"}))], {}, "cut off"),
        ([(1.0, event({"content": "a"}))], {"failure": "hung up"}, "hung up"),
        ([(1.0, event({"content": "a"}))], {"failure": STOPPED}, STOPPED),
        (
            [(1.0, event({"content": "a"}) + b'data: {"error": {"message": "out"}}\n\n' + DONE)],
            {},
            "error in the stream",
        ),
        ([(1.0, event({}, "length") + DONE)], {}, "no text"),
        ([(1.0, event({"content": "</think>"}, "stop") + DONE)], {}, "no text"),
        ([(1.0, b"data: {oops\n\n" + DONE)], {}, "malformed event"),
        ([(1.0, b"data: 7\n\n" + DONE)], {}, "malformed event"),
        ([(1.0, b'data: {"choices": 7}\n\n')], {}, "malformed event"),
        ([(1.0, b'data: {"choices": [{"delta": {"content": ["a"]}}]}\n\n')], {}, "malformed event"),
    ],
)
def test_every_failure_has_a_name(reads: list[tuple[float, bytes]], more: dict[str, Any], outcome: str) -> None:
    assert heard(*reads, **more).outcome == outcome


SHAPES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "delta", "content", "reasoning", "usage", "error", "finish_reason"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.lists(SHAPES, max_size=4), st.binary(max_size=40), st.integers(0, 200))
def test_whatever_a_server_sends_is_an_outcome(values: list[Any], garbage: bytes, cut: int) -> None:
    data = b"".join(f"data: {json.dumps(value)}\n\n".encode() for value in values) + garbage
    found = heard((1.0, data[:cut]), (2.0, data[cut:]))
    assert found.outcome and (found.outcome != WHOLE or found.thinking + found.answer)


def test_a_refusal_keeps_the_servers_words_and_a_finish_alone_ends_an_answer() -> None:
    assert "busy" in heard((1.0, b'{"error": "busy"}'), status=429, kind="application/json").detail
    assert heard((1.0, event({"content": "a"}, "stop"))).outcome == WHOLE
    assert heard((1.0, event({"content": "a"}) + DONE)).outcome == WHOLE
