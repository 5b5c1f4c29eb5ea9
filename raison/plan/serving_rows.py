"""Rows of published serving figures as cases, and what the planner predicts for them.

What a row does not say is assumed and named: a layout over its chips, lengths of prompt and answer, how many streams.
Not covered: training rows (training_rows.py), and rows that no formula speaks of (speed-ups, prices of machines).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from raison.errors import UserError
from raison.plan.batching import Load
from raison.plan.calibration import choose
from raison.plan.chips import Chip, chip_in, count_in, from_memory_words, with_count
from raison.plan.interval import Interval
from raison.plan.layouts import UNIT, candidates, layout_for, smallest
from raison.plan.models import Shape, find_model
from raison.plan.precision import WIDTHS, Width, usual_width, width_in
from raison.plan.roofline import Constants, Layout
from raison.plan.rows import Prediction, Row
from raison.plan.search import Limits, best, filled_up
from raison.plan.serving import STEP, Case, figures, prompt_rate
from raison.plan.suites import suite_of

GROUPS: Mapping[str, str] = {
    "tpot": "TPOT", "ttft": "TTFT", "user": "throughput", "output": "throughput", "total": "throughput",
    "prompt": "throughput", "requests": "throughput", "cost_output": "cost", "cost_total": "cost",
}  # fmt: skip
METRICS: tuple[tuple[str, str], ...] = (
    (r"^(?:tpot|itl|inter_token|time_per_output)", "tpot"),
    (r"^(?:ttft|time_to_first)", "ttft"),
    (r"^cost_per_m?tok(?:en)?s?_(?:out|output)|^cost_per_mtok_out", "cost_output"),
    (r"^cost_per_m", "cost_total"),
    (r"per_user|user_tok|tok_s_user", "user"),
    (r"^(?:prefill|input|prompt|pp)_?(?:tok\w*_s|throughput|tps)", "prompt"),
    (r"^total_(?:tok\w*_s|throughput|tps)", "total"),
    (r"^(?:output_|decode_|tg_|gen\w*_)?(?:tok\w*_s(?:ec)?\b|tok\w*_s_|tokens?_per_s|throughput|tps)", "output"),
    (r"^(?:req|queries|samples)\w*_(?:per_)?s", "requests"),
)  # fmt: skip
ENGINES: tuple[tuple[str, str], ...] = (
    (r"llama\.?cpp|ollama|gguf|lm studio", "llama.cpp"), (r"ktransformers", "ktransformers"), (r"mlx", "mlx"),
    (r"sglang", "sglang"), (r"trt-?llm|tensorrt", "trtllm"), (r"vllm", "vllm"), (r"raison", "raison"),
)  # fmt: skip
UNPREDICTED = r"per_mw|per_kw|per_w\b|per_joule"
GUESSING: Mapping[str, tuple[str, float]] = {
    "mtp": (r"\bmtp\b|multi-token", 1.8), "eagle": (r"eagle|medusa", 2.5), "draft": (r"speculat|draft", 2.5),
}  # fmt: skip
HOSTED = 3.5
"""Tokens a step: MTP's second token is accepted in 85-90 % (DeepSeek-V3 report, section 5.4.3); EAGLE-3 and drafts as
their papers' usual range."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a row measures: which figure, and of how many chips it is told."""

    metric: str
    per: str
    """all, chip or node."""

    @property
    def spread(self) -> str:
        """Whose error it shares."""
        return self.metric if self.metric in ("tpot", "ttft") else "rate"


def predict(row: Row) -> Prediction | None:
    """A prediction for a serving row; None for rows of another kind. UserError where the row lacks what is needed."""
    asked = asked_of(row)
    if asked is None:
        return None
    case, notes = case_of(row, asked)
    calibration = choose(case)
    case, more = resolved(case, row, asked, calibration.constants)
    value = value_of(case, asked, calibration.constants, row)
    factor = calibration.spread(asked.spread, row.origin)
    notes = (*notes, *more, f"constants of {calibration.name}, {calibration.points} points")
    return Prediction(Interval.within(value, factor), GROUPS[asked.metric], notes)


def asked_of(row: Row) -> Asked | None:
    """Which figure a row measures; None where it is not one of serving."""
    metric, unit = row.metric.lower(), row.unit.lower()
    if re.match(r"(?:tr|mlt|rl|sft|sl|tt|pe|k)-", row.id) or row.workload.says(r"pre-?train", r"fine-?tun", r"\bsft\b"):
        return None
    found = next((name for pattern, name in METRICS if re.search(pattern, metric)), None)
    if found is None or re.search(UNPREDICTED, metric):
        return None
    if found == "output" and re.search(r"/user|per user|tok/s/query", unit):
        found = "user"
    per = "chip" if re.search(r"/(?:gpu|chip|xpu)|per[ _](?:gpu|chip)", f"{unit} {metric}") else "node"
    return Asked(found, per if per == "chip" or re.search(r"per (?:\S+ )?node|/node", unit) else "all")


def engine_of(row: Row) -> str:
    """The engine that a row names; llama.cpp for GGUF's widths, TensorRT-LLM for NVIDIA's own results."""
    for words in (row.text.lower(), row.precision.lower(), row.source.lower()):
        for pattern, name in ENGINES:
            if re.search(pattern, words):
                return name
    if re.search(r"\bi?q\d", row.precision.lower()):
        return "llama.cpp"
    return ""


def case_of(row: Row, asked: Asked) -> tuple[Case, tuple[str, ...]]:
    """The row as a case, and what had to be assumed. Streams of 0 mean that none are told."""
    shape = _shape(row)
    chip, chips, notes = _chips(row, shape)
    width, said = _width(row, shape, chip)
    words, load, more = row.workload, *_load(row, asked)
    count = chips or smallest(shape, chip, width, load)
    layout = _layout(row, asked, shape, chip, int(count), engine_of(row))
    if not chips:
        more = (*more, f"{layout.chips} chips, the fewest that hold it")
    apart = words.says(r"disagg") or count > layout.chips and layout.dp >= UNIT
    case = Case(shape, chip, width, layout, load, engine_of(row), row.date, disaggregated=apart)
    return case, (*shape.assumed, *notes, *said, *more)


def _shape(row: Row) -> Shape:
    return find_model(row.model or row.id, row.params_total, row.params_active)


def _chips(row: Row, shape: Shape) -> tuple[Chip, float | None, tuple[str, ...]]:
    """The chip, how many (None: not told), and notes. Sockets of a CPU are one chip with the bandwidth of all."""
    chip = chip_in(row.hardware) or from_memory_words(row.hardware) or _class_of(row.hardware)
    if chip is None:
        raise UserError(f'{row.id}: the hardware "{row.hardware}" is not known')
    named, told = count_in(row.hardware), row.chips
    if chip.kind in ("cpu", "apple", "this"):
        sockets = 1 if row.workload.says("single socket") else named or told or chip.sockets
        return with_count(chip, sockets), 1, (f"{sockets:g} sockets",) if sockets > 1 else ()
    return chip, told if told and told >= (named or 1) else named or told, ()


def _class_of(hardware: str) -> Chip | None:
    """A typical machine of the class that the words name; None where they name none."""
    words = hardware.lower()
    if re.search(r"\bcpu\b|laptop|mini pc|ryzen|xeon|epyc|core", words):
        return chip_in("laptop") if not re.search(r"xeon|epyc", words) else chip_in("epyc 9004")
    return None


def _width(row: Row, shape: Shape, chip: Chip) -> tuple[Width, tuple[str, ...]]:
    """The row's width; else the model's own, or one that the chip has. Experts of gpt-oss are MXFP4 everywhere."""
    if shape.name.startswith("gpt-oss"):
        return WIDTHS["mxfp4"], ()
    width = width_in(row.precision) or width_in(row.text)
    if width is not None:
        return width, ()
    width = usual_width(shape, chip)
    return width, (f"weights in {width.name}",)


def _load(row: Row, asked: Asked) -> tuple[Load, tuple[str, ...]]:
    words, suite = row.workload, suite_of(row)
    notes: list[str] = []
    isl, osl = words.isl or (suite and suite.isl), words.osl or (suite and suite.osl)
    if suite and not words.isl:
        notes.append(f"lengths of {suite.name}: {suite.isl:g} in, {suite.osl:g} out")
    if words.context and not words.isl:
        isl, osl = words.context - (osl or 0) / 2, osl or 1024.0
        isl = max(isl, 1.0)
    if not isl or not osl:
        notes.append(f"{isl or 1024:g} tokens in, {osl or 1024:g} out")
    guessed, said = _guessing(row)
    load = Load(isl or 1024.0, osl or 1024.0, _streams(row, asked) or 0.0, guessed, words.hit_share or 0.0)
    return load, (*notes, *said)


def _guessing(row: Row) -> tuple[float, tuple[str, ...]]:
    words = row.workload
    text = f"{words.words} {row.precision.lower()}"
    if row.workload.says(r"\bapi\b") and "sambanova" in row.hardware.lower() and (row.params_active or 0) > 4e10:
        return HOSTED, (f"{HOSTED:g} tokens a step by guessing ahead, as its host says of dense models of 70 B and more",)
    for pattern, gain in GUESSING.values():
        if re.search(pattern, text) and not re.search(r"(?:no|without|w/o|off) *(?:mtp|eagle|spec)", text):
            gain = 1 + words.acceptance if words.acceptance else gain
            return gain, (f"{gain:g} tokens a step by guessing ahead",)
    return 1.0, ()


def _streams(row: Row, asked: Asked) -> float | None:
    words = row.workload
    if words.batch_per_chip and row.chips:
        return words.batch_per_chip * row.chips
    if words.batch and words.says("ranks") and row.chips:
        return words.batch * row.chips
    if words.concurrency or words.batch:
        return words.concurrency or words.batch
    if words.says(r"single[ -](?:stream|user|request|batch)", r"low[ -]latency", r"min(?:imum)?[ -]latency", r"peak decode"):
        return 1.0
    per_user = asked.metric == "user" and not words.says(r"throughput", "average")
    return 1.0 if per_user or row.metric.startswith(("decode_", "prefill_", "ttft")) and not words.says(*MOST) else None


FRONTIER = 16
"""Chips of the domain in which published frontiers were found, at most."""
MOST = (r"offline", r"max\w*\s+(?:\w+ )?throughput", r"peak throughput", r"\bserver\b", r"interactive", r"high[ -]throughput")


def _layout(row: Row, asked: Asked, shape: Shape, chip: Chip, chips: int, engine: str) -> Layout:
    """What the row says of its layout, else the usual one over its chips."""
    words = row.workload
    ranks = words.prefill_ranks if asked.metric == "prompt" else words.decode_ranks
    chips = int(ranks or (words.ep if words.ep and words.ep > 8 and words.ep >= chips else chips))
    tp, dp = int(words.tp or 0), int(words.dp or 1)
    if tp > chips or tp > 8 and chips <= 8:  # TP x EP written as TP
        tp = chips
    if engine in ("llama.cpp", "ktransformers") and not tp:
        return Layout(pp=chips)
    if tp and tp * dp <= chips and (dp > 1 or shape.routed or chips == tp):
        return Layout(tp=tp, dp=dp if shape.routed else 1, pp=int(words.pp or 1), ep=bool(words.ep and words.ep > 1))
    if tp and not shape.routed:
        return Layout(tp=tp, pp=int(words.pp or 1))
    return layout_for(shape, chip, chips)


def resolved(case: Case, row: Row, asked: Asked, constants: Constants) -> tuple[Case, tuple[str, ...]]:
    """The case with its streams: those told, those that a promised speed allows, or as many as fit; in the layout that
    serves cheapest then, where the row tells none."""
    words, suite = row.workload, suite_of(row)
    if case.load.streams:
        return case, ()
    limit = 1 / words.user_speed if words.user_speed else suite.tpot_limit(words.words) if suite else None
    limits = Limits(tpot=limit) if limit else Limits()
    said = f"as many streams as keep a token within {limit * 1e3:.0f} ms" if limit else "as many streams as fit"
    if words.tp or words.ep or words.dp or case.layout.chips >= UNIT or case.chip.kind not in ("gpu", "tpu"):
        return filled_up(case, constants, limits), (said,)
    layouts = list(candidates(case.shape, int(row.chips) if row.chips else None, min(case.chip.domain, FRONTIER)))
    if case.chip.vendor != "NVIDIA":  # whose engines alone ran ranks of attention and prefill apart in published runs
        layouts = [layout for layout in layouts if layout.dp == 1 and layout.chips <= case.chip.domain]
    cases = [case] if row.chips or case.chip.vendor != "NVIDIA" else [case, replace(case, disaggregated=True)]
    found = [choice for each in cases if (choice := best(each, layouts, constants, limits, "price"))]
    if not found:
        return filled_up(case, constants, limits), (said,)
    chosen = max(found, key=lambda choice: choice.a_chip).case
    return chosen, (f"{said}, in the layout that is cheapest then: {chosen.layout.words}",)


def value_of(case: Case, asked: Asked, constants: Constants, row: Row) -> float:
    """The figure in the row's unit."""
    found = figures(case, constants)
    metric, load = asked.metric, case.load
    seconds = {"tpot": found.speed.tpot, "ttft": found.speed.ttft}
    if metric in seconds:
        return seconds[metric] * (1.0 if re.search(r"^s|sec", row.unit.lower()) else 1e3)
    if metric == "user":
        return found.user
    if metric.startswith("cost"):
        return _cost(case, found.output / found.chips, found.prompt / found.chips, asked, row)
    rate = {"output": found.output, "total": found.output + found.prompt, "requests": found.output / load.osl}
    told = _prompts(case, constants, row) if metric == "prompt" else rate[metric]
    if row.metric.startswith("decode_"):
        told = found.speed.batch / found.speed.tpot
    if row.workload.says(r"^decode|decode ep|generation only") and metric == "output":
        told = _decoding_alone(case, constants)
    return told * _scale(case, asked, row, found.chips)


def _prompts(case: Case, constants: Constants, row: Row) -> float:
    """Prompt tokens/s: one prompt at a time for a single stream, else steps as large as engines make them."""
    single = case.load.streams == 1 and case.layout.dp == 1
    return prompt_rate(case, constants, row.workload.tokens_per_chip or (0.0 if single else STEP))


def _decoding_alone(case: Case, constants: Constants) -> float:
    """Tokens/s of chips that decode only, their prompts computed elsewhere."""
    case = replace(case, load=replace(case.load, known=1.0))
    speed = figures(case, constants).speed
    return speed.batch / speed.tpot


def _scale(case: Case, asked: Asked, row: Row, chips: float) -> float:
    """From an instance to what the row tells of: a chip, a node of eight, or all of the row's chips."""
    if asked.per == "chip":
        return 1 / chips
    if asked.per == "node":
        return 8 / chips
    whole = row.chips if row.chips and case.chip.kind not in ("cpu", "apple", "this") and case.layout.pp == 1 else chips
    return max(1.0, whole / chips) if not case.disaggregated else whole / chips


def _cost(case: Case, output: float, prompt: float, asked: Asked, row: Row) -> float:
    """USD for a million tokens, at the price that the row tells, or what its owner pays for the chip."""
    price = row.workload.usd_per_hour or (case.chip.price("hyperscaler") if row.id.startswith("ix") else None)
    price = price or case.chip.usd_per_hour
    if price is None:
        raise UserError(f"{row.id}: no price of {case.chip.name} is known; set usd_per_hour in a chips.csv of your own")
    return price / 3.6e-3 / (output + (prompt if asked.metric == "cost_total" else 0.0))
