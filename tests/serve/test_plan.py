"""The planner's API: the planner's own figures, words where there are none, 4xx that name the field, never a path."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'raison[serve]'")

from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from raison import hardware
from raison.hardware import Machine
from raison.plan.answer import answer
from raison.plan.chips import find_chip
from raison.plan.models import find_model
from raison.plan.question import Question
from raison.plan.training_plan import TrainingAsk, plan_training
from raison.serve import plan, refused
from raison.serve.mistake import Mistake

R1 = {"model": "DeepSeek-R1", "chip": "H200 SXM"}
HERE = Machine("a processor", 2, (), 25.0, 2, "2.13.0", 180.0, 90.0, 13.0)


@pytest.fixture(scope="module")
def client() -> TestClient:
    app = FastAPI()
    refused.install(app)
    app.include_router(plan.router)
    return TestClient(app)


def ask(client: TestClient, kind: str, **asked: Any) -> dict[str, Any]:
    reply = client.post(f"/v1/raison/plan/{kind}", json={**R1, **asked})
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def error(client: TestClient, kind: str, **asked: Any) -> dict[str, Any]:
    reply = client.post(f"/v1/raison/plan/{kind}", json={**R1, **asked})
    assert reply.status_code == 400, reply.text
    found: dict[str, Any] = reply.json()["error"]
    return found


def test_serving_figures_are_the_planner_s(client: TestClient) -> None:
    said = ask(client, "serve", chips=16, streams=100, input=2000, output=500, usd_per_hour=2.0)
    question = Question(find_model("DeepSeek-R1"), find_chip("H200"), 2000, 500, 100, chips=16, usd_per_hour=2.0)
    speeds = answer(question).speeds
    assert speeds is not None and speeds.money is not None
    for name, interval in (
        ("user", speeds.user),
        ("rack", speeds.rack),
        ("ttft", speeds.ttft),
        ("usd", speeds.money.output),
    ):
        assert said["figures"][name] == {"low": interval.low, "mid": interval.mid, "high": interval.high}
    assert said["verdict"] == "feasible" and said["words"] == [] and said["assumptions"]


def test_training_figures_are_the_planner_s(client: TestClient) -> None:
    said = ask(client, "train", chip="H800 SXM", chips=2048, tokens=14.8e12, precision="fp8")
    chip = find_chip("H800")
    bill = plan_training(TrainingAsk(find_model("DeepSeek-R1"), chip, 2048, 14.8e12, precision="fp8")).bill
    assert said["figures"]["chip_hours"]["mid"] == bill.chip_hours.mid
    assert said["figures"]["kwh"] is None, "no source gives its power"
    assert sum(part["value"] for part in said["memory"]["parts"]) == pytest.approx(80e9)


@pytest.mark.parametrize(
    ("kind", "at", "curve"), [("serve", "streams", [1, 64, 256]), ("train", "tokens", [1e10, 1e12])]
)
def test_a_curve_passes_through_the_plan(client: TestClient, kind: str, at: str, curve: list[float]) -> None:
    said = ask(client, kind, curve=curve, **{at: curve[1]})
    assert [point["at"] for point in said["curve"]] == curve
    assert said["curve"][1]["figures"] == said["figures"]


def test_the_parts_of_a_chip_s_memory_make_it_up_and_those_of_a_step_its_time(client: TestClient) -> None:
    said = ask(client, "serve")
    assert sum(part["value"] for part in said["memory"]["parts"]) == pytest.approx(said["memory"]["total"])
    assert sum(part["value"] for part in said["bound"]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("kind", "asked", "verdict", "words"),
    [
        ("serve", {"chips": 1}, "infeasible", "DeepSeek-R1 does not fit"),
        ("serve", {"streams": 5000}, "saturated", "5000 streams do not fit"),
        ("train", {"chips": 1}, "infeasible", "DeepSeek-R1 cannot be trained on 1 x H200 SXM"),
    ],
)
def test_what_cannot_be_is_said_in_words(
    client: TestClient, kind: str, asked: dict[str, Any], verdict: str, words: str
) -> None:
    said = ask(client, kind, **asked)
    assert (said["verdict"], said["figures"], said["curve"]) == (verdict, None, [])
    assert said["words"][0].startswith(words)


def test_a_saturated_plan_shows_what_it_lacks(client: TestClient) -> None:
    memory = ask(client, "serve", streams=5000)["memory"]
    assert sum(part["value"] for part in memory["parts"]) > memory["total"]


def test_everything_that_is_offered_can_be_planned(client: TestClient) -> None:
    offered = client.get("/v1/raison/plan/choices").json()
    assert len(offered["chips"]) > 40 and all(chip["source"] for chip in offered["chips"])
    assert len(offered["models"]) > 30 and all(model["source"] for model in offered["models"])
    priced = [chip for chip in offered["chips"] if chip["usd_per_hour"]]
    assert priced and all("20" in chip["price_note"] for chip in priced), "every price has its date"
    for chip in offered["chips"]:
        said = ask(client, "serve", model="Llama-3.2-1B", chip=chip["name"], chips=1, streams=1)
        assert said["chip"] == chip["name"]
        ask(client, "train", model="Llama-3.2-1B", chip=chip["name"], chips=8)
    for model in offered["models"]:
        assert ask(client, "serve", model=model["name"], chips=64, streams=1)["verdict"] == "feasible"


@pytest.mark.parametrize("kind", ["serve", "train"])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "no such model"), ("model", 7), ("model", "0/0"), ("model", "7e9/70e9"), ("model", "1e99"),
        ("chip", "H9000"), ("chip", "x" * 201), ("chips", 0), ("chips", 1.5), ("chips", 10**9), ("usd_per_hour", 0),
        ("usd_per_hour", -1), ("precision", "fp7"), ("curve", [1e6] * 25), ("unheard_of", 1),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_field(client: TestClient, kind: str, field: str, value: Any) -> None:
    told = error(client, kind, **{field: value})
    assert told["param"].split(".")[0] == field and told["type"] == "invalid_request_error"
    assert told["message"]


@pytest.mark.parametrize("field", ["streams", "input", "output"])
def test_amounts_of_serving_have_limits(client: TestClient, field: str) -> None:
    assert [error(client, "serve", **{field: value})["param"] for value in (0, 10**7, "many")] == [field] * 3


@pytest.mark.parametrize("field", ["tokens", "sequence"])
def test_amounts_of_training_have_limits(client: TestClient, field: str) -> None:
    assert [error(client, "train", **{field: value})["param"] for value in (0, 1e20, "many")] == [field] * 3


def test_a_model_is_never_a_path(client: TestClient, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"vocab_size": 100, "hidden_size": 64, "num_hidden_layers": 2}')
    for name in (str(config), str(tmp_path), "../config.json", "."):
        told = error(client, "serve", model=name)
        assert told["param"] == "model" and told["message"].startswith(f'there is no model "{name}"')


def test_this_machine_is_offered_where_it_has_been_measured(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "probed", lambda: None)
    assert client.get("/v1/raison/plan/choices").json()["chips"][0]["name"] != plan.THIS
    assert error(client, "serve", chip=plan.THIS)["param"] == "chip"
    monkeypatch.setattr(hardware, "probed", lambda: HERE)
    monkeypatch.setattr(hardware, "measure", lambda threads: pytest.fail("measured while requests are served"))
    assert client.get("/v1/raison/plan/choices").json()["chips"][0]["bandwidth_gbps"] == 13.0
    said = ask(client, "serve", model="SmolLM2-135M", chip=plan.THIS, chips=1, streams=1)
    slower = replace(HERE, read_gb_per_second=6.5)
    monkeypatch.setattr(hardware, "probed", lambda: slower)
    again = ask(client, "serve", model="SmolLM2-135M", chip=plan.THIS, chips=1, streams=1)
    assert again["figures"]["user"]["mid"] < said["figures"]["user"]["mid"]


class Asker:
    """As much of a request as waiting one's turn needs."""

    def __init__(self, app: FastAPI, gone: bool) -> None:
        self.app, self._gone = app, gone

    async def is_disconnected(self) -> bool:
        return self._gone


def test_nothing_is_computed_for_those_who_have_gone() -> None:
    found: list[int] = []

    async def ask_both() -> None:
        app = FastAPI()
        await plan._in_turn(Asker(app, gone=False), lambda: found.append(1))  # type: ignore[arg-type]
        with pytest.raises(Mistake):
            await plan._in_turn(Asker(app, gone=True), lambda: found.append(2))  # type: ignore[arg-type]

    asyncio.run(ask_both())
    assert found == [1]


def test_one_question_is_computed_at_a_time() -> None:
    at_once: list[int] = []
    under_way: list[int] = []

    def find() -> None:
        under_way.append(1)
        at_once.append(len(under_way))
        under_way.pop()

    async def ask_many() -> None:
        app = FastAPI()
        await asyncio.gather(*(plan._in_turn(Asker(app, False), find) for _ in range(20)))  # type: ignore[arg-type]

    asyncio.run(ask_many())
    assert at_once == [1] * 20


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 10**7), st.floats(), st.text(max_size=20),
    st.lists(st.floats(1, 1e15), max_size=5), st.sampled_from(["this", "8xH200", "1e9", "1.2.3", "\ud800", "70b", "٣"]),
)  # fmt: skip
FIELDS = (
    "model",
    "chip",
    "chips",
    "precision",
    "usd_per_hour",
    "streams",
    "input",
    "output",
    "tokens",
    "sequence",
    "curve",
)


@settings(max_examples=150, deadline=None, database=None)
@given(kind=st.sampled_from(["serve", "train"]), odd=st.dictionaries(st.sampled_from(FIELDS), ODD, max_size=3))
def test_no_question_makes_the_server_fail(client: TestClient, kind: str, odd: dict[str, Any]) -> None:
    body = json.dumps({**R1, **odd})  # NaN and lone surrogates as they are: what a careless client sends
    reply = client.post(f"/v1/raison/plan/{kind}", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code in (200, 400), reply.text
