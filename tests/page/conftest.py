"""A browser and a server for the page's tests, and a tab that notices what must not happen."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.page.written_run import WrittenRun

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WAIT_MS = 30_000


@dataclass
class Tab:
    """A page of the browser, with all that it complained of and all that it asked for."""

    page: Any
    url: str
    app: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    refusals: tuple[int, ...] = ()
    """HTTP statuses that a test provokes: the browser writes a line about each of them."""

    def open(self, view: str = "/") -> None:
        self.page.goto(self.url + view)

    def ask(self, question: str, key: str = "Enter") -> None:
        self.page.get_by_label("Your question").fill(question)
        self.page.get_by_label("Your question").press(key)

    def choose(self, name: str) -> None:
        self.page.get_by_role("radio", name=name, exact=True).check()

    def ended(self, count: int = 1) -> None:
        """Wait until so many questions have been answered or given up."""
        self.until(f"document.querySelectorAll('.receipt').length >= {count}")

    def until(self, expression: str) -> None:
        """Wait until the page says so. Playwright's own waiting would need `eval`, which the page's policy forbids."""
        self.wait(lambda: self.page.evaluate(expression), expression)

    def wait(self, true: Callable[[], bool], what: str) -> None:
        patience = time.monotonic() + WAIT_MS / 1000
        while not true():
            assert time.monotonic() < patience, f"in vain: {what}"
            self.page.wait_for_timeout(20)

    def asked(self) -> dict[str, Any]:
        last: dict[str, Any] = self.app.state.asked[-1]
        return last

    def told(self, message: Any) -> None:
        expected = any(f"status of {status}" in message.text for status in self.refusals)
        if message.type in ("error", "warning") and not expected:
            self.complaints.append(message.text)


@contextmanager
def running(app: Any) -> Iterator[str]:
    """The app behind a free port of the loopback, for as long as the block lasts."""
    import uvicorn

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Ends with each module: while Playwright runs, this thread has an event loop, in which other tests cannot run."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install 'raison[page-tests]'"
    )
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine; Debian's package is `chromium`")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture
def written(tmp_path: Path) -> WrittenRun:
    return WrittenRun(tmp_path / "runs")


@pytest.fixture
def keyed() -> bool:
    """Whether the server asks for a key; a test that wants one overrides this."""
    return False


@pytest.fixture
def scheme() -> str:
    """The system's colours; likewise."""
    return "light"


@contextmanager
def tab_at(browser: Any, url: str, app: Any, scheme: str = "light") -> Iterator[Tab]:
    """A fresh tab; afterwards nothing may have gone wrong in it, and nothing been asked of another host."""
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1180, "height": 820})
    tab = Tab(context.new_page(), url, app)
    tab.page.set_default_timeout(WAIT_MS)
    tab.page.on("console", tab.told)
    tab.page.on("pageerror", lambda error: tab.complaints.append(str(error)))
    tab.page.on("request", lambda request: tab.requests.append(request.url))
    yield tab
    context.close()
    outside = [u for u in tab.requests if not u.startswith((url, "data:", "blob:"))]
    assert (tab.complaints, outside) == ([], [])


@pytest.fixture
def tab(browser: Any, written: WrittenRun, keyed: bool, scheme: str) -> Iterator[Tab]:
    """A tab on the stand-in (stand_in.py)."""
    from tests.page.stand_in import app_for

    app = app_for(written.folder.parent, keyed)
    with running(app) as url, tab_at(browser, url, app, scheme) as tab:
        yield tab
