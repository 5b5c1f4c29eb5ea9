"""R1's own figures, line by line: the claim, what the planner predicts, what was published later, and a verdict.

Verdicts are computed: an account closes or not, a claim lies inside the predicted interval or not, a target is held
against the later figure. What was told is figures/story.json, what was measured figures/published.csv. Serving lines
ask the serving half through its predictor of rows. Not covered: figures that nobody published, such as all the
hardware of a company.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from raison.errors import UserError
from raison.model import cost
from raison.model.spec import R1_671B
from raison.plan import serving_rows
from raison.plan.batching import Load
from raison.plan.chips import find_chip
from raison.plan.interval import Interval, relative_error
from raison.plan.layouts import smallest
from raison.plan.models import find_model
from raison.plan.precision import WIDTHS
from raison.plan.published_runs import known_recipe, known_run, published_rates
from raison.plan.rl import recipe_of, rl_bill
from raison.plan.rl_sampling import sampling_speed
from raison.plan.rows import PUBLISHED, Row, read_rows
from raison.plan.training import full_speed_seconds, work
from raison.plan.utilization import Case, fitted

FILE = Path(__file__).parent / "figures" / "story.json"
ACCOUNT = 0.01
"""Accounts close within this share."""
MODEL = "deepseek-r1"


@dataclass(frozen=True, slots=True)
class Line:
    """One claim. Figures are in `unit`."""

    about: str
    claim: float
    unit: str
    predicted: Interval | None
    """None where nothing could be predicted; `verdict` says why."""
    published: float | None
    """Measured or published, apart from the claim itself."""
    source: str
    verdict: str
    holds: bool | None
    """None where it is neither."""
    note: str = ""


def story() -> list[Line]:
    """Every line, in the order in which it was told."""
    return [*_model(), *_pretraining(), *_reinforcement(), *_day_six(), *_serving()]


def _model() -> Iterator[Line]:
    told = _facts()
    total = cost.parameters(R1_671B)
    yield _account(
        "parameters", 671e9, "", total, None, "arXiv:2412.19437, abstract", f"{total:,} from the shape alone"
    )
    active = cost.activated(R1_671B).with_embedding
    yield _account("parameters of a token", 37e9, "", active, None, "arXiv:2412.19437, abstract",
                   f"{active:,}, the embedding table counted whole", tolerance=0.02)  # fmt: skip
    cache_bytes = cost.cache_bytes_per_token(R1_671B)
    yield _account("cache of a token", told["cache"]["bytes"], "bytes", cache_bytes, None, told["cache"]["source"],
                   "512 + 64 numbers of 16 bits in 61 layers")  # fmt: skip
    flops = cost.training_flops(R1_671B) / 1e9
    yield _account("training FLOPs of a token", told["flops"]["gflops"], "GFLOP", flops, None, told["flops"]["source"],
                   "sequences of 4,096 tokens, without MTP")  # fmt: skip


def _pretraining() -> Iterator[Line]:
    told, rates = _facts()["V3"], published_rates("DeepSeek-V3")
    accounted = (rates["tokens"] / 1e12 * rates["hours_per_trillion_tokens"] + rates["context_extension_hours"]
                 + rates["post_training_hours"])  # fmt: skip
    yield _account("V3's training, by its own rates", told["claimed_hours"], "H800-h", accounted, None, rates["source"],
                   "14.8 T tokens x 180 K h a trillion + 119 K + 5 K")  # fmt: skip
    predicted = v3_hours()
    yield _forecast("V3's training, predicted", told["claimed_hours"], "H800-h", predicted, told["source"],
                    "from FLOPs and a utilisation fitted to many runs, this one among them")  # fmt: skip
    usd = accounted * rates["usd_per_hour"]
    yield _account("its money at $2 an hour", told["claimed_usd"], "USD", usd, None, told["source"],
                   "rent of the final run alone: no research, no failed runs, no data, no people")  # fmt: skip
    days = accounted / told["chips"] / 24
    yield Line("2,048 H800: days", days, "days", predicted / (told["chips"] * 24), days, told["source"],
               "the hours over the chips", True)  # fmt: skip


def v3_hours() -> Interval:
    """Chip-hours of DeepSeek-V3's pre-training and context extension on H800, predicted."""
    shape, run = find_model(MODEL), known_run("deepseek-v3")
    assert run is not None
    case = Case(find_chip("H800"), run.precision, shape.active, experts=True, whole_run=True, chips=2048)
    parts = [(run.tokens, run.sequence), *((phase.tokens, phase.sequence) for phase in run.phases)]
    seconds = sum(full_speed_seconds(work(shape, sequence), tokens, case) for tokens, sequence in parts)
    return seconds / 3600 / fitted().predict(case)


def _reinforcement() -> Iterator[Line]:
    told, recipe = _facts()["RL"], known_recipe("r1-zero")
    assert recipe is not None
    hours = sum(told["hours"].values())
    yield _account("R1's RL and data, by their sum", told["claimed_hours"], "H800-h", hours, None, told["source"],
                   "R1-Zero 101 K + data 5 K + R1 41 K")  # fmt: skip
    predict = partial(r1_zero_hours, recipe)
    yield _asked("R1-Zero's RL, predicted", told["hours"]["R1-Zero"], "H800-h", predict, None, told["source"],
                 "10,400 steps of 512 answers; every round waits for its longest answer")  # fmt: skip
    usd = hours * told["usd_per_chip_hour"]
    yield _account("its money at $2 an hour", told["claimed_usd"], "USD", usd, None, told["source"], "")
    both = usd + _facts()["V3"]["claimed_usd"]
    yield Line("V3 and R1 together under $6 M", 6e6, "USD", Interval.exact(both), both, told["source"],
               "holds, for the rent of the final runs", both < 6e6)  # fmt: skip


def r1_zero_hours(recipe: Mapping[str, Any]) -> Interval:
    """Chip-hours of R1-Zero's reinforcement learning by its published recipe."""
    shape, chip, run = find_model(MODEL), find_chip(recipe["chip"]), recipe_of(recipe)
    case = Case(chip, recipe["precision"], shape.active, experts=True, chips=recipe["chips"])
    speed, _ = sampling_speed(shape, chip, recipe["chips"], run, recipe["precision"], recipe["guess"])
    return rl_bill(run, shape, case, fitted(), speed).bill.chip_hours


def _day_six() -> Iterator[Line]:
    day = _facts()["day 6"]
    needed = (day["input_tokens"] / day["prefill_tok_s"] + day["output_tokens"] / day["decode_tok_s"]) / 3600
    there = day["nodes"] * 24
    yield _account("day 6: node-hours that the tokens need", there, "node-h", needed, None, day["source"],
                   "608 B in at 73.7 K/s, 168 B out at 14.8 K/s, against 226.75 nodes x 24")  # fmt: skip
    usd = there * day["chips_a_node"] * day["usd_per_chip_hour"]
    yield _account("day 6: rent", day["cost"], "USD/day", usd, None, day["source"], "$2 a chip-hour")
    prices = day["usd_per_M"]
    sold = (day["hit_tokens"] * prices["hit"] + (day["input_tokens"] - day["hit_tokens"]) * prices["miss"]
            + day["output_tokens"] * prices["output"]) / 1e6  # fmt: skip
    yield _account("day 6: sales at list price", day["revenue"], "USD/day", sold, None, day["source"],
                   "theoretical: nights were cheaper, the app was free, V3 costs less")  # fmt: skip
    yield _account("day 6: margin over rent", day["margin_percent"], "%", 100 * (sold - usd) / usd, None, day["source"],
                   "of the same theoretical sales")  # fmt: skip
    for name, about in (("ds-day6-pre", "day 6: prompts of a node"), ("ds-day6-dec", "day 6: answers of a node")):
        yield _row(name, about, "tokens/s", "56 % of the prompts were in a cache" if "pre" in name else "144 chips")


def _serving() -> Iterator[Line]:
    yield _row("sn-r1-198", "198 tokens/s on 16 SN40L", "tokens/s a user", "Artificial Analysis measured more than 195")
    yield _faster()
    yield _rack()
    yield _hundreds()


def _rack() -> Line:
    """ "20,000 tokens/s a rack": a target, against what its maker gave later."""
    claim, later = _measured("sn-r1-target"), _measured("sn-ds-256")
    made = _prediction(_published()["sn-ds-256"])
    found = made if isinstance(made, Interval) else None
    short = f"fails: a target; the same maker later gives {later:,.0f} at 256 users, {100 * later / claim:.0f} % of it"
    return Line("20,000 tokens/s a rack", claim, "tokens/s", found, later, _published()["sn-ds-256"].source,
                short if later < claim else "holds", later >= claim, "" if found else str(made))  # fmt: skip


def _faster() -> Line:
    """ "3 times faster than GPUs": against one stream on eight tuned H200."""
    stream = replace(_published()["sn-r1-198"], hardware="H200", chips=8.0, precision="fp8", date="",
                     text="single stream ISL/OSL 1024/1024 TP8")  # fmt: skip
    made = _prediction(stream)
    if not isinstance(made, Interval):
        return Line("three times faster than GPUs", 3.0, "x", None, None, "", f"not predicted: {made}", None)
    ratio = _measured("sn-r1-198") / made
    holds = None if ratio.holds(3) else ratio.low > 3
    told = {True: "holds", False: "fails", None: f"open: {ratio.mid:.1f} x is likelier"}[holds]
    return Line("three times faster than GPUs", 3.0, "x", ratio, None, "one stream on 8 x H200 without guessing ahead",
                f"{told} against eight tuned chips; it was said of hosted ones of that month", holds,
                "guessing ahead with MTP makes the GPUs 1.8 times faster")  # fmt: skip


def _hundreds() -> Line:
    """ "Hundreds of GPUs": what holds the model, against DeepSeek's units."""
    units = _facts()["units"]
    least = smallest(find_model(MODEL), find_chip("H200"), WIDTHS["fp8"], Load(1024, 1024, 8))
    theirs = units["prefill_chips"] + units["decode_chips"]
    return Line("hundreds of GPUs needed", 200, "chips", Interval.exact(least), theirs, units["source"],
                f"fails as a limit: {least} x H200 hold it; DeepSeek's {theirs} are a choice of throughput and cost",
                least >= 200)  # fmt: skip


def _account(
    about: str, claim: float, unit: str, found: float, published: float | None, source: str, note: str,
    tolerance: float = ACCOUNT,
) -> Line:  # fmt: skip
    """A figure that follows from others that were told."""
    far = relative_error(found, claim)
    closes = far <= tolerance
    told = "exact" if far < 1e-9 else f"closes to {100 * far:.2g} %" if closes else f"off by {100 * far:.2g} %"
    return Line(about, claim, unit, Interval.exact(found), published, source, told, closes, note)


def _forecast(about: str, claim: float, unit: str, made: Interval, source: str, note: str) -> Line:
    """A figure that was predicted, with its interval."""
    far = 100 * (made.mid / claim - 1)
    inside = made.holds(claim)
    told = f"{'inside' if inside else 'outside'} the interval, {far:+.0f} %"
    return Line(about, claim, unit, made, claim, source, told, inside, note)


def _asked(
    about: str,
    claim: float,
    unit: str,
    predict: Callable[[], Interval],
    published: float | None,
    source: str,
    note: str,
) -> Line:
    try:
        return _forecast(about, claim, unit, predict(), source, note)
    except UserError as lacking:
        return Line(about, claim, unit, None, published, source, f"not predicted: {lacking}", None, note)


def _row(name: str, about: str, unit: str, note: str) -> Line:
    """A published row, predicted by the serving half."""
    row, claim = _published()[name], _measured(name)
    made = _prediction(row)
    if not isinstance(made, Interval):
        return Line(about, claim, unit, None, claim, row.source, f"not predicted: {made}", None, note)
    return _forecast(about, claim, unit, made, row.source, note)


def _prediction(row: Row) -> Interval | str:
    """The serving half's prediction of a row, or why there is none."""
    try:
        found = serving_rows.predict(row)
    except UserError as lacking:
        return str(lacking)
    return found.value if found else "no serving figure"


def _measured(name: str) -> float:
    value = _published()[name].value
    assert value is not None
    return value


@cache
def _published() -> Mapping[str, Row]:
    return {row.id: row for row in read_rows(PUBLISHED)}


@cache
def _facts() -> Mapping[str, Any]:
    facts: Mapping[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return facts
