"""Every variant of native code that was compiled and that this processor runs, one after the other."""

from __future__ import annotations

import pytest

from raison.engine.kernels import native


@pytest.fixture(params=sorted(native.VARIANTS))
def variant(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    if name not in native.runnable():
        pytest.skip(f"this processor has no {name}")
    if (found := native.opened(name)).handle is None:
        pytest.skip(found.why)
    monkeypatch.setattr(native, "library", lambda: found)
    return name
