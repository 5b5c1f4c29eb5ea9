"""The side of gym.py that runs in the sandbox: one reasoning-gym data set, its entries and its scorer.

Loaded by sandbox_worker.py, never by this package: importing reasoning-gym takes two seconds and a hundred megabytes,
and some of its scorers pass answers to `eval` or to sympy's `parse_expr`, which evaluates too. For data sets whose
module does that, an answer that is code is refused before it is scored: it could otherwise change the scorer for every
answer after it. Code means a call of anything but a few functions of mathematics, an attribute, a lambda, a subscript,
a choice, a comment, a power tower; what remains is evaluated under the sandbox's limits. Refused for every data set are
invisible characters and line breaks that the gold answer has not and, where gold is a plain number, what is none in our
own reading (answer.py): `int` and `float` read digits of every script.
Not covered: scorers that are wrong in other ways, such as puzzle24's, which takes any four numbers, or
spell_backward's, which reads only as many letters as it needs; `raison check` shows them.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import re
import sys
import warnings
from typing import Any

from raison.errors import nearest
from raison.records import Verdict
from raison.tasks.answer import parse_number, unwrap
from raison.tasks.split import is_held_out

RIGHT_FROM = 1.0
TRIES = 400
MAX_CHARS = 10_000
MAX_EVALUATED = 256
MAX_EXPONENT = 1_000

_EVALUATES = re.compile(r"\b(?:eval|exec|parse_expr|sympify)\(")
_SCIENTIFIC = re.compile(r"[0-9.][eE][-+]?[0-9]")
_FUNCTIONS = frozenset(
    ("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "exp", "log", "ln", "sqrt")
)
_CODE = (
    ast.Attribute, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.NamedExpr,
    ast.JoinedStr, ast.Await, ast.Yield, ast.YieldFrom, ast.Starred, ast.LShift, ast.Subscript,
    ast.IfExp, ast.BoolOp, ast.Compare,
)  # fmt: skip


class GymDataset:
    """A task as sandbox_worker.py takes it. An entry crosses to the other process and back as a problem: question and
    answer as prompt and gold, its metadata as a Python literal, which keeps tuples apart from lists.
    """

    version = 1

    def __init__(self, dataset: str, held_out: bool = False) -> None:
        """Raises LookupError for a name that reasoning-gym does not have."""
        # Optional: reasoning-gym is an extra, and its users alone pay for the import.
        self._factory = importlib.import_module("reasoning_gym.factory")
        if dataset not in self._factory.DATASETS:
            raise LookupError(f'reasoning-gym has no data set "{dataset}": {nearest(dataset, self._factory.DATASETS)}')
        self.name = dataset
        self.levels = range(self._curriculum_levels() + 1)
        self._held_out = held_out
        self._scorers: dict[int, Any] = {}
        source = inspect.getsource(sys.modules[self._factory.DATASETS[dataset][0].__module__])
        self._evaluates = bool(_EVALUATES.search(source))

    def sample(self, seed: int, level: int) -> dict[str, Any]:
        """Level 0 is the data set's own default configuration, level n the n-th of its curriculum."""
        for attempt in range(TRIES):
            digest = hashlib.sha256(f"{self.name}:{level}:{seed}:{attempt}".encode()).digest()
            entry = self._dataset(level, int.from_bytes(digest[:4], "big") >> 1)[0]
            if is_held_out(entry["question"]) == self._held_out:
                return self._problem(entry, level)
        side = "held-out" if self._held_out else "training"
        raise LookupError(f"level {level} of {self.name} has too few different problems for a {side} side")

    def check(self, problem: Any, answer: str) -> Verdict:
        """Right from a score of 1.0 on; partial credit is worth nothing."""
        gold = problem["gold"]
        answer = unwrap(answer)
        if answer == gold.strip():
            # Some golds begin or end with blanks, which no model should have to reproduce.
            answer = gold
        elif objection := self._objection(gold, answer):
            return Verdict(False, objection)
        meta = problem["meta"]
        entry = {"question": problem["prompt"], "answer": gold or None, "metadata": ast.literal_eval(meta["metadata"])}
        score = float(self._scorer(meta["level"]).score_answer(answer, entry))
        return Verdict(score >= RIGHT_FROM, f"scored {score:.3g}, right is {RIGHT_FROM:g}")

    def _objection(self, gold: str, answer: str) -> str:
        if len(answer) > (MAX_EVALUATED if self._evaluates else MAX_CHARS) + 2 * len(gold):
            return "it is longer than any answer"
        if gold and not all(c.isprintable() or c in gold for c in answer):
            return "it has line breaks or invisible characters that the right answer has not"
        if parse_number(unwrap(gold)) is not None and parse_number(answer) is None:
            return "it is not one plain number"
        return code_in(answer) if self._evaluates else ""

    def _curriculum_levels(self) -> int:
        if not self._factory.has_curriculum(self.name):
            return 0
        attributes = self._factory.create_curriculum(self.name).attributes.values()
        return max((len(attribute.levels) for attribute in attributes), default=0)

    def _dataset(self, level: int, seed: int) -> Any:
        kind, config = self._factory.DATASETS[self.name]
        if level == 0:
            return kind(config(seed=seed))
        curriculum = self._factory.create_curriculum(self.name)
        curriculum.set_global_level(level - 1)
        return kind(curriculum.generate_configuration({"seed": seed}))

    def _scorer(self, level: int) -> Any:
        if level not in self._scorers:
            self._scorers[level] = self._dataset(level, 0)
        return self._scorers[level]

    def _problem(self, entry: dict[str, Any], level: int) -> dict[str, Any]:
        gold, metadata = entry["answer"], entry["metadata"]
        written = repr(metadata)
        try:
            ast.literal_eval(written)
        except (ValueError, SyntaxError):
            raise LookupError(f"{self.name} cannot be used: its entries hold objects that cannot be stored") from None
        # By these the audit knows a Countdown problem, which has more right answers than the gold one.
        countdown = {key: metadata[key] for key in ("numbers", "target") if {"numbers", "target"} <= metadata.keys()}
        return {
            "prompt": entry["question"],
            "gold": "" if gold is None else str(gold),
            "meta": {"level": level, "metadata": written, **countdown},
        }


def code_in(answer: str) -> str:
    """Why the answer must not be evaluated, or an empty string. Nothing is run to find out.

    What Python cannot parse, `eval` cannot run; sympy turns `!` into a call, so that is refused.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            nodes = list(ast.walk(ast.parse(answer.strip(), mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "it has an exclamation mark" if "!" in answer else ""
    if "#" in answer or _SCIENTIFIC.search(answer):
        return "it has a comment or scientific notation"
    for node in nodes:
        if isinstance(node, _CODE) or (isinstance(node, ast.Name) and node.id.startswith("_")):
            return "it is code"
        if isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS):
            return "it calls something"
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) and _is_huge(node.right):
            return "its exponent is too large"
    return ""


def _is_huge(exponent: ast.expr) -> bool:
    return any(
        (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow))
        or (isinstance(node, ast.Constant) and not (isinstance(node.value, int) and abs(node.value) <= MAX_EXPONENT))
        for node in ast.walk(exponent)
    )
