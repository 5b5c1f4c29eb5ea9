"""Set before torch is loaded, here and in the processes that tests start.

One thread: the products of tests are too small to share, a process that forked cannot use threads its parent made, and
sums do not depend on how many cores a machine has.
"""

from __future__ import annotations

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def native_code() -> None:
    """For what holds to the last bit, whatever is computed beside it: PyTorch rounds differently for other shapes."""
    from raison.engine.kernels.native import library  # loads torch

    if library().handle is None:
        pytest.skip(library().why)
