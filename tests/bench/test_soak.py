"""The soak finds what it is for, a planted leak of pages, growth of memory, drift, and nothing where there is none."""

from __future__ import annotations

import itertools
import json

import pytest

from raison.bench.questions import QUESTIONS
from raison.bench.soak import Line, figures, judged, soak
from raison.bench.traffic import GRAMMARS, TENANTS, Traffic
from raison.bench.trend import trend
from raison.cli.entry import main
from raison.engine.engine import Engine
from raison.hardware import resident_bytes
from tests.engine.small import TOKENIZER, make_engine

MIB = 2**20


def small_soak(engine: Engine, lines: int = 8) -> list[Line]:
    """By a clock that counts steps: 60 of them, and those in which the load runs out, are a line."""
    traffic = Traffic(TOKENIZER, QUESTIONS, 500, seed=0)
    return soak(engine, traffic, 60 * lines, 60, seed=0, clock=lambda: float(engine.stats.steps))


def small_engine() -> Engine:
    return make_engine(cache_tokens=1024, max_batch=6)


def line(minute: int, mib: float, rate: float = 1000.0, lost: int = 0, yardstick: float = 0.01) -> Line:
    """A made-up minute at `rate` tokens per second of CPU time."""
    return Line(
        second=60.0 * minute, requests=10, tokens=round(40 * rate), prompt_tokens=0, cancelled=0, preempted=0,
        seconds=60.0, cpu_seconds=40.0, yardstick_seconds=yardstick, resident_bytes=round(mib * MIB), pages_held=50,
        pages_lost=lost, pages_free=64,
    )  # fmt: skip


def test_an_engine_without_leaks_has_every_page_back_and_does_all_that_a_mixed_load_is() -> None:
    engine = small_engine()
    lines = small_soak(engine)
    assert len(lines) >= 3
    assert all(one.pages_lost == 0 and one.pages_free == 256 for one in lines)
    assert all(one.tokens > 0 and one.requests > 0 and one.pages_held > 64 and one.cpu_seconds > 0 for one in lines)
    assert engine.stats.preemptions > 0 and engine.stats.prompt_tokens_cached > 0
    assert not engine.step(), "nothing stays behind"


def test_a_page_that_is_not_given_back_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = small_engine()
    pool = engine._scheduler.pool
    release, calls = pool.release, itertools.count()
    monkeypatch.setattr(pool, "release", lambda pages: release(pages[1:] if next(calls) == 3 else pages))
    verdict = judged(small_soak(engine))
    assert verdict.pages_lost >= 1 and not verdict.sound


def test_memory_that_grows_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """16 MiB at every look: what other tests left would have to be freed as fast to hide it."""
    kept: list[bytes] = []

    def hoarding() -> int:
        kept.append(b"x" * (16 * MIB))
        return resident_bytes()

    monkeypatch.setattr("raison.bench.soak.resident_bytes", hoarding)
    verdict = judged(small_soak(small_engine()))
    assert verdict.grows and not verdict.sound and verdict.pages_lost == 0


def test_the_verdict_leaves_the_warm_up_out_and_takes_steady_memory_for_steady() -> None:
    grows_at_first = [line(i, 100 + min(i, 4) * 50) for i in range(1, 31)]
    assert judged(grows_at_first).growth.change == pytest.approx(0, abs=1)
    assert judged(grows_at_first).sound
    wavers = [line(i, 300 + (3 if i % 3 else -3)) for i in range(1, 31)]
    assert judged(wavers).sound
    leaks = [line(i, 300 + 0.5 * i) for i in range(1, 31)]
    assert judged(leaks).growth.change == pytest.approx(0.5 * 23 * MIB) and not judged(leaks).sound
    assert not judged([*grows_at_first[:-1], line(30, 300, lost=1)]).sound


def test_a_machine_that_slows_down_is_no_drift() -> None:
    lines = [line(i, 300, rate=1000 / (1 + i / 30), yardstick=0.01 * (1 + i / 30)) for i in range(1, 31)]
    assert max(map(abs, figures(lines, judged(lines))["drift"])) < 1e-3


def test_drift_is_a_change_of_tokens_per_cpu_second() -> None:
    lines = [line(i, 300, rate=1000 - 4 * i + (i % 2)) for i in range(1, 31)]
    value, low, high = figures(lines, judged(lines))["drift"]
    assert low < value < high < 0
    assert value == pytest.approx(-4 * 23 / 928, rel=0.05)


def test_a_trend_is_least_squares_with_students_interval() -> None:
    """By hand: slope 0.79, squared rest 0.051 over 3, standard error sqrt(0.051 / 3 / 10), t(0.975, 3) = 3.18245."""
    found = trend([0, 1, 2, 3, 4], [1.0, 2.0, 2.5, 3.5, 4.2])
    assert found.change == pytest.approx(4 * 0.79)
    assert found.high - found.change == pytest.approx(4 * 3.18245 * (0.051 / 30) ** 0.5, rel=0.01)
    assert found.change - found.low == pytest.approx(found.high - found.change)
    with pytest.raises(ValueError, match="needs three"):
        trend([0, 1], [1.0, 2.0])


def test_traffic_is_mixed_and_the_same_for_a_seed() -> None:
    one, same = (Traffic(TOKENIZER, QUESTIONS, 700, seed=3) for _ in range(2))
    requests = [one.draw() for _ in range(400)]
    assert requests == [same.draw() for _ in range(400)]
    assert {request.tenant for request in requests} == set(TENANTS)
    assert {request.samples for request in requests} == {1, 2, 4}
    lengths = [len(request.prompt_ids) for request in requests]
    assert min(lengths) < 40 and max(lengths) > 250
    assert all(len(r.prompt_ids) + r.params.max_tokens <= 700 for r in requests)
    grammars = {r.params.grammar for r in requests if r.params.grammar}
    # 400 draws at 5 %: fewer than 5 or more than 45 comes once in a million
    assert not grammars or (5 <= len(grammars) <= 45 and GRAMMARS == 0.05)


def test_the_command_says_its_verdict_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["bench", "soak", "--minutes", "0.02", "--every", "0.2", "--streams", "2", "--threads", "1", "--json"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["pages_lost"] == 0 and found["requests"] > 0 and len(found["lines"]) >= 3
    assert code == (0 if found["sound"] else 1)


def test_a_soak_too_short_for_a_verdict_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "soak", "--minutes", "1"]) == 2
    assert "raise --minutes" in capsys.readouterr().err
