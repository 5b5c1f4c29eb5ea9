"""The page in a browser, against a server whose answers are known: what a person sees, hears and does.

Every test also fails on a complaint in the browser's console and on a request to another host (conftest.py).
"""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'raison[serve]'")

from fastapi.testclient import TestClient

from raison.files import holding
from tests.page.conftest import Tab
from tests.page.stand_in import KEY, THOUGHT, VOTED, WHY, app_for
from tests.page.written_run import WrittenRun

THOUGHT_OVER = re.compile(r"Thought for \d+\.\d\d? s, (at least )?\d+ tokens")
FOCUSED = "(e => e.getAttribute('aria-label') ?? (e.innerText || e.name))(document.activeElement)"
SPOKEN = """
window.spoken = [];
new MutationObserver(() => window.spoken.push(document.querySelector("[role=status]").textContent))
  .observe(document.querySelector("[role=status]"), { childList: true, characterData: true, subtree: true });
"""


def squeezed(texts: list[str]) -> list[str]:
    return [" ".join(text.split()) for text in texts]


def test_thinking_streams_and_folds_away(tab: Tab) -> None:
    tab.open()
    tab.ask("hold on")
    words = tab.page.get_by_role("group", name="What was thought")
    words.filter(has_text=THOUGHT[-1].strip()).wait_for()
    assert tab.page.get_by_text(re.compile(r"Thinking, \d.* s, 40\+ tokens")).is_visible()
    assert tab.page.locator(".answer").count() == 0, "the thinking is there before the answer"
    tab.page.keyboard.press("Escape")
    tab.ended()
    tab.ask("why?")
    tab.ended(2)
    thought = tab.page.get_by_role("button", name=THOUGHT_OVER)
    assert thought.last.get_attribute("aria-expanded") == "false" and words.count() == 0
    assert tab.page.get_by_text("You asked: why?", exact=True).is_visible()
    thought.last.click()
    assert THOUGHT[3].strip() in words.inner_text()


def test_what_streams_is_seen_before_the_rest_is_sent(tab: Tab) -> None:
    tab.open()
    tab.ask("hold halfway")
    words = tab.page.get_by_role("group", name="What was thought").filter(has_text=THOUGHT[19].strip())
    words.wait_for()
    assert THOUGHT[20].strip() not in words.inner_text()
    tab.app.state.go_on.set()
    tab.ended()
    tab.page.get_by_role("button", name=THOUGHT_OVER).click()
    assert THOUGHT[-1].strip() in words.inner_text()


def test_escape_stops_the_server_too(tab: Tab) -> None:
    tab.open()
    tab.ask("hold on")
    tab.page.get_by_text(THOUGHT[-1].strip()).wait_for()
    tab.page.keyboard.press("Escape")
    tab.page.get_by_text("stopped", exact=True).wait_for()
    tab.wait(lambda: tab.app.state.hung_up == 1, "the server to notice")
    assert tab.page.get_by_role("button", name="Ask", exact=True).is_visible()


@pytest.mark.parametrize(("effort", "sent", "tokens"), [("low", "low", 16), ("none", "none", 0)])
def test_an_effort_is_sent_and_acts(tab: Tab, effort: str, sent: str, tokens: int) -> None:
    tab.open()
    tab.choose(effort)
    tab.ask("why?")
    tab.ended()
    assert tab.asked()["reasoning_effort"] == sent and "strategy" not in tab.asked()
    thought = tab.page.get_by_text(f"{tokens} tokens (the whole budget)")
    assert thought.count() == (1 if tokens else 0)


def test_a_budget_is_sent_and_acts(tab: Tab) -> None:
    tab.open()
    tab.choose("budget")
    tab.page.get_by_label("Thinking tokens").fill("5")
    tab.ask("why?")
    tab.ended()
    assert tab.asked()["thinking_token_budget"] == 5 and "reasoning_effort" not in tab.asked()
    assert tab.page.get_by_text("5 tokens (the whole budget)").is_visible()


def test_by_default_nothing_is_asked_for(tab: Tab) -> None:
    tab.open()
    tab.ask("why?")
    tab.ended()
    assert set(tab.asked()) == {"model", "messages", "stream", "stream_options"}
    assert tab.page.get_by_role("radio", name="max").count() == 0, "no limit, as when nothing is asked for"


def test_the_branches_of_a_vote_are_seen_side_by_side_and_the_tally_forms(tab: Tab) -> None:
    tab.open()
    tab.choose("vote")
    tab.page.get_by_label("Samples in the vote").fill("5")
    tab.ask("hold 3 7 25 -> 46")
    tab.page.get_by_text("2 votes").wait_for()
    cards = tab.page.locator(".branch")
    assert cards.count() == 5 and len({cards.nth(n).bounding_box()["y"] for n in range(3)}) == 1, "side by side"
    assert THOUGHT[23].strip() in cards.nth(4).inner_text()
    tally = tab.page.get_by_role("list", name="Tally of the answers").get_by_role("listitem")
    assert squeezed(tally.all_inner_texts()) == [f"A {VOTED[0][0]} 2 votes leads", f"B {VOTED[1][0]} 1 vote"]
    tab.app.state.go_on.set()
    tab.ended()
    assert tab.asked()["strategy"] == {"vote": "majority", "max_samples": 5}
    assert squeezed(tally.all_inner_texts()) == [f"A {VOTED[0][0]} 3 votes chosen", f"B {VOTED[1][0]} 1 vote"]
    assert tab.page.get_by_text(WHY).is_visible()
    assert tab.page.locator(".answer").inner_text() == VOTED[0][0]


def test_the_branches_fold_away_and_come_back_with_their_letters(tab: Tab) -> None:
    tab.open()
    tab.choose("auto")
    tab.ask("3 7 25 -> 46")
    tab.ended()
    assert tab.asked()["strategy"] == {"vote": "auto", "max_samples": 8}
    assert tab.page.locator(".branch").count() == 0
    tab.page.get_by_role("button", name="5 branches, 144 tokens").click()
    heads = squeezed(tab.page.locator(".branch header").all_inner_texts())
    assert heads[0] == "A Branch 1 30 tokens" and heads[2] == "B Branch 3 30 tokens"
    assert heads[4] == "Branch 5 24 tokens, stopped"


def test_what_it_took_is_told(tab: Tab) -> None:
    tab.open()
    tab.ask("why?")
    tab.ended()
    receipt = tab.page.get_by_role("list", name="What it took").inner_text()
    for part in ("49 tokens", "1,370 tokens/s", "prompt 11, 4 cached", "$0.0000021"):
        assert part in receipt


def test_formulas_are_set_and_nothing_else_is(tab: Tab) -> None:
    tab.open()
    tab.ask("formulas")
    tab.ended()
    tab.until("document.querySelectorAll('.answer .katex').length === 3")
    assert tab.page.evaluate("document.fonts.ready.then(() => document.fonts.check('16px KaTeX_Main'))")
    told = tab.page.locator(".answer").inner_text()
    for text in ("costs $5 and $6. 3*7*25 = 525", "\\notacommand{", "<b>not bold</b>"):
        assert text in told
    assert tab.page.locator(".answer code").inner_text() == "$x$"
    assert tab.page.locator(".answer img, .answer b").count() == 0


def test_an_answer_that_breaks_off_keeps_what_came(tab: Tab) -> None:
    tab.open()
    tab.ask("break")
    tab.ended()
    assert tab.page.get_by_role("alert").inner_text() == "the engine has stopped"
    assert tab.page.get_by_role("button", name=THOUGHT_OVER).is_visible()


def test_a_busy_server_says_when_to_come_back(tab: Tab) -> None:
    tab.refusals = (429,)
    tab.open()
    tab.ask("overload")
    tab.ended()
    assert tab.page.get_by_role("alert").inner_text() == "the queue is full Try again in 7 s."


def test_a_model_with_a_task_gets_each_question_by_itself(tab: Tab) -> None:
    tab.open()
    tab.page.get_by_role("button", name="3 7 25 -> 46").click()
    tab.ended()
    tab.ask("why?")
    tab.ended(2)
    assert tab.asked()["messages"] == [{"role": "user", "content": "why?"}]


def test_the_keyboard_does_it_all(tab: Tab) -> None:
    tab.open()
    tab.until("document.querySelector('.example, .examples button')")
    assert tab.page.evaluate("document.activeElement.tagName") == "TEXTAREA"
    tab.page.keyboard.type("one")
    tab.page.keyboard.press("Shift+Enter")
    tab.page.keyboard.type("two")
    tab.page.keyboard.press("Control+Enter")
    tab.ended()
    assert tab.asked()["messages"][-1]["content"] == "one\ntwo"
    tab.page.reload()
    tab.until("document.querySelector('.examples button')")
    tab.page.evaluate("document.querySelector('.skip').focus()")
    order = [tab.page.evaluate(FOCUSED)]
    for _ in range(10):
        tab.page.keyboard.press("Tab")
        order.append(tab.page.evaluate(FOCUSED))
    assert order[:5] == ["Skip to the content", "raison", "Think", "Training", "Plan"]
    assert order[5].startswith("Colours") and order[6:] == ["3 7 25 -> 46", "Your question", "Ask", "effort", "way"]


def test_a_screen_reader_hears_the_beginning_and_the_end(tab: Tab) -> None:
    tab.open()
    tab.page.wait_for_selector(".composer")
    tab.page.evaluate(SPOKEN)
    tab.ask("why?")
    tab.ended()
    tab.until("window.spoken.length >= 2")
    first, last = tab.page.evaluate("window.spoken")
    assert first == "Thinking"
    assert re.fullmatch(r"Thought for \d+\.\d+ s, 40 tokens\. You asked: why\?", last)


def test_light_and_dark_follow_the_system_until_one_is_chosen(tab: Tab) -> None:
    tab.open()
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    light = tab.page.evaluate(ground)
    tab.page.emulate_media(color_scheme="dark")
    dark = tab.page.evaluate(ground)
    assert light != dark
    tab.page.get_by_role("button", name="Colours: auto. Change to light").click()
    tab.until(f"{ground} === '{light}'")
    tab.page.reload()
    tab.until(f"{ground} === '{light}'")


@pytest.mark.parametrize("keyed", [True])
def test_a_server_with_keys_is_given_one_for_this_tab_only(tab: Tab) -> None:
    tab.refusals = (401,)
    tab.open()
    field = tab.page.get_by_label("This server asks for a key")
    field.fill("wrong")
    field.press("Enter")
    field.wait_for()
    field.fill(KEY)
    field.press("Enter")
    tab.page.get_by_text("countdown-r1").wait_for()
    assert field.count() == 0
    tab.ask("why?")
    tab.ended()
    assert KEY not in tab.page.evaluate("JSON.stringify(localStorage)")
    assert KEY in tab.page.evaluate("JSON.stringify(sessionStorage)")
    tab.page.get_by_role("button", name="forget key").click()
    field.wait_for()


def test_a_model_that_is_still_loading_is_asked_again(tab: Tab) -> None:
    tab.app.state.loading = True
    tab.open()
    tab.page.get_by_text("countdown-r1").wait_for()
    assert tab.page.get_by_role("radio", name="low").count() == 0
    tab.app.state.loading = False
    tab.page.get_by_role("radio", name="low").wait_for()


def test_a_training_run_is_seen_live(tab: Tab, written: WrittenRun) -> None:
    for step in (1, 2):
        written.grpo_step(step)
    with holding(written.folder):
        _watch_it_grow(tab, written)
    tab.page.locator(".heading").get_by_text("stopped").wait_for()


def _watch_it_grow(tab: Tab, written: WrittenRun) -> None:
    tab.open("/#/training")
    solved = tab.page.locator("figure", has_text="solved, share").locator("output")
    tab.page.get_by_text("step 2 of 40", exact=False).first.wait_for()
    assert solved.inner_text() == "0.05"
    for step in range(3, 21):
        written.grpo_step(step)
    written.rollout(19, "3 7 25 -> 46", "7 * 3 = 21", "7 * 3 + 25 = 46", True)
    tab.page.get_by_text("grpo, step 20 of 40").wait_for()
    assert solved.inner_text() == "0.5"
    charts = tab.page.get_by_role("img", name=re.compile("over 20 steps: from"))
    assert charts.count() == 5
    assert tab.page.get_by_text("✓ solved: makes 46, reward 1").is_visible()
    polls = [url for url in tab.requests if "after=" in url]
    assert any("after=2" in url for url in polls), "only what is new is asked for"


def test_another_stage_can_be_looked_at(tab: Tab, written: WrittenRun) -> None:
    written.grpo_step(1)
    tab.open("/#/training")
    stages = tab.page.get_by_role("list", name="Stages").get_by_role("button")
    stages.filter(has_text="cold-start").click()
    tab.page.get_by_text("cold-start, step 2 of 2").wait_for()
    assert "solves 72.5 %" in stages.filter(has_text="cold-start").inner_text()
    assert stages.filter(has_text="grpo-control").is_disabled()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault(tab: Tab, written: WrittenRun, scheme: str) -> None:
    module = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is missing")
    axe = module.Axe()

    def faults() -> list[Any]:
        return [(v["id"], [n["html"] for n in v["nodes"]]) for v in axe.run(tab.page).response["violations"]]

    tab.open()
    tab.page.wait_for_selector(".examples")
    assert faults() == []
    tab.ask("formulas")
    tab.ended()
    tab.choose("vote")
    tab.ask("hold 3 7 25 -> 46")
    tab.page.get_by_text("2 votes").wait_for()
    assert faults() == []
    tab.app.state.go_on.set()
    tab.ended(2)
    for fold in tab.page.locator(".fold").all():
        fold.click()
    assert faults() == []
    written.grpo_step(1)
    written.rollout(0, "3 7 25 -> 46", "7 * 3 = 21", "7 * 3 + 25 = 46", True)
    tab.page.get_by_role("link", name="Training").click()
    tab.page.wait_for_selector(".samples")
    assert faults() == []


def test_the_files_are_served_under_a_strict_policy(written: WrittenRun) -> None:
    client = TestClient(app_for(written.folder.parent, keyed=True))
    page, font = client.get("/"), client.get("/assets/fonts/KaTeX_Main-Regular.woff2")
    for answer in (page, font):
        assert answer.status_code == 200
        assert "default-src 'self'; connect-src 'self'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
    assert font.headers["content-type"] == "font/woff2"
    again = client.get("/assets/main.js", headers={"If-None-Match": client.get("/assets/main.js").headers["etag"]})
    assert again.status_code == 304
    assert client.get("/assets/../page.py").status_code in (401, 404)
    assert client.get("/assets/%2e%2e/%2e%2e/page.py").status_code in (401, 404)


def test_a_question_can_be_had_as_a_command(tab: Tab) -> None:
    tab.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab.open()
    tab.ask("what's 1+1?")
    tab.ended()
    tab.page.get_by_role("button", name="copy as curl").click()
    tab.page.get_by_role("button", name="copied").wait_for()
    words = shlex.split(tab.page.evaluate("navigator.clipboard.readText()"))
    assert words[:3] == ["curl", "-N", f"{tab.url}/v1/chat/completions"]
    assert json.loads(words[-1]) == tab.asked()
