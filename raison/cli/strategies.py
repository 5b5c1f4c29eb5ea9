"""`raison think --strategy ...`: branches and the tally before the reader's eyes. Exit code 1 if judged wrong, else 0.

A prompt that the model's task can read is judged by its checker at the end; best-of-n and weighted use the checker, the
votes never do. Other prompts are asked as they stand and not judged; their answers are compared by math-verify too,
where it is installed. Not covered: how strategies decide (think/).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from argparse import Namespace
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from raison.cli.loading import load_reasoner
from raison.cli.output import console_for, emit_json, visible
from raison.cli.session import INDENT, Asking, fresh_seed, parsing, prepare
from raison.config import EndpointSection
from raison.engine.sequence import SamplingParams
from raison.errors import UserError
from raison.records import Completion, Problem, Verdict
from raison.tasks.catalog import load_task
from raison.tasks.task import Task
from raison.text.chat import prompt_ids
from raison.think.drive import Heard, drive
from raison.think.endpoint_sampler import EndpointSampler, Request
from raison.think.engine_sampler import EngineSampler
from raison.think.equivalence import SameForm
from raison.think.math_equivalence import MathVerify, installed
from raison.think.parse import VOTES, Context, parse_strategy
from raison.think.search import Search
from raison.think.strategy import Outcome, Strategy, Tally, tokens_of

Values = dict[str, Any]
TOP_LOGPROBS = 5
"""What confidence asks of an endpoint; OpenAI allows 20 at most, others fewer."""
THOUGHT = 80
"""Characters that are shown of a branch under way."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One prompt ready to be thought about; `task` is None where nothing can judge the answer."""

    problem: Problem
    task: Task | None
    sampler: EngineSampler | EndpointSampler
    max_tokens: int

    def verdict(self, completion: Completion | None) -> Verdict | None:
        if self.task is None or completion is None:
            return None
        return self.task.check(self.problem, completion.answer)


def command(arguments: Namespace) -> int:
    wish = wished(arguments)
    seed = fresh_seed(arguments.seed)
    Asking(arguments.budget, 1, arguments.temperature, seed, arguments.min_thinking)  # its bounds hold here, too
    prepare(arguments.threads)
    console = console_for(arguments)
    asked = _asked(arguments, console, seed)
    strategy = parse_strategy(wish, context_of(asked))
    start = time.perf_counter()
    show = _Show(console, strategy)
    outcome = asyncio.run(_run(strategy, asked.sampler, show))
    seconds = time.perf_counter() - start
    verdict = asked.verdict(outcome.completion)
    _end(console, outcome, verdict, seconds)
    if arguments.seed is None:
        console.print(f"{INDENT}[dim]seed {seed}[/dim]")
    if arguments.json:
        emit_json(as_json(asked, wish, outcome, verdict, seconds, seed))
    return 0 if verdict is None or verdict.correct else 1


async def _run(strategy: Strategy, sampler: EngineSampler | EndpointSampler, show: _Show) -> Outcome:
    with show.live if show.on_terminal else contextlib.nullcontext():
        async with sampler if isinstance(sampler, EndpointSampler) else contextlib.nullcontext():
            return await drive(strategy, sampler, show.heard)


def wished(arguments: Namespace) -> Values:
    """The strategy as a request would say it. Raises UserError for a setting that is no NAME=NUMBER."""
    found: Values = {"vote": arguments.strategy or "auto"}
    way = VOTES.get(found["vote"])
    if arguments.samples is not None:
        found[way.count if way else "max_samples"] = arguments.samples
    for setting in arguments.set:
        name, _, value = setting.partition("=")
        try:
            found[name] = json.loads(value)
        except ValueError:
            raise UserError(f"--set {setting}: write NAME=NUMBER, such as price=8") from None
    return found


def context_of(asked: Asked) -> Context:
    """What a strategy may use here: the checker, where there is one."""
    if asked.task is None:
        return Context(asked.max_tokens, same=MathVerify() if installed() else SameForm())

    def score(completion: Completion) -> float:
        verdict = asked.verdict(completion)
        return verdict.reward if verdict is not None else 0.0

    return Context(asked.max_tokens, score=score, checker=True)


def _asked(arguments: Namespace, console: Console, seed: int) -> Asked:
    if arguments.endpoint:
        return _asked_of_endpoint(arguments, seed)
    reasoner = load_reasoner(console, arguments.model, arguments.device, arguments.draft)
    problem, task = judged_problem(reasoner.provenance.get("task"), arguments.problem)
    budget = reasoner.budget_of(arguments.effort) if arguments.effort else arguments.budget
    ids = prompt_ids(reasoner.tokenizer, problem.prompt)
    params = SamplingParams(
        temperature=arguments.temperature,
        seed=seed,
        min_thinking=arguments.min_thinking,
        **reasoner.limits(ids, budget),
    )
    return Asked(problem, task, EngineSampler(reasoner.engine, ids, params), params.max_tokens)


def _asked_of_endpoint(arguments: Namespace, seed: int) -> Asked:
    """The prompt for a model that somebody else serves; --budget bounds its thinking and its answer together."""
    if not arguments.model:
        raise UserError("--endpoint needs --model, the name by which the endpoint knows its model")
    section = EndpointSection(url=arguments.endpoint, model=arguments.model, key_env=arguments.key_env)
    effort = {"reasoning_effort": arguments.effort} if arguments.effort else {}
    problem, task = judged_problem(arguments.task, arguments.problem)
    request = Request(({"role": "user", "content": problem.prompt},), arguments.budget, arguments.temperature, seed,
                      TOP_LOGPROBS if arguments.strategy == "confidence" else 0, effort)  # fmt: skip
    return Asked(problem, task, EndpointSampler(section, request), arguments.budget)


def judged_problem(name: object, text: str) -> tuple[Problem, Task | None]:
    """The problem that the task of that name reads in `text`, or the text itself where there is none."""
    if not isinstance(name, str):
        return Problem("", text), None
    task = load_task(name, held_out=True)
    return parsing(task).parse(text), task


class _Show:
    """A line for each branch that ends, with the tally then; on a terminal, below them what the others think."""

    def __init__(self, console: Console, strategy: Strategy) -> None:
        self._console, self._strategy = console, strategy
        self._steps = isinstance(strategy, Search)
        """Branches are steps; a path is shown when it ends."""
        self._thoughts: dict[int, str] = {}
        self.on_terminal = console.is_terminal
        self.live = Live(console=console, refresh_per_second=8, transient=True)

    def heard(self, heard: Heard) -> None:
        for branch, event in heard:
            if event.finished is None:
                self._thoughts[branch] = (self._thoughts.get(branch, "") + (event.text or ""))[-THOUGHT:]
                continue
            self._thoughts.pop(branch, None)
            if not (self._steps and event.finished.finish_reason == "length"):
                self._console.print(self._line(branch, event.finished), soft_wrap=True)
        if self.on_terminal:
            self.live.update(Text("\n".join(self._under_way()), style="dim", no_wrap=True))

    def _under_way(self) -> list[str]:
        flat = ((branch, " ".join(visible(text).split())) for branch, text in sorted(self._thoughts.items()))
        return [f"  branch {branch:>3}  ▏{text}" for branch, text in flat]

    def _line(self, branch: int, said: Completion) -> Text:
        answer = _short(said.answer) or {"cancelled": "(cancelled)"}.get(said.finish_reason, "(no answer)")
        line = Text(f"  branch {branch:>3}  {answer:<28} {tokens_of(said):>6,} tokens  ")
        line.append(tally_line(self._strategy.tally()), style="dim")
        return line


def tally_line(tally: Tally) -> str:
    """`14 ▇▇▇▇ 4 · 15 ▇ 1`: the leading classes with their weights."""
    most = max((found.weight for found in tally.classes), default=1.0) or 1.0
    parts = [
        f"{_short(found.answer, 16)} {'▇' * round(6 * found.weight / most)} {round(found.weight, 2):g}"
        for found in tally.classes[:3]
    ]
    return " · ".join(parts) + (f" · {len(tally.classes) - 3} more" if len(tally.classes) > 3 else "")


def _short(text: str, width: int = 28) -> str:
    flat = " ".join(visible(text).split())
    return flat if len(flat) <= width else f"{flat[: width - 3]}..."


def _end(console: Console, outcome: Outcome, verdict: Verdict | None, seconds: float) -> None:
    answer = _short(outcome.completion.answer, 200) if outcome.completion else ""
    line = Text("\n  answer   ")
    line.append(answer or "(none)", style="bold")
    if verdict is not None:
        mark = "✓ checked" if verdict.correct else f"✗ {verdict.reason}"
        line.append(f"   {mark}", style="green" if verdict.correct else "red")
    console.print(line, soft_wrap=True)
    console.print(Text(f"{INDENT}{outcome.why}", style="dim"), soft_wrap=True)
    cancelled = sum(branch.finish == "cancelled" for branch in outcome.branches)
    ended = f", {cancelled} of them ended early" if cancelled else ""
    spent = f"{len(outcome.branches)} branches{ended} · {outcome.tokens:,} tokens · {seconds:.2f} s"
    console.print(Text(f"{INDENT}{spent} · {outcome.tokens / max(seconds, 1e-6):,.0f} tokens/s", style="dim"))


def as_json(asked: Asked, wish: Values, outcome: Outcome, verdict: Verdict | None, seconds: float, seed: int) -> Values:
    """What was chosen, how it was judged (null where nothing can), the tally, and every branch with its tokens."""
    said = outcome.completion
    return {
        "task": asked.problem.task or None, "problem": asked.problem.prompt, "strategy": wish, "seed": seed,
        "answer": said.answer if said else "", "thinking": said.thinking if said else "",
        "correct": None if verdict is None else verdict.correct, "reason": "" if verdict is None else verdict.reason,
        "chosen": outcome.chosen, "why": outcome.why, "tally": asdict(outcome.tally),
        "tokens": outcome.tokens, "seconds": seconds, "tokens_per_second": outcome.tokens / max(seconds, 1e-6),
        "branches": [asdict(branch) for branch in outcome.branches],
    }  # fmt: skip
