"""The report of a run: it says what happened, asks nothing of the network, and cannot be written into by a model."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from raison.bench import plots
from raison.bench.report import write_report
from raison.errors import UserError
from tests.bench.synthetic import HOSTILE, make_run

pytest.importorskip("matplotlib", reason="the extra `report` is not installed")
VOID = {"meta", "br", "hr", "img", "link", "input"}


class Nesting(HTMLParser):
    """Fails when a tag is closed that is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(run: Path) -> str:
    """The report of a run, its no-break spaces as plain ones."""
    return write_report(run).read_text(encoding="utf-8").replace("\u00a0", " ")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return read(make_run(tmp_path_factory.mktemp("runs") / "quick-1"))


def test_it_says_the_result_and_what_the_control_gained(page: str) -> None:
    assert "After grpo the model solves 93.0 % of 1,000 fresh problems (95 % interval 90.0 % to 96.0 %)" in page
    assert "The stage grpo changed it from 62.0 % to 93.0 %, by +31.0 points." in page
    assert "random rewards changed it by -1.0 points" in page


def test_it_holds_every_part(page: str) -> None:
    for part in (
        "The stages",
        "What thinking buys",
        "The bill",
        "predicted before it started",
        "abc123",
        "a processor",
    ):
        assert part in page, part
    assert page.count("<svg ") == 4, "training curves, budgets, votes, losses"
    assert "[[stage]]" in page, "the resolved recipe"


def test_it_asks_nothing_of_the_network(page: str) -> None:
    outside = re.findall(r"""(?:src|href|url|@import)\s*[=(]\s*["']?\s*(?!#)([^"')\s>]+)""", page)
    assert [link for link in outside if not link.startswith("#")] == []
    assert "<script" not in page


def test_what_a_model_wrote_stays_text(page: str) -> None:
    assert HOSTILE not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in page


def test_it_is_well_formed(page: str) -> None:
    nesting = Nesting()
    nesting.feed(page)
    assert nesting.open == []


def test_plots_take_the_colour_of_the_page(page: str) -> None:
    assert plots.INK not in page
    assert "currentColor" in page


def test_ids_of_plots_do_not_clash(page: str) -> None:
    clips = re.findall(r'<clipPath id="([^"]+)"', page)
    assert clips
    assert len(clips) == len(set(clips))


def test_an_unfinished_run_gets_a_report_of_what_there_is(tmp_path: Path) -> None:
    page = read(make_run(tmp_path / "quick-2", finished=False))
    assert "The run is not finished." in page
    assert "After sft the model solves 62.0 %" in page


def test_a_folder_that_is_no_run_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give a run's folder"):
        write_report(tmp_path)
    (tmp_path / "recipe.toml").write_text("")
    (tmp_path / "run.json").write_text(json.dumps([1]))
    with pytest.raises(UserError, match="not the record of a run"):
        write_report(tmp_path)


def test_without_matplotlib_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"raison\[report\]"):
        write_report(make_run(tmp_path / "quick-3"))
