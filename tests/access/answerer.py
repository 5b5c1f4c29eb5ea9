"""A server process of the tests: sixteen threads answer requests, each told on stdout once it is settled, until killed.

python answerer.py DATABASE_URL AUTHORIZATION NAME
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
from pathlib import Path

from raison.serve.access import Used, open_access


def main(url: str, header: str, name: str) -> None:
    access = open_access(Path(), url)

    def work(number: int) -> None:
        caller = access.caller(header)
        for turn in itertools.count():
            request = f"{name}-{number}-{turn}"
            held = access.reserve(caller, 20)
            access.settle(held, Used(request, caller.key, "tiny", "/", 10, 0, number, 0, 1, "stop", 0.1, 0.1))
            os.write(1, f"{request}\n".encode())  # what the last byte of an answer is to a client

    for number in range(16):
        threading.Thread(target=work, args=(number,)).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
