"""best-of-n and weighted votes over HTTP: a checker by its name, off the engine's thread and within its time."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from raison.cli import main
from raison.errors import UserError
from raison.serve.checkers import Checkers, Posed
from raison.tasks.sandbox import Limits
from tests.serve.serving import PATIENCE_SECONDS, Served, eventually, serving

GRADE = """
import os, time
def long(problem, answer):
    return len(answer) >= problem.meta["least"]
def slow(problem, answer):
    time.sleep(60)
def gated(problem, answer):
    open(problem.meta["begun"], "w").close()
    while not os.path.exists(problem.meta["gate"]):
        time.sleep(0.01)
def broken(problem, answer):
    raise RuntimeError("it never works")
"""


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("judged")
    (folder / "grade.py").write_text(GRADE)
    targets = [f"{folder / 'grade.py'}:{name}" for name in ("long", "slow", "broken")]
    with serving(folder, checkers=Checkers(targets, Limits(seconds=0.3))) as one:
        yield one
        one.quiet()


def message(body: dict[str, Any]) -> dict[str, Any]:
    found = body["choices"][0]["message"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("vote", ["best-of-n", "weighted"])
def test_the_one_sample_that_the_operators_checker_accepts_is_the_answer(vote: str, judged: Served) -> None:
    eight = [choice["message"] for choice in judged.ask(seed=5, max_tokens=40, n=8)["choices"]]
    lengths = [len(one["content"]) for one in eight]
    assert lengths.count(max(lengths)) == 1 and lengths[0] < max(lengths), "choose another seed"
    posed = {"checker": "long", "problem": {"meta": {"least": max(lengths)}}}
    wish = {"vote": vote, "max_samples": 8, "width": 2, **posed}
    body = judged.ask(seed=5, max_tokens=40, strategy=wish)
    assert message(body) == eight[lengths.index(max(lengths))]


def test_the_sample_that_has_the_gold_answer_ends_the_search(judged: Served) -> None:
    four = judged.ask(seed=9, max_tokens=30, n=4)["choices"]
    gold = four[2]["message"]["content"]
    wish = {"vote": "best-of-n", "max_samples": 16, "width": 1, "checker": "exact", "problem": {"gold": gold}}
    body = judged.ask(seed=9, max_tokens=30, strategy=wish)
    assert message(body) == four[2]["message"]
    assert [branch["branch"] for branch in body["usage"]["raison"]["branches"]] == [0, 1, 2]


def test_the_last_message_is_the_problem_where_none_is_given(judged: Served) -> None:
    wish = {"vote": "weighted", "max_samples": 3, "checker": "countdown"}
    events = judged.events(max_tokens=30, strategy=wish)
    tally = [event["raison"] for event in events if event.get("raison", {}).get("event") == "tally"][-1]
    assert tally["why"] == "all 3 samples scored"
    assert {one["weight"] for one in tally["classes"]} == {0.0}, "a random model solves nothing"


@pytest.mark.parametrize("name", ["slow", "broken"])
def test_a_checker_that_fails_or_takes_too_long_is_no_praise(name: str, judged: Served) -> None:
    wish = {"vote": "best-of-n", "max_samples": 3, "width": 3, "checker": name}
    vote = judged.ask(seed=1, max_tokens=20, strategy=wish)
    assert message(vote) == message(judged.ask(seed=1, max_tokens=20)), "all score 0: the first is taken"


@pytest.fixture
def gate(tmp_path: Path) -> dict[str, Path]:
    """A checker `gated` makes the file `begun`, and comes to its end when there is a file `gate`."""
    (tmp_path / "grade.py").write_text(GRADE)
    return {name: tmp_path / name for name in ("begun", "gate")}


def gated(gate: dict[str, Path], **settings: Any) -> Any:
    home = gate["gate"].parent
    return serving(
        home, checkers=Checkers([f"{home / 'grade.py'}:gated"], Limits(seconds=PATIENCE_SECONDS)), **settings
    )


def wish_of(gate: dict[str, Path]) -> dict[str, Any]:
    meta = {name: str(path) for name, path in gate.items()}
    return {"vote": "best-of-n", "checker": "gated", "max_samples": 3, "problem": {"meta": meta}}


def test_a_checker_at_work_holds_nobody(gate: dict[str, Path]) -> None:
    with gated(gate) as served, ThreadPoolExecutor(1) as pool:
        vote = pool.submit(served.ask, max_tokens=20, strategy=wish_of(gate))
        eventually(gate["begun"].exists)
        for _ in range(5):
            served.ask(max_tokens=2)
        assert not vote.done()
        gate["gate"].touch()
        assert vote.result(PATIENCE_SECONDS)["choices"]


def test_a_deadline_does_not_wait_for_a_checker(gate: dict[str, Path]) -> None:
    with gated(gate, deadline_seconds=0.5) as served:
        served.ask(max_tokens=2, strategy=wish_of(gate), expect=504)
        gate["gate"].touch()
        served.quiet()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({}, "strategy.checker"),
        ({"checker": "countdwon"}, 'did you mean "countdown"'),
        ({"checker": 3}, "strategy.checker"),
        ({"checker": "grade.py:long"}, "strategy.checker"),
        ({"checker": "/etc/passwd"}, "strategy.checker"),
        ({"checker": "number"}, "strategy.problem.gold"),
        ({"checker": "number", "problem": {"gold": "many"}}, "strategy.problem.gold"),
        ({"checker": "exact", "problem": {"gold": " "}}, "strategy.problem.gold"),
        ({"checker": "exact", "problem": {"gold": 46}}, "strategy.problem.gold"),
        ({"checker": "exact", "problem": "46"}, "strategy.problem"),
        ({"checker": "exact", "problem": {"answer": "46"}}, "strategy.problem.answer"),
        ({"checker": "countdown", "problem": {"prompt": "1 1 -> 99"}}, "strategy.problem.prompt"),
        ({"checker": "arithmetic"}, "strategy.problem.prompt"),
        ({"checker": "countdown", "max_samples": 65}, "max_samples"),
        ({"checker": "countdown", "warmup": 3}, "warmup"),
        ({"vote": "auto", "checker": "countdown"}, "strategy.checker"),
    ],
)
def test_a_checker_or_a_problem_that_makes_no_sense_is_a_mistake(
    more: dict[str, Any], says: str, judged: Served
) -> None:
    assert says in judged.ask(strategy={"vote": "best-of-n", **more}, expect=400)["error"]["message"]


def test_the_models_list_names_the_checkers(judged: Served) -> None:
    (about,) = judged.client.get("/v1/models").json()["data"]
    names = ["arithmetic", "broken", "countdown", "exact", "gsm8k", "long", "number", "slow", "svamp"]
    assert about["raison"]["checkers"] == names


def test_a_checker_that_cannot_be_used_ends_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAISON_HOME", str(tmp_path))
    (tmp_path / "grade.py").write_text("def exact(problem, answer):\n    return True\n")
    for target, says in ((f"{tmp_path / 'grade.py'}:exact", "already"), (f"{tmp_path / 'no.py'}:check", "no file")):
        with pytest.raises(UserError, match=says):
            Checkers([target])
        assert main(["serve", "--checker", target]) == 2
        assert says in capsys.readouterr().err


def test_gold_answers_meet_their_checkers() -> None:
    checkers = Checkers()
    for name, answer in (("number", "46.0"), ("exact", " 46"), ("gsm8k", "so it is\n#### 46"), ("svamp", "#### 46")):
        check = checkers.of(name, Posed(prompt="", gold="46"))
        assert check(answer).correct and not check("45").correct, name
    assert checkers.of("arithmetic", Posed(prompt="40 + 6"))("46").correct
