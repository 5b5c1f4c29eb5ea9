"""Reserve, settle, release: once each, and together never more than allowed, across threads and processes."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import func, select

from raison.serve import keyring, ledger
from raison.serve.access import DatabaseAccess
from raison.serve.keys import mint
from raison.serve.ledger import LEASE_SECONDS, Reservation
from raison.serve.limits import Balance, Limits, Quota
from raison.serve.prices import Price, Prices
from raison.serve.refusal import Limited
from raison.serve.schema import RESERVATIONS, USAGE
from tests.access.conftest import House, child_environment, eventually, used


def balance_of(access: DatabaseAccess, key: str) -> Balance:
    with access.store.read() as connection:
        return ledger.balances(connection)[key]


def rows(access: DatabaseAccess) -> int:
    with access.store.read() as connection:
        return connection.scalar(select(func.count()).select_from(USAGE)) or 0


def test_a_request_is_billed_once_however_often_it_is_settled(house: House) -> None:
    access = house.access(prices=Prices(Price(prompt=1.0, completion=2.0)))
    key, header = house.key(limits=Limits(tokens_per_minute=100, quota=Quota(1000)))
    held = access.reserve(access.caller(header), 50)
    for _ in range(3):
        access.settle(held, used("r1", key.id, prompt=10, completion=5))
        access.release(held)
    house.access().settle(held, used("r1", key.id, prompt=10, completion=999))
    with access.store.read() as connection:
        row = connection.execute(select(USAGE)).one()
    assert (row.request, row.key, row.prompt_tokens, row.completion_tokens) == ("r1", key.id, 10, 5)
    assert row.cost == 10 * 1000 + 5 * 2000
    balance = balance_of(access, key.id)
    assert (balance.total_tokens, balance.day_tokens, balance.month_tokens) == (15, 15, 15)
    assert balance.token_debt == 15, "what was held and not used is given back, once"


def test_release_gives_tokens_back_once(house: House) -> None:
    access = house.access()
    key, header = house.key(limits=Limits(tokens_per_minute=100))
    caller = access.caller(header)
    first, second = access.reserve(caller, 40), access.reserve(caller, 40)
    for _ in range(3):
        access.release(first)
    assert balance_of(access, key.id).token_debt == 40
    access.settle(second, used("r", key.id, prompt=40, completion=0))
    assert balance_of(access, key.id).token_debt == 40
    with access.store.read() as connection:
        assert connection.execute(select(RESERVATIONS)).first() is None


def test_a_key_without_limits_writes_nothing_to_reserve_and_counts_all_the_same(house: House) -> None:
    access = house.access()
    key, header = house.key()
    held = access.reserve(access.caller(header), 10**9)
    assert held.id == ""
    access.release(held)
    access.settle(held, used("r", key.id))
    assert balance_of(access, key.id).total_tokens == 15
    local = Reservation("", "local", 10)
    access.settle(local, used("s", "local"))
    assert rows(access) == 2


def test_a_limit_set_on_a_running_server_holds_from_the_next_request_on(house: House) -> None:
    server, command = house.access(), house.access()
    key, header = house.key(limits=Limits(quota=Quota(1000)))
    server.reserve(server.caller(header), 900)
    tighter = key.__class__(**{n: getattr(key, n) for n in key.__slots__} | {"limits": Limits(quota=Quota(910))})
    command.store.write(lambda connection: keyring.save(connection, tighter))
    with pytest.raises(Limited, match="hold 900"):
        server.reserve(server.caller(header), 11)
    server.reserve(server.caller(header), 10)


def test_what_a_dead_server_held_is_free_when_its_lease_ends(house: House) -> None:
    dead, alive = house.access(), house.access()
    key, header = house.key(limits=Limits(quota=Quota(100)))
    lost, kept = dead.reserve(dead.caller(header), 60), alive.reserve(alive.caller(header), 40)
    house.clock.now += LEASE_SECONDS - 1
    alive.store.write(lambda connection: ledger.renew(connection, [kept.id], house.clock.now))
    with pytest.raises(Limited):
        alive.reserve(alive.caller(header), 1)
    house.clock.now += 2
    alive.reserve(alive.caller(header), 60)
    with pytest.raises(Limited):
        alive.reserve(alive.caller(header), 1)
    dead.settle(lost, used("late", key.id, prompt=30, completion=0))
    alive.settle(kept, used("kept", key.id, prompt=40, completion=0))
    assert balance_of(alive, key.id).total_tokens == 70, "an answer that came late after all is counted"


def test_leases_are_renewed_while_something_is_held(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raison.serve.access.LEASE_SECONDS", 0.06)
    access = house.access()
    _, header = house.key(limits=Limits(quota=Quota(100)))
    access.reserve(access.caller(header), 60)
    house.clock.now += 1000

    def lease() -> float:
        with access.store.read() as connection:
            return connection.scalar(select(RESERVATIONS.c.lease)) or 0

    eventually(lambda: lease() >= house.clock.now)


# -- races ------------------------------------------------------------------------------------------------------------


def in_threads(count: int, work: Callable[[int], None]) -> None:
    failed: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed


@pytest.mark.parametrize(
    ("limits", "admitted"),
    [(Limits(quota=Quota(200)), 20), (Limits(tokens_per_minute=170), 17), (Limits(requests_per_minute=13), 13)],
    ids=["quota", "tokens", "requests"],
)
def test_two_servers_and_many_threads_admit_exactly_what_is_allowed(
    house: House, limits: Limits, admitted: int
) -> None:
    servers = [house.access(), house.access()]
    _, header = house.key(limits=limits)
    reserved: list[Reservation] = []

    def work(number: int) -> None:
        server = servers[number % 2]
        caller = server.caller(header)
        for _ in range(5):
            with suppress(Limited):
                reserved.append(server.reserve(caller, 10))

    in_threads(12, work)
    assert len(reserved) == admitted


def test_nothing_is_overspent_while_requests_come_and_go(house: House) -> None:
    servers = [house.access(), house.access()]
    key, header = house.key(limits=Limits(quota=Quota(300)))

    def work(number: int) -> None:
        server = servers[number % 2]
        caller = server.caller(header)
        for turn in range(8):
            try:
                held = server.reserve(caller, 10)
            except Limited:
                continue
            if turn % 3 == 2:
                server.release(held)
            else:
                server.settle(held, used(f"{number}-{turn}", key.id, prompt=3, completion=turn))
            assert balance_of(server, key.id).total_tokens <= 300

    in_threads(12, work)
    with servers[0].store.read() as connection:
        billed = connection.scalar(select(func.sum(USAGE.c.prompt_tokens + USAGE.c.completion_tokens)))
        assert connection.execute(select(RESERVATIONS)).first() is None
    assert billed == balance_of(servers[0], key.id).total_tokens <= 300


RACER = Path(__file__).with_name("racer.py")


def test_processes_together_spend_a_quota_to_the_last_token_and_no_more(house: House) -> None:
    access = house.access()
    key, header = house.key(limits=Limits(quota=Quota(500)))
    command = [sys.executable, str(RACER), house.url, header, "10"]
    racers = [subprocess.Popen(command, stdout=subprocess.PIPE, env=child_environment()) for _ in range(3)]
    counts = [int(racer.communicate(timeout=120)[0]) for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0, 0]
    assert sum(counts) == 50 == rows(access)
    assert balance_of(access, key.id).total_tokens == 500


def test_the_same_key_is_never_minted_for_two(house: House) -> None:
    access = house.access()
    key, header = house.key()
    access.store.write(lambda connection: keyring.create(connection, key, mint()[1]))
    assert access.caller(header).key == key.id, "a second one with the same id would not replace the first"


class Broken:
    """A store whose disk is full."""

    def __init__(self) -> None:
        self.asked = 0

    def write(self, *_: object) -> None:
        self.asked += 1
        raise RuntimeError("disk full")


def test_what_the_books_failed_to_settle_is_not_held_for_ever(
    sqlite_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = sqlite_house.access()
    key, header = sqlite_house.key(limits=Limits(quota=Quota(100)))
    caller = access.caller(header)
    settled, released, kept = (access.reserve(caller, 30) for _ in range(3))
    with monkeypatch.context() as patch:
        patch.setattr(access, "store", Broken())
        with pytest.raises(RuntimeError):
            access.settle(settled, used("a", key.id))
        with pytest.raises(RuntimeError):
            access.release(released)
    assert access._held == {kept.id}
    access.store.write(lambda connection: ledger.renew(connection, access._held, sqlite_house.clock.now + 1))
    sqlite_house.clock.now += LEASE_SECONDS
    access.reserve(caller, 70)
    with pytest.raises(Limited):
        access.reserve(caller, 1)


def test_one_renewal_that_fails_is_not_the_last(sqlite_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raison.serve.access.LEASE_SECONDS", 0.03)
    access = sqlite_house.access()
    _, header = sqlite_house.key(limits=Limits(quota=Quota(100)))
    access.reserve(access.caller(header), 60)
    broken = Broken()
    with monkeypatch.context() as patch:
        patch.setattr(access, "store", broken)
        eventually(lambda: broken.asked > 1)
