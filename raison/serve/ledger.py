"""Reserve, settle, release: what a key uses, decided and written one request at a time for each key.

Every function runs in a transaction that writes, locks the key's balance first (a row lock in PostgreSQL; SQLite's
writing transactions exclude each other) and decides by limits.py. So requests in other threads, processes and machines
cannot together pass a limit. A reservation counts until its lease ends; its server renews that, so that what a killed
server held is free again a minute later. Every function may run twice for one request and acts once. Not covered:
transactions and their grouping (store.py, writer.py).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select

from raison.serve.keyring import limits_of
from raison.serve.limits import Balance, Limits, admit, give_back, spend
from raison.serve.schema import BALANCES, KEYS, RESERVATIONS

LEASE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Reservation:
    """What a request may use at most. `id` is empty where the key has no limits and nothing was held."""

    id: str
    key: str
    tokens: int


def reserve(connection: Connection, reservation: Reservation, owner: str, now: float) -> None:
    """Hold what the request may use. Raises Limited, with nothing written."""
    limits, balance = _locked(connection, reservation.key)
    if connection.scalar(select(RESERVATIONS.c.id).where(RESERVATIONS.c.id == reservation.id)):
        return
    after = admit(limits, balance, _held(connection, reservation.key, now), reservation.tokens, now)
    connection.execute(RESERVATIONS.delete().where(RESERVATIONS.c.key == reservation.key, RESERVATIONS.c.lease <= now))
    connection.execute(RESERVATIONS.insert().values(
        id=reservation.id, key=reservation.key, tokens=reservation.tokens, owner=owner, lease=now + LEASE_SECONDS
    ))  # fmt: skip
    _keep(connection, reservation.key, after)


def settle(connection: Connection, reservation: Reservation, tokens: int, now: float) -> None:
    """Count the `tokens` that were used, and give back what was held beyond them."""
    limits, balance = _locked(connection, reservation.key)
    unused = max(0, reservation.tokens - tokens) if reservation.id and _drop(connection, reservation) else 0
    _keep(connection, reservation.key, give_back(limits, spend(limits, balance, tokens, now), unused, now))


def release(connection: Connection, reservation: Reservation, now: float) -> None:
    """Give back all that was held."""
    limits, balance = _locked(connection, reservation.key)
    if _drop(connection, reservation):
        _keep(connection, reservation.key, give_back(limits, balance, reservation.tokens, now))


def renew(connection: Connection, held: Collection[str], now: float) -> None:
    """Go on holding the reservations with these ids. One that its server has given up ends with its lease."""
    still = RESERVATIONS.update().where(RESERVATIONS.c.id.in_(held))
    connection.execute(still.values(lease=now + LEASE_SECONDS))


def balances(connection: Connection) -> dict[str, Balance]:
    """What every key has used, by its id."""
    return {row.key: _balance(row) for row in connection.execute(select(BALANCES))}


def _locked(connection: Connection, key: str) -> tuple[Limits, Balance]:
    """The key's limits and balance, which nobody else changes until the transaction ends."""
    row = connection.execute(
        select(BALANCES, KEYS).join(KEYS).where(BALANCES.c.key == key).with_for_update(of=BALANCES)
    ).one()  # fmt: skip
    return limits_of(row), _balance(row)


def _balance(row: Row[Any]) -> Balance:
    return Balance(**{name: getattr(row, name) for name in Balance.__slots__})


def _held(connection: Connection, key: str, now: float) -> int:
    held = select(func.coalesce(func.sum(RESERVATIONS.c.tokens), 0))
    return int(connection.scalar(held.where(RESERVATIONS.c.key == key, RESERVATIONS.c.lease > now)) or 0)


def _drop(connection: Connection, reservation: Reservation) -> bool:
    """End the reservation; returns whether it was there, which it is once."""
    return connection.execute(RESERVATIONS.delete().where(RESERVATIONS.c.id == reservation.id)).rowcount == 1


def _keep(connection: Connection, key: str, balance: Balance) -> None:
    values = {name: getattr(balance, name) for name in Balance.__slots__}
    connection.execute(BALANCES.update().where(BALANCES.c.key == key).values(values))
