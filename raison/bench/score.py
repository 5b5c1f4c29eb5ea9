"""What a sheet of judged samples says: pass@1 over seeds, pass@k, maj@k, strict and lenient, and two models compared.

pass@k is the unbiased estimator (Chen et al. 2021, arXiv:2107.03374, eq. 1). maj@k is self-consistency (Wang et al.
2022, arXiv:2203.11171): the commonest answer of k samples by equivalence, over as many groups of k as there are; where
nobody has a majority the earliest leads, as in `raison think`. Intervals are intervals.py's, clustered by problem.
Not covered: drawing the samples (accuracy.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

from raison.bench.accuracy import Measured, Sample, Sheet
from raison.bench.intervals import Difference, McNemar, clustered, mcnemar, paired_difference
from raison.records import Completion
from raison.think.ballot import Ballot
from raison.think.equivalence import SameForm
from raison.think.measure import Estimate, pass_at_k, wilson


@dataclass(frozen=True, slots=True)
class Score:
    """One model over all problems."""

    pass_at_1: Estimate
    """Strict, the mean over all seeds, clustered by problem."""
    lenient: Estimate | None
    """The same by the checker's forgiving reading; None where it has one only."""
    seeds: tuple[Estimate, ...]
    """pass@1 of each seed alone, with Wilson's interval."""
    seed_deviation: float
    """Standard deviation of those."""
    pass_at_k: dict[int, Estimate]
    maj_at_k: dict[int, Estimate]
    tokens: float
    """Mean of a sample."""
    thinking_tokens: float
    cut_share: float
    silent_share: float
    """Samples without an answer."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The first model against the second, on the same problems."""

    pass_at_1: Difference
    maj_at_k: dict[int, Difference]
    first_samples: McNemar
    """Of seed 0 alone, since the test is of one answer a problem."""
    majority: McNemar | None
    """Of the vote over all samples; None with one sample."""


def score(sheet: Sheet, ks: Sequence[int]) -> Score:
    """`ks` beyond the number of samples are left out."""
    n = len(sheet[0])
    ks = [k for k in ks if k <= n]
    flat = [sample for row in sheet for sample in row]
    seeds = tuple(wilson(sum(row[i].correct for row in sheet), len(sheet)) for i in range(n))
    return Score(
        pass_at_1=clustered(rights(sheet), n),
        lenient=_lenient(sheet),
        seeds=seeds,
        seed_deviation=stdev(seed.value for seed in seeds) if n > 1 else 0.0,
        pass_at_k={k: clustered([pass_at_k(n, sum(s.correct for s in row), k) for row in sheet], n) for k in ks},
        maj_at_k={k: clustered(majorities(sheet, k), n // k) for k in ks},
        tokens=fmean(sample.tokens for sample in flat),
        thinking_tokens=fmean(sample.thinking_tokens for sample in flat),
        cut_share=fmean(sample.cut for sample in flat),
        silent_share=fmean(not sample.answer.strip() for sample in flat),
    )


def compare(ours: Sheet, theirs: Sheet, ks: Sequence[int]) -> Comparison:
    """Both sheets are of the same problems in the same order."""
    n = min(len(ours[0]), len(theirs[0]))
    votes = {k: (majorities(ours, k), majorities(theirs, k)) for k in {*ks, n} if 1 < k <= n}
    firsts = ([row[0].correct for row in sheet] for sheet in (ours, theirs))
    return Comparison(
        pass_at_1=paired_difference(rights(ours), rights(theirs)),
        maj_at_k={k: paired_difference(*votes[k]) for k in sorted(votes)},
        first_samples=mcnemar(*firsts),
        majority=mcnemar(*(_first_votes(sheet, n) for sheet in (ours, theirs))) if n > 1 else None,
    )


def rights(sheet: Sheet) -> list[float]:
    """Of each problem the share of samples that are right."""
    return [fmean(sample.correct for sample in row) for row in sheet]


def majorities(sheet: Sheet, k: int) -> list[float]:
    """Of each problem the share of its groups of k samples whose vote is right."""
    starts = range(0, len(sheet[0]) - k + 1, k)
    return [fmean(voted(row[i : i + k]).correct for i in starts) for row in sheet]


def voted(samples: Sequence[Sample]) -> Sample:
    """The one that speaks for the commonest answer."""
    ballot = Ballot(SameForm())
    for number, sample in enumerate(samples):
        ballot.end(number, _said(sample))
        ballot.cast(number)
    return samples[ballot.outcome("all heard").chosen or 0]


def as_json(measured: Measured, ks: Sequence[int]) -> dict[str, Any]:
    """A model's identity with its figures, without the samples."""
    plain = {"checker": measured.checker, "seconds": measured.seconds}
    return {**measured.identity, **plain, **asdict(score(measured.samples, ks))}


def _first_votes(sheet: Sheet, k: int) -> list[bool]:
    return [voted(row[:k]).correct for row in sheet]


def _lenient(sheet: Sheet) -> Estimate | None:
    if any(sample.lenient is None for row in sheet for sample in row):
        return None
    return clustered([fmean(bool(sample.lenient) for sample in row) for row in sheet], len(sheet[0]))


def _said(sample: Sample) -> Completion:
    """As much of the completion as a vote looks at."""
    return Completion(
        text=sample.answer, thinking="", answer=sample.answer, token_ids=(), logprobs=(sample.likelihood,),
        finish_reason="stop", prompt_tokens=0, cached_tokens=0, thinking_tokens=0, answer_tokens=0, forced_close=False,
        seed=0, first_token_seconds=0.0, seconds=0.0,
    )  # fmt: skip
