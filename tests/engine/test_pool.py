"""The pool of threads: a piece of work is done whole, whatever help there is. Each in a process of its own, whose first
step it is.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from raison.engine.kernels import native

pytestmark = pytest.mark.skipif(native.library().handle is None, reason="no native code for this processor")

DRAWS = """
import ctypes, os, threading
import numpy as np, torch
from raison.engine.kernels import native
from raison.engine.slots import LIMITS

ROWS = 64
limits = np.zeros(ROWS, LIMITS)
limits["top_p"] = 1

def drawn(likely):
    '''Whether all rows draw the one token that they can.'''
    logits = torch.full((ROWS, 256), -100.0)
    logits[:, likely] = 100
    asks = native.Asks(np.arange(ROWS), np.ones(ROWS, np.float32), np.full(ROWS, 0.5), limits)
    return (native.draw(logits, 256, asks)[0] == likely).all()

torch.set_num_threads(4)
"""


def run(script: str) -> None:
    done = subprocess.run([sys.executable, "-c", DRAWS + script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_threads_that_cannot_be_made_are_done_without() -> None:
    """As under a limit of a container: here each would want a stack of 128 TB."""
    run("""
attributes = ctypes.create_string_buffer(64)
libc = ctypes.CDLL(None)
libc.pthread_attr_init(attributes)
assert libc.pthread_attr_setstacksize(attributes, ctypes.c_size_t(1 << 47)) == 0
assert libc.pthread_setattr_default_np(attributes) == 0
assert drawn(7) and drawn(8)
native.library().handle.raison_warm(1 << 20)
""")


def test_a_process_that_forks_goes_on_alone() -> None:
    run("""
assert drawn(7)
if (child := os.fork()) == 0:
    os._exit(0 if drawn(8) and drawn(9) else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert drawn(10)
""")


def test_callers_at_once_do_not_mix_their_work() -> None:
    """Eight of them, each of which asks for more threads than there are cores."""
    run("""
torch.set_num_threads(16)
right = []
def work(likely):
    right.append(all([drawn(likely) for _ in range(200)]))
callers = [threading.Thread(target=work, args=[i]) for i in range(8)]
for caller in callers: caller.start()
for caller in callers: caller.join()
assert right == [True] * 8
""")
