"""A real PostgreSQL for the tests: started from the Debian package in a temporary folder, on a free port of loopback.

PostgreSQL refuses to run as root, so under root it runs as the package's user. Commits are forced to disk as in
earnest.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STARTUP_SECONDS = 30


def programs() -> Path | None:
    """The folder of initdb and postgres, of the newest version that is installed; None where there is none."""
    found = shutil.which("initdb")
    if found and shutil.which("postgres"):
        return Path(found).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    return versions[-1].parent if versions else None


def missing() -> str:
    """Why no server can be started here; empty where one can."""
    if programs() is None:
        return "PostgreSQL is not installed (apt-get install postgresql)"
    return "" if os.geteuid() or _package_user() else "PostgreSQL does not run as root, and there is no user postgres"


@contextmanager
def server() -> Iterator[str]:
    """The URL of a server without databases of ours; it ends with the block, and its files are removed."""
    folder = Path(tempfile.mkdtemp(prefix="raison-postgres-"))
    user: dict[str, Any] = {} if os.geteuid() else {"user": "postgres", "group": _package_user(), "extra_groups": []}
    try:
        if user:
            shutil.chown(folder, "postgres")
        with _running(folder, user) as port:
            yield f"postgresql://raison@127.0.0.1:{port}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def new_database(server_url: str) -> str:
    """The URL of an empty database on the server."""
    import psycopg

    name = f"raison_{uuid.uuid4().hex}"
    with psycopg.connect(f"{server_url}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return f"{server_url}/{name}"


@contextmanager
def _running(folder: Path, user: dict[str, Any]) -> Iterator[int]:
    bin = programs()
    assert bin is not None
    data, log, port = folder / "data", folder / "log", _free_port()
    make: list[str | Path] = [bin / "initdb", "-D", data, "-U", "raison", "--auth=trust", "--no-locale", "-E", "UTF8"]
    subprocess.run(make, check=True, capture_output=True, cwd=folder, timeout=120, **user)
    settings = ["-p", str(port), "-c", "listen_addresses=127.0.0.1", "-k", str(folder), "-c", "max_connections=60"]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [bin / "postgres", "-D", data, *settings], stdout=file, stderr=file, cwd=folder, **user
        )
    try:
        _wait(process, port, log)
        yield port
    finally:
        process.send_signal(signal.SIGQUIT)  # at once: the files are thrown away
        process.wait(STARTUP_SECONDS)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    import psycopg

    until = time.monotonic() + STARTUP_SECONDS
    while True:
        try:
            psycopg.connect(host="127.0.0.1", port=port, user="raison", dbname="postgres").close()
            return
        except psycopg.OperationalError:
            assert process.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.1)


def _package_user() -> int | None:
    try:
        return pwd.getpwnam("postgres").pw_gid
    except KeyError:
        return None


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
