"""Who calls, what they may use, and what they used: the seam between the server and its keys and books.

    access = open_access(home())
    caller = access.caller(request.headers.get("authorization"))     # Denied: 401, 403
    caller.check_model(model)                                        # Denied: 403
    held = access.reserve(caller, prompt_tokens + most_completion)   # Limited: 429
    access.settle(held, Used(...))                                   # before the last byte of the answer
    access.release(held)                                             # instead, where nothing was sampled

What is raised is a Refused with `status`, `headers` and `body` to send. All methods may wait for the database: call
them in a thread. Rates and quotas are kept in the database, so they hold for all servers on it together; so do changes
of a key, from the next request on. Not covered: fairness and the order of waiting (the server's admission).
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection

from raison.errors import UserError
from raison.serve import keyring, keys, ledger, usage
from raison.serve.ledger import LEASE_SECONDS, Reservation
from raison.serve.prices import Price, Prices, read_prices
from raison.serve.refusal import (
    Denied,
    Limited,
    Refused,
    Unavailable,
    ended_key,
    model_not_allowed,
    not_invited,
    unknown_key,
)
from raison.serve.store import Store, open_store
from raison.serve.usage import Used

__all__ = ["Access", "Caller", "Denied", "Limited", "Refused", "Reservation", "Unavailable", "Used", "open_access"]

PRICES = "prices.toml"
LOG = logging.getLogger("raison.serve")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as long as one request takes."""

    key: str
    """The key's public id, which is also the tenant of the engine's prefix cache."""
    name: str
    models: frozenset[str] | None
    """Those the key may use; None = every one."""
    priority: int
    """Higher is served first."""
    limited: bool = False
    """Whether anything is to be held for its requests."""

    def check_model(self, model: str) -> None:
        """Raises Denied (403) for a model that the key may not use, whether or not there is such a model."""
        if self.models is not None and model not in self.models:
            raise model_not_allowed()


LOCAL = Caller("local", "local", None, 0)
"""Everyone, where no key was ever created."""


class Access(Protocol):
    """What the server needs to know. Every method may raise Unavailable (503)."""

    def keyless(self) -> bool:
        """Whether no key was ever created: then all are the caller `local`, and only loopback is to be served."""

    def caller(self, authorization: str | None) -> Caller:
        """Who sent this Authorization header. Raises Denied (401, 403)."""

    def reserve(self, caller: Caller, tokens: int) -> Reservation:
        """Hold `tokens`, the most that a request may use, prompt and all branches. Raises Limited (429). Does not wait
        for the database where the caller is not `limited`.
        """

    def settle(self, reservation: Reservation, used: Used) -> None:
        """Record what was used, exactly once however often it is called; on return it is committed."""

    def release(self, reservation: Reservation) -> None:
        """Give back what was held; nothing was sampled. After `settle` it does nothing."""

    def cost(self, used: Used) -> int | None:
        """Nano-dollars by the prices in force; None without a price."""

    def price(self, model: str) -> Price | None:
        """Dollars per million tokens, as lists of models show it; None without a price."""

    def close(self) -> None:
        """End when all that was asked for is committed."""


def open_access(
    home: Path, url: str | None = None, *, early_access: bool = False, prices: Path | None = None
) -> DatabaseAccess:
    """Access by the database at `url`, RAISON_DATABASE or `home`/raison.db, made or upgraded where need be.

    Args:
        early_access: serve only keys whose names are on the list (`raison keys allow`).
        prices: the price list; `home`/prices.toml where None.

    Raises UserError for a URL or a price list that cannot be used.
    """
    if prices is not None and not prices.exists():
        raise UserError(f"there is no price list {prices}")
    listed = read_prices(prices or home / PRICES)
    return DatabaseAccess(open_store(home, url), listed, early_access=early_access)


def sole_authorization(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The Authorization header among raw ASGI headers; None where there is none.

    Raises Denied where there are two: a proxy in front may have checked the one and this server would take the other.
    """
    found = [value for name, value in headers if name.lower() == b"authorization"]
    if len(found) > 1:
        raise unknown_key()
    return found[0].decode("latin-1") if found else None


class DatabaseAccess:
    """Access over a Store. One for each process; its methods may be called from any thread."""

    def __init__(
        self, store: Store, prices: Prices, *, early_access: bool = False, clock: Callable[[], float] = time.time
    ) -> None:
        self.store, self.prices = store, prices
        self._early_access, self._clock = early_access, clock
        self._keyless = True
        self._owner = secrets.token_hex(16)
        self._held: set[str] = set()
        self._closed = threading.Event()
        self._renewal = threading.Thread(target=self._renew, name="lease renewal", daemon=True)
        self._renewal.start()

    def keyless(self) -> bool:
        if self._keyless:  # once there was a key there is no way back
            with self.store.read() as connection:
                self._keyless = not keyring.any_key(connection)
        return self._keyless

    def caller(self, authorization: str | None) -> Caller:
        if self.keyless() and not self._early_access:
            return LOCAL
        claimed = keys.read_header(authorization)
        with self.store.read() as connection:
            key = keyring.verified(connection, claimed)
        if how := key.ended(self._clock()):
            raise ended_key(how)
        if self._early_access and not key.allowed:
            raise not_invited()
        return Caller(key.id, key.name, key.models, key.priority, key.limits.any)

    def reserve(self, caller: Caller, tokens: int) -> Reservation:
        assert tokens >= 0, "a request cannot use less than nothing"
        if not caller.limited:
            return Reservation("", caller.key, tokens)
        held = Reservation(secrets.token_hex(16), caller.key, tokens)
        self._held.add(held.id)
        try:
            self.store.write(
                lambda connection: ledger.reserve(connection, held, self._owner, self._clock()), caller.key
            )
        except BaseException:
            self._held.discard(held.id)
            raise
        return held

    def settle(self, reservation: Reservation, used: Used) -> None:
        assert used.key == reservation.key, "what one key held is not another's to use"
        try:
            self.store.write(partial(self._settle, reservation, used, self.cost(used)), reservation.key)
        finally:  # where the books failed the lease ends by itself; renewed, it would last as long as the server
            self._held.discard(reservation.id)

    def _settle(self, reservation: Reservation, used: Used, cost: int | None, connection: Connection) -> None:
        now = self._clock()
        if usage.record(connection, used, cost, now) and reservation.key != LOCAL.key:
            ledger.settle(connection, reservation, used.tokens, now)

    def release(self, reservation: Reservation) -> None:
        if reservation.id:
            try:
                self.store.write(
                    lambda connection: ledger.release(connection, reservation, self._clock()), reservation.key
                )
            finally:
                self._held.discard(reservation.id)

    def cost(self, used: Used) -> int | None:
        return usage.cost_of(used, self.prices)

    def price(self, model: str) -> Price | None:
        return self.prices.of(model)

    def close(self) -> None:
        self._closed.set()
        self._renewal.join()
        self.store.close()

    def _renew(self) -> None:
        while not self._closed.wait(LEASE_SECONDS / 3):
            if held := self._held.copy():
                try:
                    self.store.write(partial(ledger.renew, held=held, now=self._clock()))
                except Exception:  # whatever it was, the next time will do, or the leases end; the thread goes on
                    LOG.exception("leases were not renewed")
