"""A file as bytes in memory that the system reads when they are looked at, and may forget again.

The mapping is read-only and shared: a private one counts against the memory that the system promises, so that a model
larger than memory would not open. Not covered: a file that somebody shortens while it is mapped (the system ends the
process then).
"""

from __future__ import annotations

import mmap
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from raison.errors import CheckpointError


def map_file(path: Path) -> mmap.mmap:
    """The whole file; CheckpointError when it is missing, empty or cannot be read."""
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}")
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError as error:
        raise CheckpointError(f"{path} is empty, it was cut off; fetch it again") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error


def as_bytes(mapped: mmap.mmap) -> Tensor:
    """uint8 on the mapping, which it keeps open. Whoever writes to it ends the process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(np.frombuffer(mapped, np.uint8))
