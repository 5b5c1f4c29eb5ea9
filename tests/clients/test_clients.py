"""Other people's clients, unmodified, against `raison serve`. Each is skipped where it is not installed."""

from __future__ import annotations

import http.server
import json
import os
import re
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

import raison
from raison.engine.sequence import SamplingParams
from raison.serve.asking import thinking_limit
from raison.tasks.catalog import load_task
from raison.text.chat import prompt_ids
from raison.think.measure import held_out_problems
from tests.clients.conftest import SHIPPED, client, python_with, run

HERE = Path(__file__).parent
MODEL = "countdown-r1"
PROBLEMS = 60
LIMIT = 512


def test_schemathesis_finds_no_5xx(server: str) -> None:
    """More of each operation: SCHEMATHESIS_CASES=1000. Its warnings, of names that nobody has, are no failures."""
    cases = os.environ.get("SCHEMATHESIS_CASES", "100")
    command = [client("schemathesis"), "run", f"{server}/openapi.json", "--checks", "not_a_server_error"]
    said = run([*command, "--max-examples", cases, "--seed", "1", "--warnings", "off"], seconds=3600)
    assert "No issues found" in said, said[-3000:]
    assert re.search(r"(\d+) generated, \1 passed\n", said), said[-3000:]


def test_lm_eval_finds_our_own_score(server: str, tmp_path: Path) -> None:
    """Greedy answers to the same problems, judged by the same checker: the same score, to the last problem."""
    program = client("lm_eval")
    task = load_task("countdown", held_out=True)
    problems = held_out_problems(task, 3, PROBLEMS, seed=0)
    rows = [json.dumps({"prompt": problem.prompt, "meta": dict(problem.meta)}) for problem in problems]
    (tmp_path / "problems.jsonl").write_text("\n".join(rows) + "\n")
    (tmp_path / "countdown.yaml").write_text(
        (HERE / "countdown.yaml").read_text().replace("PROBLEMS", str(tmp_path / "problems.jsonl"))
    )
    (tmp_path / "judge.py").write_text((HERE / "judge.py").read_text())
    where = f"base_url={server}/v1/chat/completions,model={MODEL},num_concurrent=8,max_gen_toks={LIMIT}"
    run([
        program, "run", "--model", "local-chat-completions", "--model_args", where, "--tasks", "raison_countdown",
        "--include_path", str(tmp_path), "--apply_chat_template", "--output_path", str(tmp_path / "out"),
    ])  # fmt: skip
    (report,) = (tmp_path / "out").rglob("results_*.json")
    theirs = json.loads(report.read_text())["results"]["raison_countdown"]["acc,none"]
    reasoner = raison.load()
    budget = thinking_limit(LIMIT, None)
    params = SamplingParams(temperature=0, max_tokens=LIMIT, answer_tokens=LIMIT, thinking_budget=budget)
    prompts = [prompt_ids(reasoner.tokenizer, problem.prompt) for problem in problems]
    answers = [samples[0].answer for samples in reasoner.engine.generate(prompts, params)]
    ours = [task.check(problem, answer).correct for problem, answer in zip(problems, answers, strict=True)]
    assert theirs == pytest.approx(sum(ours) / PROBLEMS)
    assert theirs > 0.3


@pytest.fixture
def book(tmp_path: Path) -> Iterator[str]:
    """A text over HTTP, from which llama-benchy cuts its prompts."""
    (tmp_path / "book.txt").write_text(" ".join(f"Make {n} from {n % 9 + 1}, {n % 7 + 2}, 25." for n in range(20_000)))
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as one:
        threading.Thread(target=one.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{one.server_address[1]}/book.txt"
        one.shutdown()


def test_llama_benchy_measures(server: str, book: str) -> None:
    said = run([
        client("llama-benchy"), "--base-url", f"{server}/v1", "--model", MODEL, "--tokenizer", str(SHIPPED),
        "--book-url", book, "--pp", "64", "--tg", "32", "--runs", "2", "--latency-mode", "none", "--skip-coherence",
    ])  # fmt: skip
    rates = [float(rate) for rate in re.findall(r"tg32[^|]*\|\s*([\d.]+)", said)]
    assert rates and all(rate > 0 for rate in rates), said


def test_guidellm_measures(server: str, tmp_path: Path) -> None:
    program = client("guidellm")
    run([
        program, "benchmark", "--target", server, "--model", MODEL, "--processor", str(SHIPPED),
        "--profile", "concurrent", "--rate", "4", "--max-requests", "12", "--data", "prompt_tokens=32,output_tokens=32",
        "--output-dir", str(tmp_path), "--outputs", "json",
    ])  # fmt: skip
    (report,) = tmp_path.rglob("*.json")
    found = json.loads(report.read_text())["benchmarks"][0]["metrics"]["request_totals"]
    assert found["successful"] == 12


LANGCHAIN = """
from langchain_openai import ChatOpenAI
model = ChatOpenAI(model="countdown-r1", base_url=URL + "/v1", api_key="none", temperature=0, max_tokens=400)
whole = model.invoke("Make 46 from 3, 7, 25")
assert whole.content and whole.usage_metadata["output_token_details"]["reasoning"] > 0, whole
assert "".join(piece.content for piece in model.stream("Make 46 from 3, 7, 25")) == whole.content
"""
LITELLM = """
import litellm
ask = dict(model="openai/countdown-r1", api_base=URL + "/v1", api_key="none", temperature=0, max_tokens=400,
           messages=[{"role": "user", "content": "Make 46 from 3, 7, 25"}])
whole = litellm.completion(**ask).choices[0].message
assert whole.content and whole.reasoning_content, whole
deltas = [chunk.choices[0].delta for chunk in litellm.completion(**ask, stream=True) if chunk.choices]
assert "".join(delta.content or "" for delta in deltas) == whole.content
assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == whole.reasoning_content
"""


@pytest.mark.parametrize(("package", "code"), [("langchain_openai", LANGCHAIN), ("litellm", LITELLM)])
def test_libraries(package: str, code: str, server: str) -> None:
    run([python_with(package), "-c", f"URL = {server!r}\n{code}"], LITELLM_LOCAL_MODEL_COST_MAP="True")
