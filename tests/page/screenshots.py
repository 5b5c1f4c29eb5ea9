"""Takes the documentation's pictures from a running server: `python -m tests.page.screenshots URL FOLDER [run]`.

Not a test. The server should serve the shipped model, in a directory with a training run.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from tests.page.conftest import CHROMIUM

WIDTH, HEIGHT = 1080, 720


def main(url: str, folder: Path, run: str = "") -> None:
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        light, dark = (
            browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme).new_page()
            for scheme in ("light", "dark")
        )
        think(light, url)
        light.screenshot(path=folder / "think.png")
        vote(dark, url)
        dark.screenshot(path=folder / "vote.png")
        training(light, url, run)
        light.screenshot(path=folder / "training.png")
        plan(light, url)
        light.screenshot(path=folder / "plan.png", full_page=True)
        browser.close()


def ask(page: Any, question: str) -> None:
    page.get_by_label("Your question").fill(question)
    page.get_by_label("Your question").press("Enter")
    page.locator(".receipt").wait_for()
    page.locator(".fold").click()
    page.wait_for_timeout(400)


def think(page: Any, url: str) -> None:
    page.goto(url)
    page.get_by_role("radio", name="medium").check()
    ask(page, "16 8 7 -> 31")


def vote(page: Any, url: str) -> None:
    page.goto(url)
    page.get_by_role("radio", name="medium").check()
    page.get_by_role("radio", name="vote").check()
    ask(page, "12 6 1 -> 13")
    page.evaluate("scrollTo(0, 0)")


def training(page: Any, url: str, run: str) -> None:
    page.goto(f"{url}/#/training/{run}")
    page.locator(".stages").wait_for()
    page.get_by_role("button", name="grpo-on").click()
    page.wait_for_timeout(800)


def plan(page: Any, url: str) -> None:
    chips = "chip=H200+SXM&versus=B200+SXM&versus=MI300X"
    page.goto(f"{url}/#/plan/serve?model=DeepSeek-R1&{chips}&chips=16&users=256&input=1024&output=1024&drawn=user")
    page.locator(".parts").first.wait_for()
    page.wait_for_timeout(800)


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"), Path(sys.argv[2]), *sys.argv[3:])
