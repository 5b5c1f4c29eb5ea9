"""Rows of published figures that training explains: hours, throughput, utilisation, FLOPs, energy, memory, money.

Each row becomes an `Estimate`: the figure at full utilisation, and the power with which utilisation enters. So the same
code predicts rows and, the other way round, reads from them the utilisation that the law is fitted to. What a row
leaves out comes from published runs of that model and is named. Not covered: serving (serving_rows.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from raison.errors import UserError
from raison.plan import energy, rl_rows
from raison.plan.chips import Chip, chip_in, count_in
from raison.plan.interval import Interval
from raison.plan.models import Shape, find_model
from raison.plan.published_runs import PublishedRun, known_benchmark, known_run
from raison.plan.rows import Prediction, Row
from raison.plan.training import TEACHER, Work, catalogue_price, full_speed_seconds, work
from raison.plan.utilization import Case, Observation, Utilization, fitted

HOURS, FINE_TUNING, SPEED, COST, ENERGY, FLOPS, MEMORY = (
    "training hours", "fine-tuning time", "training throughput", "training cost", "training energy", "training FLOPs",
    "memory",
)  # fmt: skip
SEQUENCE = 4096
"""Tokens of a training sequence where nobody says."""
SAMPLE_TOKENS, EPOCHS = 5355, 3
"""Mean tokens of a reasoning trace in R1's own fine-tuning data, and passes over it (Nature s41586-025-09422-z)."""
SETUP_SPREAD = 2.5
"""Factor of fine-tuning's time where neither lengths nor epochs are told."""
SERVING = (r"decode", r"prefill", r"\bisl\b", r"inference", r"serving", r"tok/s/user")
TUNED_ALONG = (r"\bsft\b", r"fine-?tun", r"\blora\b")


@dataclass(frozen=True, slots=True)
class Estimate:
    """A row's figure where the chips did nothing but products at their 16-bit peak."""

    at_full: Interval
    power: int
    """-1 for times, 1 for speeds, 0 where utilisation has no part in it."""
    case: Case | None
    group: str
    assumptions: tuple[str, ...] = ()

    def predict(self, law: Utilization) -> Prediction:
        if self.case is None or self.power == 0:
            return Prediction(self.at_full, self.group, self.assumptions)
        share = law.predict(self.case)
        return Prediction(self.at_full * share if self.power > 0 else self.at_full / share, self.group,
                          self.assumptions)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Setting:
    """A training row with all that it leaves out filled in."""

    row: Row
    shape: Shape
    case: Case
    sequence: float
    run: PublishedRun | None
    assumptions: tuple[str, ...]

    def work(self, *, frozen: bool = False) -> Work:
        return work(self.shape, self.sequence, frozen=frozen, recomputed=self.row.workload.says("full recompute"))

    def seconds(self, tokens: float, work: Work | None = None) -> float:
        """Chip-seconds at full utilisation."""
        return full_speed_seconds(work or self.work(), tokens, self.case)

    def estimate(self, value: float, power: int, group: str, *assumptions: str) -> Estimate:
        return Estimate(Interval.exact(value), power, self.case, group, (*self.assumptions, *assumptions))


def predict(row: Row, law: Utilization | None = None) -> Prediction | None:
    """A rows.Predictor for training; `law` is the shipped one unless given."""
    if rl_rows.is_reinforced(row):
        return rl_rows.predict(row, law)
    found = estimate(row)
    return None if found is None else found.predict(law or fitted())


def estimate(row: Row) -> Estimate | None:
    """The row at full utilisation; None where it is no training row. UserError where it lacks what it would need."""
    maker = METRICS.get(row.metric) or next((make for name, make in LIKE.items() if re.search(name, row.metric)), None)
    return None if maker is None or rl_rows.is_reinforced(row) else maker(row)


def observe(row: Row) -> Observation | None:
    """The utilisation that a row measured; None where it measured something else, or too much along with it."""
    try:
        found = estimate(row)
    except UserError:
        return None
    if found is None or found.case is None or not found.power or not row.value:
        return None
    if found.group not in (HOURS, SPEED) and not found.case.adapters:
        return None
    if row.workload.says("distil", "context extension"):
        return None
    share = (row.value / found.at_full.mid) ** found.power
    return Observation(found.case, share, row.origin, row.date)


def setting(row: Row, *, whole_run: bool) -> Setting:
    """Chip, shape, precision and sequence of a row. UserError where the chip or the model cannot be told."""
    shape = find_model(row.model, row.params_total, row.params_active)
    run, said = known_run(row.model), list(shape.assumed)
    precision = _precision(row, run, said)
    sequence = row.workload.sequence or (run.sequence if run else None)
    if sequence is None:
        said.append(f"sequences of {SEQUENCE:,} tokens")
    tuned = bool(re.search("mlperf|mlcommons", f"{row.text} {row.source}".lower()))
    chips = row.chips or count_in(row.hardware)
    case = Case(_chip(row), precision, shape.active, experts=shape.experts > 0, tuned=tuned,
                whole_run=whole_run and not tuned, chips=chips)  # fmt: skip
    assert case.peak > 0
    return Setting(row, shape, case, sequence or SEQUENCE, run, tuple(said))


def tokens_of(known: Setting) -> tuple[float, tuple[str, ...]]:
    """Tokens that a row's run was trained on, and the assumption made if the row does not say."""
    words = known.row.workload
    if words.tokens and not words.says("per 1e12"):
        return words.tokens, ()
    if words.samples:
        return words.samples * known.sequence, ()
    if known.run:
        return known.run.tokens, (f"{known.run.tokens:.3g} tokens ({known.run.source})",)
    raise UserError("neither the row nor a published run says how many tokens it was trained on")


def _hours(row: Row) -> Estimate | None:
    if row.workload.says(*TUNED_ALONG):
        return _fine_tuning(row)
    known = setting(row, whole_run=True)
    seconds, said = _run_seconds(known)
    return known.estimate(seconds / _unit(row, known), -1, HOURS, *said)


def _run_seconds(known: Setting) -> tuple[float, tuple[str, ...]]:
    """Chip-seconds of the phases that a row names, at full utilisation."""
    words, run = known.row.workload, known.run
    later = sum(known.seconds(phase.tokens, work(known.shape, phase.sequence)) for phase in run.phases) if run else 0.0
    if words.says("context extension", "long.context"):
        if not later:
            raise UserError("how many tokens the context was extended on is not published")
        return later, (f"tokens of the extension ({run.source if run else ''})",)
    tokens, said = tokens_of(known)
    whole = known.seconds(tokens) + (later if words.says("full training", "total") else 0.0)
    if run and run.teacher_parameters and words.says("distil"):
        teacher = Work(2 * run.teacher_parameters, 0.0)
        whole += TEACHER * known.seconds(tokens, teacher)
        said = (*said, f"a teacher of {run.teacher_parameters:.3g} parameters reads every token ({run.source})")
    return whole, said


def _unit(row: Row, known: Setting) -> float:
    """Chip-seconds in one unit of the row: chip-hours, or minutes, hours or days of all its chips."""
    unit = row.unit.lower()
    if re.search(r"-?(gpu|chip|tpu|[a-z]+\d+\w*)[- ]?(h|hr|hours?)\b", unit) or "gpu_hours" in row.metric:
        return 3600.0
    per = next((seconds for name, seconds in CLOCK.items() if re.match(name, unit)), None)
    if per is None or not known.case.chips:
        raise UserError(f'a time in "{row.unit}" needs a unit among min, h, days, and the number of chips')
    return per * known.case.chips


CLOCK: Mapping[str, float] = {r"min": 60.0, r"h": 3600.0, r"d": 86400.0, r"w": 604800.0, r"s": 1.0}


def _rate_hours(row: Row) -> Estimate | None:
    known = setting(row, whole_run=True)
    return known.estimate(known.seconds(1e12) / 3600, -1, HOURS)


def _time(row: Row) -> Estimate | None:
    """Wall time: a benchmark's until its target, or a run's."""
    known = setting(row, whole_run=True)
    task = known_benchmark(row.model) if known.case.tuned else None
    if task is None or row.workload.samples:
        return _hours(row)
    batch = row.workload.global_batch or max(8.0, (known.case.chips or 8.0) / 8)
    tokens = task.samples_at(batch) * task.sequence
    said = f"{task.samples_at(batch):,.0f} sequences at a batch of {batch:,.0f} reach the target ({task.source})"
    known = replace(known, sequence=task.sequence, case=replace(known.case, adapters=task.frozen))
    group = FINE_TUNING if task.frozen else HOURS
    return known.estimate(
        known.seconds(tokens, known.work(frozen=task.frozen)) / _unit(row, known), -1, group, said
    )  # fmt: skip


def _fine_tuning(row: Row) -> Estimate | None:
    known = setting(row, whole_run=True)
    words = row.workload
    if not (words.tokens or words.samples):
        raise UserError("fine-tuning of unstated size")
    tokens = words.tokens or (words.samples or 0.0) * SAMPLE_TOKENS * EPOCHS
    said = () if words.tokens else (f"{SAMPLE_TOKENS:,} tokens a sample, {EPOCHS} epochs",)
    seconds = known.seconds(tokens, known.work(frozen=words.says("lora")))
    found = known.estimate(seconds / _unit(row, known), -1, FINE_TUNING, *said)
    return replace(found, at_full=Interval.within(found.at_full.mid, SETUP_SPREAD))


def _tokens_a_second(row: Row) -> Estimate | None:
    if row.workload.says(*SERVING) or row.workload.isl:
        return None
    known = setting(row, whole_run=False)
    return known.estimate(1 / known.seconds(1.0), 1, SPEED)


def _iteration(row: Row) -> Estimate | None:
    known, words = setting(row, whole_run=False), row.workload
    sequences = words.global_batch or words.batch or (words.batch_tokens or 0.0) / known.sequence
    if not sequences or not known.case.chips:
        raise UserError("the time of a step needs its batch and the number of chips")
    tokens = sequences * known.sequence
    scale = 1e3 if row.unit.lower() in ("ms", "milliseconds") else 1.0
    return known.estimate(scale * known.seconds(tokens) / known.case.chips, -1, SPEED)


def _share(row: Row) -> Estimate | None:
    """MFU: FLOPs that count over the peak that the report divides by."""
    known = setting(row, whole_run=False)
    done = work(known.shape, known.sequence)
    own = known.case.chip.peak("fp8") if "fp8 peak" in f"{row.precision} {row.text}".lower() else None
    peak = own * 1e12 if own else known.case.peak
    scale = 100.0 if "%" in row.unit or (row.value or 0.0) > 1 else 1.0
    return known.estimate(scale * done.flops / known.work().timed * known.case.peak / peak, 1, SPEED)


def _speed(row: Row) -> Estimate | None:
    """Model FLOP/s of a chip in 1e12/s, kernels excepted."""
    if not row.params_active and not known_run(row.model):
        return None
    known = setting(row, whole_run=False)
    done = work(known.shape, known.sequence)
    scale = 1e15 if row.unit.upper().startswith("P") else 1e12
    return known.estimate(known.case.peak / scale * done.flops / known.work().timed, 1, SPEED)


def _flops(row: Row) -> Estimate:
    shape, run = find_model(row.model, row.params_total, row.params_active), known_run(row.model)
    sequence = row.workload.sequence or (run.sequence if run else SEQUENCE)
    tokens = row.workload.tokens or (run.tokens if run else None)
    if not tokens:
        raise UserError("neither the row nor a published run says how many tokens it was trained on")
    return Estimate(Interval.within(work(shape, sequence).flops * tokens, 1.03), 0, None, FLOPS, shape.assumed)


def _flops_a_token(row: Row) -> Estimate:
    shape, run = find_model(row.model, row.params_total, row.params_active), known_run(row.model)
    sequence = row.workload.sequence or (run.sequence if run else SEQUENCE)
    scale = {"g": 1e9, "t": 1e12, "p": 1e15}.get(row.unit[:1].lower(), 1.0)
    return Estimate(Interval.within(work(shape, sequence).flops / scale, 1.03), 0, None, FLOPS, shape.assumed)


def _cost(row: Row) -> Estimate | None:
    """Dollars of a run: hours at the price that the words state, or at the catalogue's."""
    if "/" in row.unit or row.workload.says(*SERVING):
        return None
    known = setting(row, whole_run=True)
    seconds, said = _run_seconds(known)
    price = _price(row, known.case.chip)
    found = known.estimate(seconds / 3600, -1, COST, *said)
    return replace(found, at_full=found.at_full * price)


def _price(row: Row, chip: Chip) -> Interval:
    if row.workload.usd_per_hour:
        return Interval.exact(row.workload.usd_per_hour)
    price = catalogue_price(chip)
    if price is None:
        raise UserError(f"neither the row nor the catalogue has a price of {chip.name}")
    return price


def _energy(row: Row) -> Estimate | None:
    """MWh or kWh of a run, or its emissions in tonnes."""
    known = setting(row, whole_run=True)
    power = energy.kilowatts(known.case.chip)
    if power is None:
        raise UserError(f"no power is known of {known.case.chip.name}")
    seconds, said = _run_seconds(known)
    tonnes = energy.KG_CO2_PER_KWH / 1000 if "co2" in row.metric.lower() else Interval.exact(1.0)
    scale = {"m": 1e-3, "g": 1e-6}.get(row.unit[:1].lower(), 1.0) if "wh" in row.unit.lower() else 1.0
    found = known.estimate(seconds / 3600 * scale, -1, ENERGY, *said, "the United States' grid")
    return replace(found, at_full=found.at_full * power * tonnes)


BYTES: Mapping[str, float] = {"fp32": 4, "fp16": 2, "bf16": 2, "fp8": 1, "int8": 1, "fp4": 0.5, "int4": 0.5}
"""Bytes of a number in a cache or of a weight, by the first of these that a precision names."""
UNITS: Mapping[str, float] = {"t": 1e12, "g": 1e9, "m": 1e6, "k": 1e3, "b": 1.0}


def _cache(row: Row) -> Estimate:
    shape = find_model(row.model, row.params_total, row.params_active)
    return _bytes(row, shape.cache_numbers, shape.assumed, 1.02)


def _weights(row: Row) -> Estimate | None:
    shape = find_model(row.model, row.params_total, row.params_active)
    return _bytes(row, row.params_total or shape.total, (), 1.05)


def _bytes(row: Row, numbers: float, assumed: tuple[str, ...], factor: float) -> Estimate:
    said = f"{row.precision} {row.text}".lower()
    width = next((size for name, size in BYTES.items() if name in said), 2)
    scale = 1024 ** ("kmgt".index(row.unit[0].lower()) + 1) if "ib" in row.unit.lower() else UNITS.get(
        row.unit[:1].lower(), 1.0)  # fmt: skip
    return Estimate(Interval.within(numbers * width / scale, factor), 0, None, MEMORY, assumed)


def _chip(row: Row) -> Chip:
    """The chip that the hardware column or a unit such as H800-h names."""
    chip = chip_in(row.hardware) or chip_in(re.split(r"[-/ ]", row.unit)[0])
    if chip is None:
        raise UserError(f'no known chip is named by "{row.hardware or row.unit}"')
    return chip


def _precision(row: Row, run: PublishedRun | None, said: list[str]) -> str:
    words = f"{row.precision} {row.text}".lower()
    found = "fp4" if "fp4" in words else "fp8" if re.search("fp8|float8|mxfp8", words) else ""
    if not found and not row.precision:
        said.append(f"products in {run.precision if run and run.precision else 'bf16'}")
    return found or (run.precision if run and run.precision and not row.precision else "") or "bf16"


METRICS: Mapping[str, Callable[[Row], Estimate | None]] = {
    "gpu_hours": _hours,
    "gpu_hours_per_1e12_tokens": _rate_hours,
    "time_to_train": _time,
    "wall_time": _hours,
    "tok_s_per_gpu": _tokens_a_second,
    "iter_time": _iteration,
    "mfu": _share,
    "tflops_per_gpu": _speed,
    "train_flops": _flops,
    "gflops_per_token": _flops_a_token,
    "cost": _cost,
    "energy": _energy,
    "co2": _energy,
    "kv_bytes_per_token": _cache,
}
LIKE: Mapping[str, Callable[[Row], Estimate | None]] = {
    r"^(gpu|chip|tpu|accelerator)_?hours.*(1e12|trillion|ttok)": _rate_hours,
    r"^(gpu|chip|tpu|accelerator|device)_?(hours|days)$": _hours,
    r"^(training|train|pretrain)\w*_(time|days|hours)$": _hours,
    r"^(iteration|step)_time": _iteration,
    r"^(model_)?(mfu|flops_util)": _share,
    r"^(kv|cache)\w*(bytes|kb|size)": _cache,
    r"^(weights?|model|checkpoint)_?(bytes|gb|size|memory)": _weights,
    r"^(training|train|pretrain)\w*_flops?$": _flops,
    r"^(training|train)\w*_(tok|tokens)_(per_)?s\w*_(gpu|chip)$": _tokens_a_second,
    r"^(training|pretrain)\w*_cost": _cost,
    r"^(training_)?energy": _energy,
}
"""Spellings of the same metrics that others use."""
