"""A server process of the tests: four threads settle requests of SIZE tokens until the quota is spent.

    python racer.py DATABASE_URL AUTHORIZATION SIZE

prints how many it settled.
"""

from __future__ import annotations

import sys
import threading
import uuid
from pathlib import Path

from raison.serve.access import Used, open_access
from raison.serve.refusal import Limited


def main(url: str, header: str, size: int) -> None:
    access = open_access(Path(), url)
    settled: list[str] = []

    def work() -> None:
        caller = access.caller(header)
        while True:
            try:
                held = access.reserve(caller, size)
            except Limited as limited:
                if limited.code == "insufficient_quota":
                    return
                continue  # another one holds the rest, and may give it back
            request = uuid.uuid4().hex
            access.settle(held, Used(request, caller.key, "tiny", "/", size, 0, 0, 0, 1, "stop", 0.1, 0.1))
            settled.append(request)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    access.close()
    print(len(settled))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
