"""API keys as text and as records; no database here.

A key is `sk-raison-ID-SECRET`. The ID, 64 random bits, is public: it stands in lists and in the books. The secret is
256 random bits. Only SHA-256 of the whole key is stored. Slow hashes such as Argon2 protect what people think up; 256
random bits cannot be tried out at any speed, and a slow hash on every request would be a lever for those who want to
stop the server. Not covered: where keys are kept and checked (keyring.py).
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field

from raison.errors import UserError
from raison.serve.limits import Limits
from raison.serve.refusal import unknown_key

FORM = re.compile(r"sk-raison-([0-9a-f]{16})-[A-Za-z0-9_-]{43}")
BEARER = re.compile(r"bearer ([!-~]{1,200})", re.IGNORECASE)
"""RFC 6750, 2.1, and stricter: one space, one token of visible ASCII, nothing after it. Two headers that a proxy joined
with a comma are not a key."""
NAME_LETTERS = 64
MOST_PRIORITY = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Key:
    """A key as lists show it; the secret is not kept. Times are Unix seconds."""

    id: str
    name: str
    created_at: float
    models: frozenset[str] | None = None
    """Those it may use; None = every one."""
    limits: Limits = field(default_factory=Limits)
    priority: int = 0
    expires_at: float | None = None
    revoked_at: float | None = None
    allowed: bool = False
    """Whether its name is on the list of the early access."""

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.models is not None and (not self.models or "" in self.models):
            raise UserError("no model is named; give names separated by commas, or all")
        if abs(self.priority) > MOST_PRIORITY:
            raise UserError(f"priority is {self.priority}; give a whole number within {MOST_PRIORITY:,} of 0")

    def ended(self, now: float) -> str:
        """How it ended, such as "was revoked"; empty while it is good."""
        if self.revoked_at is not None:
            return "was revoked"
        return "has expired" if self.expires_at is not None and self.expires_at <= now else ""


def check_name(name: str) -> str:
    """The name itself. Raises UserError for one that a list could not show."""
    if not (0 < len(name) <= NAME_LETTERS and name.isprintable() and name == name.strip()):
        raise UserError(f"a name has 1 to {NAME_LETTERS} visible letters, and no space before or after them")
    return name


def mint() -> tuple[str, str]:
    """A new key: its public id, and its whole text."""
    public = secrets.token_hex(8)
    return public, f"sk-raison-{public}-{secrets.token_urlsafe(32)}"


def digest(text: str) -> bytes:
    """32 bytes by which a key is known again."""
    return hashlib.sha256(text.encode()).digest()


def read_header(authorization: str | None) -> bytes:
    """The digest of the key in an Authorization header. Raises Denied, the same for everything that is no key."""
    bearer = BEARER.fullmatch(authorization or "")
    if bearer is None or not FORM.fullmatch(bearer[1]):
        raise unknown_key()
    return digest(bearer[1])


def models_of(names: str | None) -> frozenset[str] | None:
    """`a,b` as the models of a key; None and `all` mean every one."""
    return None if names in (None, "all") else frozenset(name.strip() for name in (names or "").split(","))
