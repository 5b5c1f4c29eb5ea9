"""The page on the server itself with the shipped model: what the stand-in promises is what is served."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip(
    "raison.serve.server", reason="the server's packages are not installed: pip install 'raison[serve]'"
)

from raison import reasoner
from raison.serve.access import open_access
from raison.serve.runs import Runs
from raison.serve.server import create_app
from raison.serve.service import Service
from raison.serve.settings import ServeSettings
from tests.page.conftest import Tab, running, tab_at
from tests.page.written_run import WrittenRun

QUESTION = "3 7 25 -> 46"
EXPRESSION = re.compile(r"[-+*/() 0-9]+=\s*\d+")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any]]:
    """The address of a server of the shipped model, and its app."""
    home = tmp_path_factory.mktemp("home")
    service = Service(reasoner.load, open_access(home), ServeSettings(), "countdown-r1")
    app = create_app(service)
    with running(app) as url:
        patience = time.monotonic() + 60
        while service.health == "loading" and time.monotonic() < patience:
            time.sleep(0.01)
        assert service.health == "ok"
        yield url, app


@pytest.fixture
def tab(browser: Any, served: tuple[str, Any]) -> Iterator[Tab]:
    with tab_at(browser, *served) as tab:
        yield tab


def test_the_shipped_model_thinks_and_answers(tab: Tab) -> None:
    tab.open()
    tab.choose("budget")
    tab.page.get_by_label("Thinking tokens").fill("64")
    example = tab.page.locator(".examples button").first
    assert re.fullmatch(r"\d+ \d+ \d+ -> \d+", example.inner_text())
    example.click()
    tab.ended()
    assert EXPRESSION.fullmatch(tab.page.locator(".answer").inner_text().strip())
    thought = tab.page.get_by_role("button", name=re.compile(r"Thought for \d+\.\d+ s, \d+ tokens"))
    assert 0 < int(re.search(r"(\d+) tokens", thought.inner_text())[1]) <= 64  # type: ignore[index]
    thought.click()
    assert re.search(r"\d+[-+*/]\d+=\d+", tab.page.get_by_role("group", name="What was thought").inner_text())
    assert re.search(r"[\d,]+ tokens/s", tab.page.get_by_role("list", name="What it took").inner_text())


@pytest.mark.parametrize("way", ["vote", "auto"])
def test_the_shipped_model_votes(tab: Tab, way: str) -> None:
    tab.open()
    tab.choose("low")
    tab.choose(way)
    tab.ask(QUESTION)
    tab.ended()
    tally = tab.page.get_by_role("list", name="Tally of the answers").get_by_role("listitem")
    assert tally.first.get_by_text("chosen").is_visible()
    assert tab.page.locator(".answer").inner_text().strip()
    tab.page.get_by_role("button", name=re.compile(r"\d+ branch(es)?, [\d,]+ tokens")).click()
    heads = tab.page.locator(".branch header").all_inner_texts()
    told = sum(int(re.search(r"([\d,]+) tokens?", head)[1].replace(",", "")) for head in heads)  # type: ignore[index]
    receipt = tab.page.get_by_role("list", name="What it took").inner_text()
    assert f"{told:,} tokens" in receipt, "every sampled token is in the count"


def test_the_training_view_shows_the_server_s_runs(tab: Tab, tmp_path: Path) -> None:
    written = WrittenRun(tmp_path / "runs")
    written.grpo_step(1)
    tab.app.state.runs = Runs(tmp_path / "runs")
    tab.open("/#/training")
    tab.page.get_by_text("grpo, step 1 of 40").wait_for()


def test_the_planning_view_shows_the_server_s_plans(tab: Tab) -> None:
    tab.open("/#/plan/serve?model=SmolLM2-135M&chip=H100+SXM&chips=1&users=1")
    tab.page.get_by_role("heading", name="SmolLM2-135M on 1 × H100 SXM").wait_for()
    assert tab.page.locator(".tiles > div").count() == 5
