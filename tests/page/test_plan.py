"""The planning view in a browser, on the planner itself: what it shows is what the API says, at every move of a slider.

Every test also fails on a complaint in the browser's console and on a request to another host (conftest.py).
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.request import Request, urlopen

import pytest

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'raison[serve]'")

from tests.page.conftest import Tab
from tests.page.stand_in import KEY

PLAN = "/#/plan"
COMPARED = "/#/plan/serve?model=Llama-3.1-8B&chip=H100+SXM&chips=1&users=8&versus=L40S&versus=MI300X"
SLIDER = "Users at once, slider"


def api(tab: Tab, kind: str, **asked: Any) -> dict[str, Any]:
    """What the API says to the same question."""
    body = json.dumps(asked).encode()
    request = Request(f"{tab.url}/v1/raison/plan/{kind}", body, {"Content-Type": "application/json"})
    with urlopen(request) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def tile(tab: Tab, title: str) -> str:
    """The figure of that title, with its interval."""
    text: str = tab.page.locator(".tiles > div").filter(has_text=title).locator("dd").inner_text()
    return " ".join(text.split())


def written(value: float) -> str:
    """Three digits that matter, as the page writes figures below 100,000."""
    return f"{value:,.0f}" if value >= 100 else f"{float(f'{value:.3g}'):g}"


def settled(tab: Tab, users: int) -> None:
    """Wait until the page shows the answer for so many users."""
    answer = api(tab, "serve", model="DeepSeek-R1", chip="H200 SXM", streams=users)
    tab.wait(
        lambda: tile(tab, "speed per user").startswith(written(answer["figures"]["user"]["mid"])), f"{users} users"
    )


def posts(tab: Tab) -> int:
    return sum(url.endswith(("/plan/serve", "/plan/train")) for url in tab.requests)


def test_a_plan_shows_every_figure_with_its_interval(tab: Tab) -> None:
    tab.open(PLAN)
    figures = api(tab, "serve", model="DeepSeek-R1", chip="H200 SXM", chips=8, streams=64)["figures"]
    tab.page.locator(".tiles").wait_for()
    for name, title in (("user", "speed per user"), ("chip", "speed per chip"), ("rack", "speed per rack")):
        low, mid, high = (written(figures[name][end]) for end in ("low", "mid", "high"))
        assert tile(tab, title) == f"{mid} tokens/s, {low} to {high}"
    usd = figures["usd"]
    assert tile(tab, "million tokens for") == f"${usd['mid']:.2f} ${usd['low']:.2f} to ${usd['high']:.2f}"


def test_memory_and_time_are_shown_by_part_and_assumptions_by_name(tab: Tab) -> None:
    tab.open(PLAN)
    answer = api(tab, "serve", model="DeepSeek-R1", chip="H200 SXM", chips=8, streams=64)
    memory = tab.page.get_by_role("region", name="Memory of a chip").get_by_role("listitem")
    parts = [f"{part['name']} {written(part['value'] / 1e9)} GB" for part in answer["memory"]["parts"]]
    memory.first.wait_for()
    assert [" ".join(text.split()) for text in memory.all_inner_texts()] == parts
    assert tab.page.get_by_role("heading", name=re.compile("^Time: mostly ")).is_visible()
    tab.page.get_by_text("What this assumes of H200 SXM").click()
    assert tab.page.locator(".assumptions li").all_inner_texts() == answer["assumptions"]


def test_a_slider_moves_the_answer_and_the_address(tab: Tab) -> None:
    tab.open(PLAN)
    settled(tab, 64)
    slider = tab.page.get_by_role("slider", name=SLIDER)
    slider.focus()
    tab.page.keyboard.press("ArrowRight")
    settled(tab, 96)
    assert slider.get_attribute("aria-valuetext") == "96" and "users=96" in tab.page.url
    tab.page.keyboard.press("Home")
    settled(tab, 1)


def test_a_slider_that_is_dragged_asks_once_it_rests(tab: Tab) -> None:
    tab.open(PLAN)
    settled(tab, 64)
    before = posts(tab)
    tab.page.evaluate("""
        const slider = document.querySelector("[aria-label='Users at once, slider']");
        for (let at = 1; at <= 10; at++) {
          slider.value = at;
          slider.dispatchEvent(new Event("input", { bubbles: true }));
        }
    """)
    settled(tab, 48)
    assert posts(tab) == before + 1


def test_an_amount_can_be_typed_and_nonsense_is_taken_back(tab: Tab) -> None:
    tab.open(PLAN)
    settled(tab, 64)
    field = tab.page.get_by_role("textbox", name="Users at once")
    for typed, users in (("100", 100), ("1,000", 1000), ("0", 1000), ("many", 1000)):
        field.fill(typed)
        field.press("Enter")
        field.blur()
        settled(tab, users)
        assert field.input_value() == str(users)


def test_a_plan_is_handed_on_by_its_address(tab: Tab) -> None:
    tab.open("/#/plan/serve?model=Qwen3-32B&chip=B200+SXM&chips=2&users=10&input=500&output=2000&precision=fp4&price=3")
    tab.page.get_by_role("heading", name="Qwen3-32B on 2 × B200 SXM").wait_for()
    asked = {"model": "Qwen3-32B", "chip": "B200 SXM", "chips": 2, "streams": 10, "input": 500, "output": 2000}
    answer = api(tab, "serve", **asked, precision="fp4", usd_per_hour=3)
    assert tile(tab, "speed per user").startswith(written(answer["figures"]["user"]["mid"]))
    assert tile(tab, "million tokens for").startswith(f"${answer['figures']['usd']['mid']:.2f}")
    link = tab.page.url
    tab.page.reload()
    tab.page.get_by_role("heading", name="Qwen3-32B on 2 × B200 SXM").wait_for()
    assert tab.page.url == link
    tab.page.get_by_role("link", name="Think").click()
    tab.page.get_by_role("link", name="Plan").click()
    tab.page.get_by_role("heading", name="Qwen3-32B on 2 × B200 SXM").wait_for()
    assert tab.page.url == link


def test_chips_are_compared_as_lines_and_as_rows(tab: Tab) -> None:
    tab.open("/#/plan/serve?model=Llama-3.1-8B&chip=H100+SXM&chips=1&users=8")
    tab.page.locator(".tiles").wait_for()
    tab.page.get_by_role("combobox", name="Compare").select_option("MI300X")
    rows = tab.page.get_by_role("region", name="Chips compared").get_by_role("row")
    tab.wait(lambda: rows.count() == 3, "a row for each chip below the head")
    user = api(tab, "serve", model="Llama-3.1-8B", chip="MI300X", chips=1, streams=8)["figures"]["user"]
    assert written(user["mid"]) in rows.last.inner_text() and "versus=MI300X" in tab.page.url
    drawn = tab.page.get_by_role("img", name=re.compile(r"^speed per user\. H100 SXM: .* MI300X: "))
    assert f"{written(user['mid'])} tokens/s at 8 users" in drawn.get_attribute("aria-label")
    tab.page.get_by_role("radio", name="million tokens for").check()
    tab.page.get_by_role("img", name=re.compile(r"^million tokens for")).wait_for()
    tab.page.get_by_role("button", name="Compare no longer with MI300X").click()
    rows.first.wait_for(state="detached")


def test_what_cannot_be_is_said_in_words(tab: Tab) -> None:
    tab.open("/#/plan/serve?model=DeepSeek-R1&chip=H100+SXM&chips=1")
    tab.page.get_by_text("infeasible").wait_for()
    assert "does not fit" in tab.page.locator(".verdict").inner_text()
    assert tab.page.locator(".tiles").count() == 0
    tab.open("/#/plan/serve?model=DeepSeek-R1&chip=H200+SXM&chips=8&users=5000")
    tab.page.get_by_text("saturated").wait_for()
    assert "5000 streams do not fit" in tab.page.locator(".verdict").inner_text()
    over = tab.page.get_by_role("region", name="Memory of a chip").locator(".over")
    assert re.fullmatch(r"[\d.]+ % more than the 141 GB that there are", over.inner_text())


def test_training_has_a_plan_too(tab: Tab) -> None:
    tab.open(PLAN)
    tab.page.get_by_role("radio", name="Pre-training").check()
    tab.page.get_by_role("textbox", name="Tokens").fill("2e12")
    tab.page.get_by_role("textbox", name="Tokens").blur()
    answer = api(tab, "train", model="DeepSeek-R1", chip="H200 SXM", chips=2048, tokens=2e12)
    days = written(answer["figures"]["days"]["mid"])
    tab.wait(lambda: tab.page.locator(".tiles").count() and tile(tab, "time").startswith(f"{days} days"), "its days")
    assert tab.page.get_by_role("img", name=re.compile(r"^time\. H200 SXM: ")).is_visible()
    assert "/train?" in tab.page.url and "tokens=2000000000000" in tab.page.url


def test_a_chip_that_there_is_not_is_named_and_the_others_are_shown(tab: Tab) -> None:
    tab.refusals = (400,)
    tab.open("/#/plan/serve?model=Llama-3.1-8B&chip=H100+SXM&chips=1&users=8&versus=H9000")
    tab.page.locator(".tiles").wait_for()
    assert tab.page.get_by_role("alert").inner_text().startswith('H9000: there is no chip "H9000"')


def test_a_model_is_also_known_by_its_parameters(tab: Tab) -> None:
    tab.open(PLAN)
    tab.page.get_by_role("combobox", name="Model").select_option("another, by its parameters")
    field = tab.page.get_by_role("textbox", name="Parameters")
    field.fill("30e9/3e9")
    field.blur()
    tab.page.get_by_role("heading", name="a model of 30e9/3e9 parameters").wait_for()


def test_a_screen_reader_hears_the_plan_once_it_rests(tab: Tab) -> None:
    tab.open(PLAN)
    settled(tab, 64)
    said = tab.page.get_by_role("status")
    tab.wait(lambda: "speed per user" in said.inner_text(), "the plan to be spoken")
    assert re.match(r"8 H200 SXM: speed per user [\d.]+ tokens/s, [\d.]+ to [\d.]+ tokens/s; ", said.inner_text())


@pytest.mark.parametrize("keyed", [True])
def test_a_server_with_keys_plans_for_those_who_have_one(tab: Tab) -> None:
    tab.refusals = (401,)
    tab.open(PLAN)
    field = tab.page.get_by_label("This server asks for a key")
    field.fill(KEY)
    field.press("Enter")
    tab.page.locator(".tiles").wait_for()
    assert tab.page.get_by_role("alert").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", [COMPARED, "/#/plan/serve?users=5000", "/#/plan/train?chip=H100+SXM"])
def test_axe_finds_no_fault(tab: Tab, scheme: str, view: str) -> None:
    module = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is missing")
    tab.open(view)
    tab.page.locator(".parts").first.wait_for()
    for fold in tab.page.locator("summary").all():
        fold.click()
    found = module.Axe().run(tab.page).response["violations"]
    assert [(v["id"], [n["html"] for n in v["nodes"]]) for v in found] == []
