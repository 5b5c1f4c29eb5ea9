"""A strategy from plain values: what a request's `strategy` may say, and what it means here.

    {"vote": "auto", "max_samples": 16, "price": 4.0}
    {"vote": "self-consistency" | "majority", "max_samples": 16}
    {"vote": "adaptive", "max_samples": 16, "certainty": 0.95}      {"vote": "windows", "max_samples": 16, "window": 5}
    {"vote": "confidence", "max_samples": 16, "warmup": 4, "keep": 0.5, "consensus": 0.95, "window": 16}
    {"vote": "best-of-n" | "weighted", "max_samples": 16, "width": 4}
    {"vote": "beam" | "dvts", "paths": 8, "fan": 4, "step_tokens": 32, "max_steps": 40}

The catalogue here is the one place that knows names, fields, defaults and which ways use a checker. Not covered: the
request around it (the server's protocol, the command line).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from raison.errors import UserError, nearest
from raison.think.confidence import Confidence, DeepConf
from raison.think.equivalence import Equivalence, SameForm
from raison.think.judged import Judged, Score
from raison.think.search import Search, Shape, StepScore, confidence_score
from raison.think.stopping import Adaptive, Decided, Fixed, Gain, Rule, Windows
from raison.think.strategy import Strategy
from raison.think.vote import Vote

_GAIN, _ADAPTIVE, _WINDOWS, _CONFIDENCE, _SHAPE = Gain(), Adaptive(), Windows(), Confidence(), Shape()
WINDOW_SHARE = 32
SMALLEST_WINDOW = 16


@dataclass(frozen=True, slots=True)
class Context:
    """What a strategy may use where it runs."""

    max_tokens: int
    """Of one sample, thinking and answer."""
    most_samples: int = 64
    """More than these are refused."""
    same: Equivalence = field(default_factory=SameForm)
    score: Score | None = None
    """A checker's or a reward function's judgement of a finished sample."""
    checker: bool = False
    """`score` is a checker: 1 or 0, and 1 is as good as can be."""
    step_score: StepScore = confidence_score


@dataclass(frozen=True, slots=True)
class Wish:
    """All that a strategy's mapping may hold; which vote heeds which, VOTES says."""

    max_samples: int = 16
    price: float = _GAIN.price
    certainty: float = _ADAPTIVE.certainty
    window: int = 0
    """0: the vote's own."""
    warmup: int = _CONFIDENCE.warmup
    keep: float = _CONFIDENCE.keep
    consensus: float = _CONFIDENCE.consensus
    width: int = 4
    paths: int = _SHAPE.paths
    fan: int = _SHAPE.fan
    step_tokens: int = _SHAPE.step_tokens
    max_steps: int = _SHAPE.most_steps


Maker = Callable[[Wish, Context], Strategy]


@dataclass(frozen=True, slots=True)
class Way:
    """One way of thinking: how it is made, the fields it heeds beside `vote`, and what it does in a line."""

    make: Maker
    fields: tuple[str, ...]
    about: str
    judged: bool = False
    """It needs a checker or a reward function, and compares with no vote."""

    @property
    def count(self) -> str:
        """The field that says how many samples."""
        return "paths" if "paths" in self.fields else "max_samples"


def _vote(rule: Callable[[Wish], Rule]) -> Maker:
    return lambda wish, context: Vote(rule(wish), wish.max_samples, context.same)


def _confidence(wish: Wish, context: Context) -> Strategy:
    window = wish.window or max(SMALLEST_WINDOW, context.max_tokens // WINDOW_SHARE)
    settings = Confidence(wish.warmup, window, wish.keep, wish.consensus)
    return DeepConf(settings, wish.max_samples, context.same)


def _judged(weighted: bool) -> Maker:
    def make(wish: Wish, context: Context) -> Strategy:
        assert context.score is not None
        enough = 1.0 if context.checker else None
        return Judged(context.score, wish.max_samples, wish.width, context.same, weighted, enough)

    return make


def _search(diverse: bool) -> Maker:
    def make(wish: Wish, context: Context) -> Strategy:
        if wish.fan < 1 or wish.paths % wish.fan:
            raise UserError(f"strategy.paths is {wish.paths}; it must be a multiple of strategy.fan, {wish.fan}")
        trees = wish.paths // wish.fan if diverse else 1
        shape = Shape(wish.paths, wish.fan, trees, wish.step_tokens, wish.max_steps)
        return Search(shape, context.max_tokens, context.step_score, context.same)

    return make


_SEARCHES = ("paths", "fan", "step_tokens", "max_steps")
VOTES: dict[str, Way] = {
    "self-consistency": Way(_vote(lambda wish: Fixed()), ("max_samples",), "all samples vote"),
    "majority": Way(_vote(lambda wish: Decided()), ("max_samples",), "self-consistency's answer, as soon as certain"),
    "adaptive": Way(
        _vote(lambda wish: Adaptive(wish.certainty)), ("max_samples", "certainty"), "until the leader is likely enough"
    ),
    "windows": Way(
        _vote(lambda wish: Windows(wish.window or _WINDOWS.size)), ("max_samples", "window"), "until a window agrees"
    ),
    "confidence": Way(
        _confidence, ("max_samples", "window", "warmup", "keep", "consensus"), "sure samples weigh more, weak ones end"
    ),
    "auto": Way(_vote(lambda wish: Gain(wish.price)), ("max_samples", "price"), "while more is worth its price"),
    "best-of-n": Way(_judged(False), ("max_samples", "width"), "the best-scored sample", judged=True),
    "weighted": Way(_judged(True), ("max_samples", "width"), "votes weighted by scores", judged=True),
    "beam": Way(_search(False), _SEARCHES, "the best paths go on, step by step"),
    "dvts": Way(_search(True), _SEARCHES, "the best path of each tree goes on"),
}
_LOWEST: dict[str, float] = {"price": 0.0, "certainty": 0.5, "keep": 0.0, "consensus": 0.5, "window": 0}
_ANY = 1 << 20
_HIGHEST: dict[str, float] = {"certainty": 1.0, "keep": 1.0, "consensus": 1.0}


def parse_strategy(mapping: Mapping[str, Any], context: Context) -> Strategy:
    """A new strategy, ready to begin. Raises UserError that names the field."""
    name = mapping.get("vote", "auto")
    if not isinstance(name, str) or name not in VOTES:
        raise UserError(f"strategy.vote is {name!r}: {nearest(str(name), VOTES)}")
    way = VOTES[name]
    unknown = sorted(set(mapping) - {"vote", *way.fields})
    if unknown:
        raise UserError(f'strategy.{unknown[0]} is not a setting of "{name}"; it has: {", ".join(way.fields)}')
    if way.judged and context.score is None:
        raise UserError(
            f'strategy.vote "{name}" needs a checker or a reward function, and there is none for this prompt'
        )
    wish = Wish(**{key: _sound(key, value) for key, value in mapping.items() if key != "vote"})  # type: ignore[arg-type]
    samples = getattr(wish, way.count)
    if samples > context.most_samples:
        raise UserError(f"strategy.{way.count} is {samples}; at most {context.most_samples} are allowed here")
    return way.make(wish, context)


def _sound(name: str, value: Any) -> float:
    """The value, if it is a number of the field's kind within its bounds."""
    whole = next(item.type for item in fields(Wish) if item.name == name) == "int"
    low, high = _LOWEST.get(name, 1), _HIGHEST.get(name, _ANY)
    right = isinstance(value, int) if whole else isinstance(value, int | float)
    if isinstance(value, bool) or not right or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        raise UserError(f"strategy.{name} is {value!r}; it must be {kind} from {low:.9g} to {high:.9g}")
    return value  # type: ignore[no-any-return]  # the lines above have looked
