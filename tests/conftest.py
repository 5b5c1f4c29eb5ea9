"""Set before torch is loaded, here and in the processes that tests start.

One thread: the products of tests are too small to share, a process that forked cannot use threads its parent made, and
sums do not depend on how many cores a machine has.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
