"""Requests that are not served, as an HTTP status, headers and the error body that OpenAI's clients know.

A message never repeats what was sent as a key, and one who holds no valid key learns nothing from it: an unknown key, a
wrong secret and a malformed header read the same. Not covered: mistakes in a request itself (the server's protocol).
"""

from __future__ import annotations

import math
from typing import Any

from raison.errors import UserError

QUOTA = "insufficient_quota"
RATE = "rate_limit_exceeded"


class Refused(UserError):
    """A request that is not served. `status` is HTTP's; `body` and `headers` are what is sent with it."""

    def __init__(self, message: str, status: int, kind: str, code: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.kind, self.code = status, kind, code
        self.headers = headers or {}

    @property
    def body(self) -> dict[str, Any]:
        """OpenAI's error object, whose fields SDKs read."""
        return {"error": {"message": str(self), "type": self.kind, "param": None, "code": self.code}}


class Denied(Refused):
    """Who calls is not known (401), or known and not entitled (403)."""


class Limited(Refused):
    """Too much, too fast, or the quota is spent: 429.

    `retry_after` is in seconds; None = it will not fit however long one waits, and SDKs are told not to retry.
    """

    def __init__(self, message: str, kind: str, code: str, retry_after: float | None) -> None:
        super().__init__(message, 429, kind, code, _retry_headers(code, retry_after))
        self.retry_after = retry_after


class Unavailable(Refused):
    """The database cannot be reached or is too busy: 503, worth another try.

    The message is the driver's and may name hosts, users and files: it is for commands and logs. Who calls, maybe
    without a key, is told no more than that it is so.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, 503, "server_error", "database_unavailable", {"Retry-After": "2"})

    @property
    def body(self) -> dict[str, Any]:
        told = "the server's database cannot be used now; try again soon"
        return {"error": {**super().body["error"], "message": told}}


def _retry_headers(code: str, retry_after: float | None) -> dict[str, str]:
    """Retry-After in whole seconds (RFC 9110, 10.2.3); x-should-retry is what OpenAI's SDKs obey before all else."""
    headers = {} if retry_after is None else {"Retry-After": str(max(1, math.ceil(retry_after)))}
    if retry_after is None or code == QUOTA:
        headers["x-should-retry"] = "false"
    return headers


def unknown_key() -> Denied:
    """The one answer to everything that is not a valid key."""
    return Denied(
        "the API key is missing or not valid; send it as 'Authorization: Bearer KEY'",
        401, "invalid_request_error", "invalid_api_key", {"WWW-Authenticate": "Bearer"},
    )  # fmt: skip


def ended_key(how: str) -> Denied:
    """For the holder of a key that was valid once; `how` is such as "was revoked"."""
    return Denied(
        f"this API key {how}; ask for a new one",
        401, "invalid_request_error", "invalid_api_key", {"WWW-Authenticate": "Bearer"},
    )  # fmt: skip


def not_invited() -> Denied:
    """For the holder of a valid key who is not on the list of the early access."""
    return Denied(
        "this server is in early access and this key is not on its list yet; ask who gave you the key",
        403, "invalid_request_error", "early_access_required",
    )  # fmt: skip


def model_not_allowed() -> Denied:
    """The same whether the model exists or not, so that a key cannot find out about models it may not use."""
    return Denied(
        "this API key may not use that model; GET /v1/models lists those it may",
        403, "invalid_request_error", "model_not_found",
    )  # fmt: skip
