"""A folder that one process holds: seen by others, and free again however the process ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from raison import files
from raison.errors import UserError
from raison.files import holding, is_held

HOLDER = """
import sys, time
from pathlib import Path
from raison.files import holding
with holding(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_held_until_its_holder_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "HELD_PAUSE", 0.0)
    assert not is_held(tmp_path)
    root = Path(__file__).parents[1]
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], cwd=root, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        assert is_held(tmp_path)
        with pytest.raises(UserError, match="another process is at work"), holding(tmp_path):
            pass
        holder.send_signal(signal.SIGKILL)
    assert not is_held(tmp_path)
    with holding(tmp_path):
        assert is_held(tmp_path)
    assert not is_held(tmp_path)


def test_asking_does_not_keep_others_out(tmp_path: Path) -> None:
    with holding(tmp_path):
        pass
    assert not is_held(tmp_path)
    with (tmp_path / files.HELD).open() as asking:
        files.fcntl.flock(asking, files.fcntl.LOCK_SH)
        assert not is_held(tmp_path), "one who asks is not one who works"
