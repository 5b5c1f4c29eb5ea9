"""Structured logs: one JSON object a line on stderr, what happened and to which request, never the texts.

Not covered: where logs go from there.
"""

from __future__ import annotations

import json
import logging
import math
import sys
from datetime import UTC, datetime
from typing import Any

STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}


class JsonFormatter(logging.Formatter):
    """Time, level, logger, message, whatever `extra` holds, and a traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        extra = {name: _said(value) for name, value in vars(record).items() if name not in STANDARD}
        row: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **extra,
        }
        if record.exc_info:
            row["traceback"] = self.formatException(record.exc_info)
        return json.dumps(row, default=str, ensure_ascii=False)


def _said(value: Any) -> Any:
    """JSON has no NaN, which stands for what never was, such as a first token; readers of lines stumble over it."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def log_as_json(level: str) -> None:
    """Send the server's logs, those of uvicorn and of the sender of spans to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name in ("raison.serve", "uvicorn", "opentelemetry"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level.upper())
