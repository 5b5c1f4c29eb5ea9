"""What several tests of the tasks share."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

HOLEY = Path(__file__).with_name("holey.py")


@pytest.fixture(scope="session")
def holey_path() -> str:
    return str(HOLEY)


@pytest.fixture(scope="session")
def holey_module() -> ModuleType:
    """The checkers with holes, in this process."""
    spec = importlib.util.spec_from_file_location("holey", HOLEY)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
