"""Whether the time of a refusal tells if a key's id exists: a measurement, not a test of the suite.

    python tests/access/timing.py [CALLS]

Refusals of unknown ids, of known ids with a wrong secret and of revoked ones are timed in random order, and each kind
is compared with the unknown ones by the Mann-Whitney U test, two-sided. Two comparisons at 0.0005 each: where there is
nothing to find, one run in a thousand says there is.
"""

from __future__ import annotations

import math
import random
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from raison.serve import keyring
from raison.serve.access import open_access
from raison.serve.keys import Key, mint
from raison.serve.refusal import Denied

KEYS = 64
ALARM = 0.0005


def main(calls: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        access = open_access(Path(folder))
        kinds = {"unknown": [mint()[0] for _ in range(KEYS)], "known": [], "revoked": []}
        for kind in ("known", "revoked"):
            for _ in range(KEYS):
                public, text = mint()
                key = replace(Key(public, kind, 1.0), revoked_at=1.0 if kind == "revoked" else None)
                access.store.write(lambda connection, key=key, text=text: keyring.create(connection, key, text))
                kinds[kind].append(public)
        seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(calls * len(kinds)):
            kind = random.choice(list(kinds))
            header = f"Bearer sk-raison-{random.choice(kinds[kind])}-{mint()[1][-43:]}"
            began = time.perf_counter()
            with suppress(Denied):
                access.caller(header)
            seconds[kind].append(time.perf_counter() - began)
        access.close()
    return told(seconds)


def told(seconds: Mapping[str, list[float]]) -> int:
    alarms = 0
    for kind in ("known", "revoked"):
        p = mann_whitney(np.array(seconds[kind]), np.array(seconds["unknown"]))
        medians = [1e6 * float(np.median(seconds[name])) for name in (kind, "unknown")]
        print(f"{kind}: median {medians[0]:.2f} us, unknown {medians[1]:.2f} us, n {len(seconds[kind])}, p {p:.4f}")
        alarms += p < ALARM
    print("a difference was found" if alarms else "no difference was found")
    return alarms


def mann_whitney(one: np.ndarray, other: np.ndarray) -> float:
    """Two-sided p by the normal approximation, which at thousands of samples is as good as exact."""
    ranks = np.argsort(np.argsort(np.concatenate([one, other]))) + 1.0
    n, m = len(one), len(other)
    u = ranks[:n].sum() - n * (n + 1) / 2
    z = (u - n * m / 2) / math.sqrt(n * m * (n + m + 1) / 12)
    return math.erfc(abs(z) / math.sqrt(2))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000))
