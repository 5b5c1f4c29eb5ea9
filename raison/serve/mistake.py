"""Mistakes in a request, as an HTTP status and OpenAI's error body, which names the field. Not covered: who may ask."""

from __future__ import annotations

from typing import Any

from raison.serve.refusal import Refused


class Mistake(Refused):
    """A request that cannot be served as it is: 400 unless another 4xx says it better."""

    def __init__(self, message: str, param: str | None = None, code: str = "invalid_value", status: int = 400) -> None:
        super().__init__(message, status, "invalid_request_error", code)
        self.param = param

    @property
    def body(self) -> dict[str, Any]:
        return {"error": {**super().body["error"], "param": self.param}}


def unknown_model(name: str, served: str) -> Mistake:
    return Mistake(f'there is no model "{name}" here; this server has: {served}', "model", "model_not_found", 404)


def shutting_down() -> Refused:
    return unavailable("the server is shutting down", "draining")


def unavailable(message: str, code: str, retry_after: int = 5) -> Refused:
    """503: not now."""
    return Refused(message, 503, "server_error", code, {"Retry-After": str(retry_after)})
