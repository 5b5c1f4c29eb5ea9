"""kill -9 under load: every answer that was given is in the books exactly once, and nothing is billed twice."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from sqlalchemy import select

from raison.serve import ledger
from raison.serve.access import DatabaseAccess
from raison.serve.ledger import LEASE_SECONDS, Reservation
from raison.serve.limits import Limits, Quota
from raison.serve.schema import USAGE
from tests.access.conftest import House, child_environment, used

ANSWERER = Path(__file__).with_name("answerer.py")
THREADS = 16
PATIENCE_SECONDS = 300


def killed_after(answers: int, house: House, header: str, name: str) -> list[str]:
    """The requests that a server settled and told of, until it was killed in the midst of others."""
    process = subprocess.Popen(
        [sys.executable, str(ANSWERER), house.url, header, name], stdout=subprocess.PIPE, env=child_environment()
    )
    assert process.stdout is not None
    stalled = threading.Timer(PATIENCE_SECONDS, process.kill)
    stalled.start()
    told = [process.stdout.readline() for _ in range(answers)]
    stalled.cancel()
    process.kill()
    told += process.stdout.readlines()  # what it still said before it died
    assert process.wait() == -9
    return [line.decode().strip() for line in told if line.endswith(b"\n")]


def books(access: DatabaseAccess) -> dict[str, int]:
    with access.store.read() as connection:
        rows = [(row.request, row.prompt_tokens + row.completion_tokens) for row in connection.execute(select(USAGE))]
    assert max(Counter(request for request, _ in rows).values()) == 1
    return dict(rows)


def test_what_was_answered_before_a_kill_is_in_the_books_once(house: House) -> None:
    access = house.access()
    key, header = house.key(limits=Limits(tokens_per_minute=10**9, quota=Quota(10**9)))
    told: list[str] = []
    for turn, answers in enumerate((60, 150, 97)):
        told += killed_after(answers, house, header, f"server{turn}")
        kept = books(access)
        assert len(told) == len(set(told)) >= answers
        assert set(told) <= set(kept), "an answer was given and is not in the books"
        assert len(kept) <= len(told) + (turn + 1) * THREADS, "only what was under way may be in the books unanswered"
        with access.store.read() as connection:
            assert ledger.balances(connection)[key.id].total_tokens == sum(kept.values())
    before = books(access)
    for request in told:
        access.settle(Reservation("", key.id, 20), used(request, key.id, 1000, 1000))
    assert books(access) == before
    house.clock.now = time.time() + LEASE_SECONDS + 1  # whatever the killed servers held is free
    access.reserve(access.caller(header), 10**9 - sum(before.values()))
