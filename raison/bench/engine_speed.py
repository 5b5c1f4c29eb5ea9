"""`raison bench engine`: tokens/s of the engine over parallel sequences, beside rivals in the same run.

Everyone writes the same number of tokens after the same prompts, ends of text ignored, sampled at the same temperature;
runs alternate, so that a noisy machine disturbs all alike, and the median counts. Of a rival's settings the best counts
at each number of streams. Beside speed stand perplexity on a passage, memory (resident.py), and what our decoding makes
of this machine (shares.py). Not covered: servers; who runs (rivals.py) and what (loads.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from raison.bench.loads import Kind, Load, Work, decoding, prefill
from raison.bench.note import Note, unheard
from raison.bench.quality import PASSAGE, perplexity
from raison.bench.resident import resident
from raison.bench.rival import Timed
from raison.bench.rivals import OURS, Setting, check_names, loaded, settings_of
from raison.bench.shares import shares
from raison.engine.twin import Dtype
from raison.reasoner import stored_width
from raison.text.tokenizer import Tokenizer
from raison.weights import source

PASSAGE_TOKENS = 704
"""Of the passage at most."""

Figures = dict[str, dict[str, float]]
"""By runner, then by streams or by length of the prompt."""


@dataclass(frozen=True, slots=True)
class Table:
    """What one load came to; a rate is of written tokens a second, with `prefill` of tokens of the prompt."""

    rates: Figures = field(default_factory=dict)
    first_token_seconds: Figures = field(default_factory=dict)
    later_rates: Figures = field(default_factory=dict)
    """Of decoding alone: without the prompts and the first token of each stream, where that was told."""

    def add(self, name: str, column: int, runs: Sequence[Timed], tokens: int | None = None) -> None:
        """Medians of runs, which were of so many tokens if not of those they wrote."""
        rate = median(run.rate if tokens is None else tokens / run.seconds for run in runs)
        self.rates.setdefault(name, {})[str(column)] = rate
        self.first_token_seconds.setdefault(name, {})[str(column)] = median(run.first_seconds for run in runs)
        if tokens is None and all(run.tokens > column and run.seconds > run.first_seconds for run in runs):
            self.later_rates.setdefault(name, {})[str(column)] = median(run.later_rate(column) for run in runs)


def bench_engine(
    model: str, load: Load, against: Sequence[str], widths: Sequence[Dtype], threads: int, scratch: Path,
    note: Note = unheard,
) -> dict[str, Any]:  # fmt: skip
    """Figures as plain numbers: the main load's table and `ratios` (our best over each rival's best, by streams) at the
    top, every load's under `loads`.
    """
    check_names(against)
    opened = source.open_model(model)
    ours = [Setting(OURS, width, model, threads) for width in widths or (stored_width(opened.tensors),)]
    rivals, absent = settings_of(model, against, threads, scratch, note)
    settings, tokenizer = [*ours, *rivals], loaded(model).tokenizer
    quality = _quality(settings, tokenizer, opened.spec.max_position_embeddings, note)
    tables = dict(zip(load.decoding, _decoding(settings, load, tokenizer, note), strict=True))
    if "prefill" in load.kinds:
        tables["prefill"] = _prefill(settings, load, tokenizer, opened.spec.max_position_embeddings, note)
    found = {kind: {**asdict(tables[kind]), "ratios": ratios(tables[kind].rates)} for kind in load.kinds}
    return {
        "model": str(opened.path), "threads": threads, "prompt": load.prompt, "tokens": load.tokens,
        "temperature": load.temperature, "rounds": load.rounds, "main": load.kinds[0], **found[load.kinds[0]],
        "loads": found, "perplexity": quality, "memory_bytes": _memory(settings, load, tokenizer, note),
        "memory_streams": max(load.streams), "absent": absent,
        **shares(opened, _ours(tables[load.decoding[0]].later_rates) if load.decoding else {}, threads),
    }  # fmt: skip


def ratios(rates: Figures) -> Figures:
    """Our best over each rival's best, in every column that both have."""
    best: Figures = {}
    for name, row in rates.items():
        whose = best.setdefault(name.partition(" ")[0], {})
        whose |= {column: max(rate, whose.get(column, 0.0)) for column, rate in row.items()}
    ours = best.pop(OURS)
    return {rival: {column: ours[column] / rate for column, rate in row.items()} for rival, row in best.items()}


def _ours(rates: Figures) -> dict[str, float]:
    """By streams, the best of our ways."""
    rows = [row for name, row in rates.items() if name.startswith(f"{OURS} ")]
    return {column: max(row[column] for row in rows) for column in (rows[0] if rows else ())}


def _quality(settings: Sequence[Setting], tokenizer: Tokenizer, longest: int, note: Note) -> dict[str, float]:
    """Perplexity of each that tells its logits."""
    ids = tokenizer.encode(PASSAGE)[: min(PASSAGE_TOKENS, longest)]
    found = {}
    for setting in settings:
        runner = setting.make(1, len(ids))
        logits = runner.logits(ids)
        runner.close()
        if logits is not None:
            found[setting.name] = perplexity(logits, ids)
    said = "  ".join(f"{name} {value:.4g}" for name, value in found.items())
    note(f"perplexity of {len(ids)} tokens: {said}")
    return found


def _decoding(settings: Sequence[Setting], load: Load, tokenizer: Tokenizer, note: Note) -> list[Table]:
    """A table for each kind of prompts; the runners of a number of streams do them all."""
    tables: list[Table] = [Table() for _ in load.decoding]
    for streams in load.streams if tables else ():
        works = [decoding(load, kind, streams, tokenizer) for kind in load.decoding]
        for kind, table, found in zip(load.decoding, tables, _timed(settings, works, load.rounds), strict=True):
            for name, runs in found.items():
                table.add(name, streams, runs)
            note(_said(f"{streams} streams, {_prompts(kind)}, tokens/s", table, streams))
    return tables


def _prefill(settings: Sequence[Setting], load: Load, tokenizer: Tokenizer, longest: int, note: Note) -> Table:
    lengths = [length for length in load.prefill if length < longest]
    if cut := sorted(set(load.prefill) - set(lengths)):
        note(f"the model reads {longest} tokens, so that prompts of {', '.join(map(str, cut))} are left out")
    table, works = Table(), [prefill(load, length, tokenizer) for length in lengths]
    for length, found in zip(lengths, _timed(settings, works, load.rounds), strict=True):
        for name, runs in found.items():
            table.add(name, length, runs, tokens=length)
        note(_said(f"a prompt of {length}, tokens/s of it", table, length))
    return table


def _memory(settings: Sequence[Setting], load: Load, tokenizer: Tokenizer, note: Note) -> dict[str, int]:
    """Of each runner at the most streams, with prompts that differ, so that nobody can share them."""
    work = decoding(load, "different", max(load.streams), tokenizer)
    found = {setting.name: resident(setting, work) for setting in settings}
    note(f"memory, MiB: {'  '.join(f'{name} {size / 2**20:,.0f}' for name, size in found.items())}")
    return found


def _timed(settings: Sequence[Setting], works: Sequence[Work], rounds: int) -> list[dict[str, list[Timed]]]:
    """For each work, each runner's runs: in turn, after one of each that warms up."""
    if not works:
        return []
    streams, context = max(work.streams for work in works), max(work.context for work in works)
    runners = {setting.name: setting.make(streams, context) for setting in settings}
    found = []
    for work in works:
        runs: dict[str, list[Timed]] = {name: [] for name in runners}
        for turn in range(rounds + 1):
            for name, runner in runners.items():
                once = runner.generate(work.prompts, work.tokens, work.temperature)
                if turn:
                    runs[name].append(once)
        found.append(runs)
    for runner in runners.values():
        runner.close()
    return found


def _prompts(kind: Kind) -> str:
    return "one prompt" if kind == "shared" else "a prompt each"


def _said(what: str, table: Table, column: int) -> str:
    return f"{what}: " + "  ".join(f"{name} {row[str(column)]:,.0f}" for name, row in table.rates.items())
