"""DeepConf: votes weighted by a sample's confidence, and weak samples ended early (Fu et al. 2025, arXiv 2508.15260).

Token confidence is the negative mean log-probability of the likeliest tokens (section 2.2), high where the model is
sure, from `Event.top`; where a sampler tells none, the sampled token's own log-probability takes its place, and a
sample's weight is e to its confidence, which keeps it above zero. Group confidence is its mean over a sliding window; a
sample's is the lowest of its groups (section 3.1). Online (section 3.3): `warmup` samples run to their end and set the
bar, the percentile of their confidences that keeps the share `keep` of them; later samples are cancelled as soon as a
whole window falls below it. The vote counts those that held it, weighted by confidence, and ends when the leader has
the share `consensus` of all weight. The window is the paper's 2,048 tokens of 64 k brought to shorter thoughts, a 32nd
of the limit; and a few samples warm up where the paper has 16, for there are a few in all. A sampler that tells
log-probabilities at the end alone has weak samples weighed, not ended early; one that tells none has a plain vote.

Log-probabilities that an engine forced (a closing tag) are 0 and left out. Not covered: bottom-10 % and tail variants.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from raison.engine.sequence import Event
from raison.think.ballot import Ballot
from raison.think.equivalence import Equivalence, form
from raison.think.strategy import NOTHING, Bound, Branch, Orders, Outcome, Tally


@dataclass(frozen=True, slots=True)
class Confidence:
    """DeepConf's constants."""

    warmup: int = 4
    window: int = 16
    keep: float = 0.5
    """Share of the warm-up samples that the bar would have kept: 0.1 is the paper's DeepConf-low, 0.9 its -high, both
    with 16 samples to warm up; of a few it is the median.
    """
    consensus: float = 0.95


class Gauge:
    """A sample's confidence as its tokens come: the mean over the last `window`, and the lowest such mean."""

    def __init__(self, window: int) -> None:
        self._last: deque[float] = deque(maxlen=window)
        self._sum = 0.0
        self.lowest = float("inf")
        """Over whole windows; infinite before the first."""

    def take(self, confidence: float) -> None:
        if len(self._last) == self._last.maxlen:
            self._sum -= self._last[0]
        self._last.append(confidence)
        self._sum += confidence
        if len(self._last) == self._last.maxlen:
            self.lowest = min(self.lowest, self.mean)

    @property
    def heard(self) -> bool:
        return bool(self._last)

    @property
    def mean(self) -> float:
        return self._sum / len(self._last) if self._last else 0.0

    @property
    def least(self) -> float:
        """The sample's confidence: its lowest group, or the mean of one shorter than a window."""
        return self.lowest if self.lowest != float("inf") else self.mean


def token_confidence(event: Event) -> float | None:
    """C = -(1/k) sum log p over the likeliest k; the sampled token's log p where none are told; None without either."""
    if event.top:
        return -sum(logprob for _, logprob in event.top) / len(event.top)
    return event.logprob


def bar_of(confidences: Sequence[float], keep: float) -> float:
    """The (1 - keep) percentile: a bar that the share `keep` of these reach."""
    kept = max(1, round(keep * len(confidences)))
    return sorted(confidences, reverse=True)[kept - 1]


class DeepConf:
    """Online DeepConf; `most` samples at most."""

    def __init__(self, settings: Confidence, most: int, same: Equivalence) -> None:
        self._settings, self._most = settings, most
        self._ballot = Ballot(same)
        self._gauges: dict[int, Gauge] = {}
        self._told_top = False
        self._bar: float | None = None
        self._why = ""

    def begin(self) -> Orders:
        return self._start(min(self._settings.warmup, self._most))

    def hear(self, branch: int, event: Event) -> Orders:
        gauge = self._gauges[branch]
        confidence = token_confidence(event)
        if confidence:  # 0: the engine wrote this token itself, or greedy sampling left no other
            self._told_top = self._told_top or bool(event.top)
            gauge.take(confidence)
        if event.finished is not None:
            self._ballot.end(branch, event.finished)
            for logprob in () if gauge.heard else event.finished.logprobs:
                gauge.take(logprob)
            return NOTHING if self._why else self._ended(branch)
        if not self._why and self._bar is not None and gauge.lowest < self._bar:
            return Orders(cancel=(branch,))
        return NOTHING

    @property
    def outcome(self) -> Outcome | None:
        return self._ballot.outcome(self._why) if self._why else None

    def tally(self) -> Tally:
        return self._ballot.tally(self._why)

    def bound(self, sample_tokens: int) -> Bound:
        return Bound(min(self._settings.warmup, self._most), self._most * sample_tokens)

    def _ended(self, branch: int) -> Orders:
        if self._bar is None:
            if len(self._ballot.ended) < len(self._gauges):
                return NOTHING
            self._bar = self._set_bar()
            for number in self._gauges:
                self._cast(number)
        else:
            self._cast(branch)
        return self._decide()

    def _set_bar(self) -> float:
        """Of the warm-up samples that came to an answer; where none did, no bar."""
        answered = [n for n, completion in self._ballot.ended.items() if form(completion.answer) is not None]
        return bar_of([self._gauges[n].least for n in answered], self._settings.keep) if answered else -math.inf

    def _cast(self, branch: int) -> None:
        least = self._gauges[branch].least
        if self._bar is not None and least >= self._bar:
            self._ballot.cast(branch, least if self._told_top else math.exp(least))

    def _decide(self) -> Orders:
        """Stop at the consensus or the end; else keep as many under way as there were to warm up."""
        weights, heard = self._ballot.weights, len(self._ballot.ended)
        if weights and weights[0] >= self._settings.consensus * sum(weights):
            self._why = f"{weights[0] / sum(weights):.0%} of the confidence is with the leader"
        elif heard == self._most:
            self._why = f"all {self._most} samples heard"
        if self._why:
            return Orders(cancel=tuple(number for number in self._gauges if number not in self._ballot.ended))
        return self._start(min(self._most, heard + self._settings.warmup) - len(self._gauges))

    def _start(self, count: int) -> Orders:
        first = len(self._gauges)
        numbers = range(first, first + max(0, count))
        self._gauges.update((number, Gauge(self._settings.window)) for number in numbers)
        return Orders(start=tuple(map(Branch, numbers)))
