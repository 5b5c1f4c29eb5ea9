"""Distillation: whom a student can learn from, what it is taught, and that nobody is asked twice."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from raison.config import DistillStage, EndpointSection, TaskSection, parse_recipe
from raison.errors import UserError
from raison.tasks.arithmetic import Arithmetic
from raison.tasks.countdown import Countdown
from raison.text.tokenizer import Tokenizer
from raison.train.data import Problems, demonstration
from raison.train.distill import Lessons
from raison.train.recipe import run_recipe
from raison.train.teacher import Asked, EndpointTeacher, Said
from tests.train.runs import Watcher, small, table
from tests.train.test_finetune import FOREIGN, base_of, recipe_of

OURS = Tokenizer.build()
STAGE = DistillStage(steps=2, teacher="sft", problems=6, samples=2, budget=8)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


class Schoolmaster:
    """Knows the task's own solutions; every second sample is wrong, and it dies where told to."""

    def __init__(self, task: Countdown | Arithmetic, dies_after: int | None = None) -> None:
        self.task, self.dies_after, self.asked = task, dies_after, Counter[str]()

    def answer(self, questions: Sequence[Asked]) -> Iterator[tuple[Asked, list[Said]]]:
        for number, asked in enumerate(questions):
            if number == self.dies_after:
                raise KeyboardInterrupt
            self.asked[asked.problem.id] += 1
            demo = self.task.demonstrate(asked.problem, asked.seed)
            yield asked, [Said(demo.thinking, demo.answer, True, 9), Said("hm", "no", True, 2)]


def lessons(path: Path, stage: DistillStage = STAGE, task: Countdown | Arithmetic | None = None) -> Lessons:
    problems = Problems(task or Countdown(), TaskSection(name="countdown", levels=(2,)))
    return Lessons(stage, problems, seed=0, path=path, note=lambda text: None)


def test_right_answers_are_taught_and_wrong_ones_are_not(tmp_path: Path) -> None:
    taught, task = lessons(tmp_path / "a.jsonl"), Countdown()
    assert taught.fetch(Schoolmaster(task)) == 6 * 11
    wanted = []
    for asked in lessons(tmp_path / "none.jsonl").missing:
        wanted.append(demonstration(OURS, asked.problem, task.demonstrate(asked.problem, asked.seed)))
    assert taught.examples(OURS) == wanted


def test_a_killed_teacher_is_asked_for_the_rest_alone(tmp_path: Path) -> None:
    path, task = tmp_path / "a.jsonl", Countdown()
    first, second = Schoolmaster(task, dies_after=4), Schoolmaster(task)
    with pytest.raises(KeyboardInterrupt):
        lessons(path).fetch(first)
    path.write_bytes(path.read_bytes() + b'{"problem": "torn')
    rest = lessons(path)
    rest.fetch(second)
    assert (len(first.asked), len(second.asked)) == (4, 2) and not set(first.asked) & set(second.asked)
    assert not lessons(path).missing
    whole = lessons(tmp_path / "b.jsonl")
    whole.fetch(Schoolmaster(task))
    assert rest.examples(OURS) == whole.examples(OURS)


def test_a_file_of_other_answers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lessons(path).fetch(Schoolmaster(Countdown()))
    with pytest.raises(UserError, match=r"answers to other questions.*name another file"):
        lessons(path, DistillStage(steps=2, teacher="sft", problems=6, samples=2, budget=9))
    path.write_bytes(path.read_bytes() + b'{"problem": 3}\n')
    with pytest.raises(UserError, match="line 8 is no teacher's answer"):
        lessons(path)


def test_work_is_shown_to_a_student_that_does_not_think_where_the_checker_takes_it(tmp_path: Path) -> None:
    class Marks(Schoolmaster):
        def answer(self, questions: Sequence[Asked]) -> Iterator[tuple[Asked, list[Said]]]:
            for asked, (said, _) in super().answer(questions):
                yield asked, [Said(said.thinking, f"#### {said.answer}", True, 1)]

    def shown(task: Countdown | Arithmetic, teacher: Schoolmaster) -> str:
        taught = lessons(tmp_path / f"{task.name}.jsonl", task=task)
        taught.fetch(teacher)
        return FOREIGN.decode(taught.examples(FOREIGN)[0].ids)

    assert "write" in shown(Arithmetic(), Marks(Arithmetic()))
    text = shown(Countdown(), Schoolmaster(Countdown()))
    assert text.count("\n") <= 2  # the answer without its work, which Countdown's checker would refuse


def test_a_stage_teaches_a_smaller_model_with_another_shape(tmp_path: Path) -> None:
    student = {**table()["model"], "num_hidden_layers": 1}
    distill = {
        "kind": "distill", "teacher": "sft", "student": student, "steps": 6, "batch_tokens": 256, "pretrain_steps": 2,
        "problems": 8, "samples": 2, "budget": 8,
    }  # fmt: skip
    recipe = small(stage=[*table()["stage"][:2], distill])
    path = tmp_path / "run/stages/distill/answers.jsonl"
    problems = Problems(Countdown(), recipe.task)
    Lessons(recipe.stage("distill"), problems, 0, path, print).fetch(Schoolmaster(Countdown()))  # type: ignore[arg-type]
    watcher = Watcher()
    run_recipe(recipe, tmp_path / "run", watch=watcher)
    losses = [s.figures["loss"] for s in watcher.steps if s.stage == "distill"]
    assert len(losses) == 6 and losses[-1] < losses[0]


def test_random_teachers_are_never_right_and_the_run_says_so(tmp_path: Path) -> None:
    base = base_of(tmp_path, FOREIGN)
    stages = [
        {"kind": "distill", "teacher": {"model": str(base)}, "steps": 2, "problems": 4, "samples": 2, "budget": 4}
    ]
    with pytest.raises(UserError, match="none of the teacher's answers was right"):
        run_recipe(recipe_of(tmp_path, stage=stages), tmp_path / "run", watch=Watcher())
    rows = (tmp_path / "run/stages/distill/answers.jsonl").read_text().split("\n")
    assert json.loads(rows[0])["teacher"] == str(base) and len(json.loads(rows[1])["samples"]) == 2


class Fake(BaseHTTPRequestHandler):
    """An endpoint that fails every first try of a question, knows arithmetic, and counts who is there at once."""

    seen: Counter[str]
    keys: set[str | None]
    lock: threading.Lock
    most: int
    now: int
    broken: int

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question, key = body["messages"][-1]["content"], f"{body['messages'][-1]['content']}/{body['seed']}"
        kind = type(self)
        with kind.lock:
            kind.seen[key] += 1
            kind.keys.add(self.headers.get("Authorization"))
            kind.now += 1
            kind.most = max(kind.most, kind.now)
            first = kind.seen[key] == 1
        try:
            if kind.broken:
                self._send(kind.broken, {"error": {"message": "no such model"}})
            elif first:
                self._send(429 if body["seed"] % 2 else 503, {"error": {"message": "busy"}})
            else:
                self._send(200, self._answer(question, body["seed"]))
        finally:
            with kind.lock:
                kind.now -= 1

    def _answer(self, question: str, seed: int) -> dict[str, Any]:
        gold = Arithmetic().parse(question).gold
        forms = [{"reasoning_content": "I see", "content": gold}, {"content": f"<think>\nI see\n</think>\n\n{gold}"}]
        choice = {"index": 0, "message": {"role": "assistant", **forms[seed % 2]}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
        return {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}

    def _send(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Retry-After-Ms", "20")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[tuple[str, type[Fake]]]:
    pytest.importorskip("openai", reason="the extra endpoint is not installed")
    fields = {"seen": Counter(), "keys": set(), "lock": threading.Lock(), "most": 0, "now": 0, "broken": 0}
    handler = type("Handler", (Fake,), fields)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1", handler
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_endpoint_teaches_with_retries_and_several_at_once(
    endpoint: tuple[str, type[Fake]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, fake = endpoint
    monkeypatch.setenv("TEACHER_KEY", "sk-secret")
    section = EndpointSection(url=url, model="m", key_env="TEACHER_KEY", concurrency=4)
    taught = lessons(tmp_path / "a.jsonl", task=Arithmetic())
    assert taught.fetch(EndpointTeacher(section, STAGE)) == 6 * 2 * 7
    assert set(fake.seen.values()) == {2} and len(fake.seen) == 12  # each sample failed once and was asked once more
    assert fake.keys == {"Bearer sk-secret"} and 1 < fake.most <= 4
    assert len(taught.examples(OURS)) == 12
    assert "sk-secret" not in (tmp_path / "a.jsonl").read_text()
    samples = json.loads((tmp_path / "a.jsonl").read_text().split("\n")[1])["samples"]
    assert {s["thinking"] for s in samples} == {"I see"} and all(s["correct"] for s in samples)


def test_a_whole_run_learns_from_an_endpoint_by_adapters(endpoint: tuple[str, type[Fake]], tmp_path: Path) -> None:
    base_of(tmp_path, FOREIGN)
    distill = {
        "kind": "distill", "teacher": {"url": endpoint[0], "model": "m"}, "steps": 3, "batch_tokens": 128,
        "problems": 8, "samples": 1, "budget": 8, "optimizer": {"kind": "adamw", "lr": 0.01, "warmup": 0},
    }  # fmt: skip
    watcher = Watcher()
    task = {"name": "arithmetic", "levels": [1]}
    evaluation = {"problems": 4, "level": 1, "budgets": [8], "votes": [1]}
    run_recipe(recipe_of(tmp_path, stage=[distill], task=task, evaluation=evaluation), tmp_path / "run", watch=watcher)
    losses = [s.figures["loss"] for s in watcher.steps]
    assert losses[-1] < losses[0]
    assert (tmp_path / "run/adapter/adapter_config.json").exists()


@pytest.mark.parametrize(
    ("broken", "message"), [(401, "the key is refused"), (404, "it answers 404"), (500, "it answers 500")]
)
def test_an_endpoint_that_refuses_is_named(
    broken: int, message: str, endpoint: tuple[str, type[Fake]], tmp_path: Path
) -> None:
    url, fake = endpoint
    fake.broken = broken
    section = EndpointSection(url=url, model="m", retries=1)
    with pytest.raises(UserError, match=message):
        lessons(tmp_path / "a.jsonl", task=Arithmetic()).fetch(EndpointTeacher(section, STAGE))


def test_nobody_is_there(tmp_path: Path) -> None:
    pytest.importorskip("openai", reason="the extra endpoint is not installed")
    section = EndpointSection(url="http://127.0.0.1:9/v1", model="m", retries=0)
    with pytest.raises(UserError, match=r"127\.0\.0\.1:9.*is it running"):
        lessons(tmp_path / "a.jsonl").fetch(EndpointTeacher(section, STAGE))


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ({"url": "ftp://x", "model": "m"}, "starts with http"),
        ({"url": "http://x", "modl": "m"}, 'did you mean "model"'),
        ("elsewhere", r'no earlier stage.*model = "elsewhere"'),
    ],
)
def test_bad_teachers(teacher: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_recipe({**table(), "stage": [*table()["stage"], {"kind": "distill", "teacher": teacher, "steps": 1}]})
