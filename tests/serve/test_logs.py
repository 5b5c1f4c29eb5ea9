"""Lines of the log are JSON, whatever they hold."""

from __future__ import annotations

import json
import logging

from raison.serve.logs import JsonFormatter


def test_a_first_token_that_never_came_is_null() -> None:
    """Readers of lines do not know NaN."""

    def unknown(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    fields = {"first_token_seconds": float("nan"), "seconds": float("inf"), "branches": 1}
    record = logging.makeLogRecord({"msg": "answered", **fields})
    row = json.loads(JsonFormatter().format(record), parse_constant=unknown)
    assert (row["message"], row["first_token_seconds"], row["seconds"], row["branches"]) == ("answered", None, None, 1)
