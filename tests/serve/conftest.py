"""One server for the tests that only ask."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serve.serving import Served, serving


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("home")) as one:
        yield one
        one.quiet()
