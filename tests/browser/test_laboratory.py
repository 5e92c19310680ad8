"""The laboratory on the built page: trains without a kernel, by keyboard, on a phone, in both themes, from a file."""

import json
import re
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, Route, expect

from helpers import widgets
from helpers.widgets.laboratory import packed_digits
from tests.browser.conftest import HTML

PAGE = "book/14-playground"
NOTEBOOK = """<!doctype html><html lang="en"><title>Notebook</title><body><div id="place"></div><script type="module">
const values = { settings: { world: "digits", epochs: 5 }, results: {} };
const listeners = {};
globalThis.sent = [];
globalThis.model = {
  get: (key) => values[key],
  set(key, value) { values[key] = value; (listeners[`change:${key}`] ?? []).forEach((listener) => listener()); },
  save_changes() {},
  on(event, listener) { (listeners[event] ??= []).push(listener); },
  off(event, listener) { listeners[event] = listeners[event].filter((other) => other !== listener); },
  async send(content) {
    sent.push(content);
    const digits = await (await fetch("kernel-digits")).text();
    (listeners["msg:custom"] ?? []).forEach((listener) => listener({ digits }, []));
  },
};
const { default: widget } = await import("./kernel-element.js");
widget.render({ model, el: document.getElementById("place") });
</script></body></html>"""
NO_WORKER = "window.Worker = function () { throw new Error('workers are forbidden here'); };"
# A frame paints one part of the laboratory at least, and there are seven.
PAINTED = """() => new Promise((done) => {
    const frame = (left) => (left ? requestAnimationFrame(() => frame(left - 1)) : done());
    frame(8);
})"""
SECONDS = 180  # generous: nothing waits for it on a page that works
WAIT = 1000 * SECONDS  # of an assertion that waits for what it reads


def element(page: Page) -> Locator:
    return page.locator(".lab").first


def painted(page: Page) -> None:
    """Wait until everything that has happened so far stands in the page."""
    page.evaluate(PAINTED)


def until(page: Page, true: Callable[[], Any], what: str) -> None:
    """Wait for what no locator tells: an address, a number."""
    for _ in range(10 * SECONDS):
        if true():
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"not within {SECONDS} s: {what}; the address is {page.url}")


def trained(page: Page, words: str = "Gap") -> str:
    """The sentence under the picture, once a run has finished and everything of it is painted."""
    status = element(page).locator(".lab-status")
    for _ in range(10 * SECONDS):
        painted(page)
        text = status.inner_text()
        if words in text and element(page).get_attribute("class") == "lab":
            painted(page)
            return status.inner_text()
        page.wait_for_timeout(100)
    raise AssertionError(f"nothing was trained within {SECONDS} s; the status says {status.inner_text()!r}")


def answer(body: str, kind: str) -> Callable[[Route], None]:
    return lambda route: route.fulfill(body=body, content_type=kind)


def control(page: Page, label: str) -> Locator:
    """The control of this name; what it is folded into is opened."""
    found = element(page).get_by_label(label, exact=True)
    found.evaluate("(node) => { const fold = node.closest('details'); if (fold) fold.open = true; }")
    return found


def unfold(page: Page) -> None:
    page.evaluate("document.querySelectorAll('.lab details').forEach((more) => (more.open = true))")


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_it_trains_as_the_page_opens(visit: Callable[..., Any], look: str) -> None:
    with visit(PAGE, look) as seen:
        trained(seen.page)
        bars = element(seen.page).locator("g.lab-bar")
        assert [bar.get_attribute("data-bound") for bar in bars.all()] == [
            "closed form", "end point", "omniscient", "self-certified", "counted", "Langevin",
        ]  # fmt: skip
        assert element(seen.page).locator(".lab-gap").count() == 2
        assert element(seen.page).locator(".lab-chart .lab-dot").count() == 2
        assert seen.page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
        assert seen.problems == []


@pytest.mark.parametrize("look", ["light", "dark"])
def test_axe_finds_nothing_once_it_has_trained(visit: Callable[..., Any], look: str) -> None:
    with visit(PAGE, look) as seen:
        trained(seen.page)
        unfold(seen.page)
        found = Axe().run(seen.page, ".lab", options={"preload": False}).response["violations"]
        assert [(rule["id"], rule["nodes"][0]["html"][:120]) for rule in found] == []


def test_axe_finds_nothing_while_it_asks_sweeps_and_is_left(visit: Callable[..., Any]) -> None:
    with visit(PAGE, "dark") as seen:
        trained(seen.page)

        def violations() -> list[str]:
            found = Axe().run(seen.page, ".lab", options={"preload": False}).response["violations"]
            return [f"{rule['id']}: {rule['nodes'][0]['html'][:120]}" for rule in found]

        element(seen.page).get_by_role("button", name="Sweep the batch size").click()
        assert violations() == []
        seen.page.keyboard.press("=")
        seen.page.wait_for_timeout(500)
        assert violations() == []
        control(seen.page, "world").select_option("moons")
        assert element(seen.page).locator(".lab-note").inner_text() != ""
        assert violations() == []


def test_every_control_works_by_keyboard(visit: Callable[..., Any]) -> None:
    with visit(PAGE) as seen:
        before = trained(seen.page)
        unfold(seen.page)
        for slider in element(seen.page).locator("input[type=range]:visible").all():
            text = slider.get_attribute("aria-valuetext")
            slider.focus()
            seen.page.keyboard.press(
                "ArrowRight" if slider.input_value() == slider.get_attribute("min") else "ArrowLeft"
            )
            painted(seen.page)
            assert slider.get_attribute("aria-valuetext") != text, slider.get_attribute("id")
            output = element(seen.page).locator(f"output[for='{slider.get_attribute('id')}']")
            assert output.inner_text() == slider.get_attribute("aria-valuetext")
        assert trained(seen.page) != before
        assert seen.problems == []


def test_lambda_and_sigma_move_without_training(visit: Callable[..., Any]) -> None:
    with visit(PAGE) as seen:
        trained(seen.page)
        dots = element(seen.page).locator(".lab-chart .lab-dot").count()
        picture = element(seen.page).locator(".lab-bars svg")
        for label in ("trade-off λ", "ghost noise σ"):
            drawn = picture.inner_html()
            control(seen.page, label).focus()
            seen.page.keyboard.press("ArrowRight")
            painted(seen.page)
            assert picture.inner_html() != drawn
        assert element(seen.page).locator(".lab-chart .lab-dot").count() == dots
        assert "lab-busy" not in (element(seen.page).get_attribute("class") or "")


def test_a_setting_can_be_sent(visit: Callable[..., Any]) -> None:
    with visit(PAGE) as seen:
        trained(seen.page)
        control(seen.page, "world").select_option("moons")
        control(seen.page, "batch size").focus()
        for _ in range(20):
            seen.page.keyboard.press("ArrowLeft")
        words, batch = trained(seen.page), control(seen.page, "batch size").get_attribute("aria-valuetext")
        until(seen.page, lambda: f"batch_size={batch}&" in seen.page.url, "the address follows a moment later")
        address = seen.page.url
        assert "world=moons" in address
        python = element(seen.page).locator("pre code").text_content()
        with visit(PAGE) as other:
            other.page.goto(address)
            other.page.reload()
            assert trained(other.page) == words
            assert control(other.page, "batch size").get_attribute("aria-valuetext") == batch
            assert control(other.page, "world").input_value() == "moons"
            assert element(other.page).locator("pre code").text_content() == python


def test_nonsense_in_the_address_is_no_setting(visit: Callable[..., Any], site: str) -> None:
    with visit(PAGE) as seen:
        seen.page.goto(f"{site}/{PAGE}.html#lab?world=<b>&batch_size=1e9&lr=-3&epochs=NaN&width=x&lam=99&stretch=-1")
        seen.page.reload()
        trained(seen.page)
        assert seen.problems == []


def test_the_cell_in_the_page_repeats_its_run(visit: Callable[..., Any]) -> None:
    with visit(PAGE) as seen:
        seen.page.evaluate("location.hash = '#lab?world=xor&n=40&epochs=5&width=6&seed=3'")
        seen.page.reload()
        words = trained(seen.page)
        scope: dict[str, Any] = {}
        exec(element(seen.page).locator("pre code").text_content() or "", scope)
        gap = float(f"{scope['bounds']['gap']['value']:.3g}")
        assert words.startswith(f"Gap {gap:g} ".replace("-", "−"))


def swept(page: Page) -> tuple[str, str]:
    """The answer beside the buttons and its details, once a sweep has ended."""
    lab, details = element(page), element(page).locator(".lab-details")
    for _ in range(40 * SECONDS):
        done = lab.get_by_role("button", name="Stop the sweep").count() == 0
        if done and "95 % intervals" in (details.text_content() or ""):  # a phone folds them
            painted(page)
            return lab.locator(".lab-answer").inner_text(), details.text_content() or ""
        page.wait_for_timeout(100)
    raise AssertionError(f"no sweep ended within {4 * SECONDS} s; the details say {details.text_content()!r}")


@pytest.mark.parametrize("size", [(1280, 800), (390, 844)], ids=["desk", "phone"])
def test_a_sweep_answers_beside_its_button(visit: Callable[..., Any], size: tuple[int, int]) -> None:
    with visit(PAGE, viewport={"width": size[0], "height": size[1]}) as seen:
        trained(seen.page)
        button = element(seen.page).locator(".lab-sweeps button").first  # its name changes
        assert button.inner_text() == "Sweep the batch size"
        button.click()
        asked = element(seen.page).locator(".lab-question .lab-ask")
        assert_progress(seen.page, "No sweep is running.", 0)
        assert "Of batch size 2 and 200, the one whose networks are flatter will have" in asked.inner_text()
        skip = asked.get_by_role("button", name="Skip").bounding_box()
        assert skip is not None
        assert skip["y"] + skip["height"] <= size[1]
        seen.page.keyboard.press("ArrowUp")
        assert not asked.is_visible()
        assert button.evaluate("(node) => node === document.activeElement")
        bar = element(seen.page).locator(".lab-sweeping .lab-progress")
        assert re.match(r"Training \d+ of 15: batch size \d+, seed 0\.", bar.inner_text().strip())
        box, pressed = bar.bounding_box(), button.bounding_box()
        assert box is not None
        assert pressed is not None
        assert abs(box["y"] - pressed["y"]) < 260
        assert 0 <= box["y"] <= size[1] - 30
        words, details = swept(seen.page)
        assert words.startswith("The flatter networks have the larger gap, by 0.")
        assert re.search(r"Seed by seed: larger in (one|two|three|four|five) of (four|five) seeds", words)
        assert details.startswith("Digits, seed 0: from batch size 2 to 200 the trace ")
        assert "pairs of settings" in details
        verdict = element(seen.page).locator(".lab-verdict").inner_text()
        assert verdict == "You expected a larger gap. It is larger. Right; 1 of 1 right so far."
        assert seen.page.evaluate("scrollY") == 0
        for node in (button, element(seen.page).locator(".lab-answer")):
            box = node.bounding_box()
            assert box is not None
            assert box["y"] >= 0
            assert box["y"] + box["height"] <= size[1]
        chart = element(seen.page).locator(".lab-evidence > svg").bounding_box()
        assert chart is not None
        if size[0] == 1280:  # the whole picture stands below the words without scrolling
            assert chart["y"] + chart["height"] <= size[1]
        seeds = element(seen.page).locator(".lab-evidence > svg text", has_text="seed").count()
        assert 3 <= seeds <= 5
        assert element(seen.page).locator(".lab-evidence > svg .lab-dot").count() == 2 * seeds
        assert element(seen.page).locator(".lab-evidence > svg .lab-difference").count() == seeds + 1
        assert element(seen.page).locator(".lab-evidence > svg .lab-error").count() == 0
        assert element(seen.page).locator(".lab-evidence > svg .lab-rise").count() == 2
        assert element(seen.page).locator(".lab-question tbody tr").count() == 2 * seeds + 1
        dots = element(seen.page).locator(".lab-chart").last.locator("g.lab-group0 > .lab-dot")
        assert dots.count() == 7  # one setting is one dot, though the sweep comes home and trains it again
        assert control(seen.page, "batch size").get_attribute("aria-valuetext") == "20"
        assert seen.problems == []


def assert_progress(page: Page, words: str, value: float) -> None:
    progress = element(page).locator(".lab-sweeping .lab-progress")
    assert progress.inner_text().strip() == words
    bar = progress.locator("progress")
    assert float(bar.get_attribute("value") or 0) == value
    assert bar.get_attribute("aria-valuetext") == words


def test_a_sweep_that_fits_unequally_is_repeated_at_one_loss(visit: Callable[..., Any]) -> None:
    with visit(PAGE) as seen:
        trained(seen.page)
        asks = control(seen.page, "ask me before a sweep")
        asks.uncheck()
        again = element(seen.page).get_by_role("button", name="Sweep again, all to one training loss")
        assert again.count() == 0
        element(seen.page).get_by_role("button", name="Sweep the batch size").click()
        assert "But they fit unequally" in swept(seen.page)[1]
        assert again.inner_text() == "Sweep again, all to one training loss: 0.03"
        assert element(seen.page).locator(".lab-sweeping .lab-progress").is_hidden()
        stop = control(seen.page, "stop at")
        assert stop.evaluate("(node) => node.selectedOptions[0].textContent") == "40 epochs"
        asks.check()
        again.click()
        asked = element(seen.page).locator(".lab-question .lab-ask")
        assert "Of batch size 2 and 200, each trained to a loss of 0.03, the one whose" in asked.inner_text()
        assert stop.input_value() == "epochs"  # nothing is set before the answer
        seen.page.keyboard.press("ArrowUp")
        assert element(seen.page).locator(".lab-answer").inner_text().startswith("Sweeping")
        details = swept(seen.page)[1]
        found = re.search(
            r"fell below 0\.03, after \d+ to \d+ epochs; at the end the losses are ([\d.]+) to ([\d.]+) over all seeds",
            details,
        )
        assert found is not None
        assert 0.005 < float(found[1]) < float(found[2]) <= 0.05
        assert "Left out" not in details
        assert element(seen.page).locator(".lab-verdict").inner_text().startswith("You expected a larger gap.")
        assert again.count() == 0
        assert stop.input_value() == "loss"  # kept, beside the buttons, where it can be changed
        assert stop.evaluate("(node) => node.selectedOptions[0].textContent") == "training loss 0.03"
        assert stop.evaluate("(node) => node.closest('.lab-sweeps') !== null")
        stop.select_option("epochs")
        trained(seen.page)
        until(seen.page, lambda: "stop_loss" not in seen.page.url, "no loss in the address")


LEAVES: dict[str, tuple[Callable[[Page], Any], str]] = {
    "world": (lambda page: control(page, "world").select_option("moons"), "you changed the world to two moons"),
    "batch size": (lambda page: control(page, "batch size").press("ArrowRight"), "you changed the batch size"),
    "stop": (
        lambda page: control(page, "stop at").select_option("loss"),
        "you changed where training stops",
    ),
    "address": (lambda page: page.evaluate("location.hash = '#lab?lr=0.2'"), "the address of the page changed"),
    "reset": (
        lambda page: element(page).get_by_role("button", name="Default settings").click(),
        "you pressed “Default settings”",
    ),
    "another sweep": (
        lambda page: element(page).get_by_role("button", name="Sweep the learning rate").click(),
        "you asked for another",
    ),
}


@pytest.mark.parametrize("name", LEAVES)
def test_a_sweep_never_ends_without_a_word(visit: Callable[..., Any], name: str) -> None:
    act, why = LEAVES[name]
    with visit(PAGE) as seen:
        trained(seen.page)
        control(seen.page, "ask me before a sweep").uncheck()
        element(seen.page).get_by_role("button", name="Sweep the batch size").click()
        seen.page.wait_for_timeout(300)
        act(seen.page)
        note = element(seen.page).locator(".lab-words .lab-note")
        words = re.compile(rf"^The sweep of the batch size ended after \d+ of 15 trainings, for {why}\.")
        expect(note).to_have_text(words, timeout=WAIT)
        details = element(seen.page).locator(".lab-details")
        assert "ended after" not in (details.text_content() or "")  # said once
        if name != "another sweep":  # and it stays when the next run has ended
            trained(seen.page)
            expect(note).to_have_text(words, timeout=WAIT)
        assert seen.problems == []


def test_a_question_or_a_bet_never_ends_without_a_word(visit: Callable[..., Any]) -> None:
    with visit(PAGE) as seen:
        trained(seen.page)
        element(seen.page).get_by_role("button", name="Sweep the batch size").click()
        control(seen.page, "batch size").press("ArrowRight")
        note = element(seen.page).locator(".lab-words .lab-note")
        assert note.inner_text() == "The question was closed and no sweep began, for you changed the batch size."
        trained(seen.page)
        control(seen.page, "predict before I train").check()
        element(seen.page).get_by_role("button", name="Train", exact=True).click()
        control(seen.page, "learning rate").press("ArrowRight")
        assert (
            "The question was closed and nothing was trained, for you changed the learning rate." in note.inner_text()
        )
        assert "Nothing trains until you press Train" in note.inner_text()


def test_a_question_is_skipped_with_one_click_and_a_sweep_can_be_left(visit: Callable[..., Any]) -> None:
    with visit(PAGE) as seen:
        trained(seen.page)
        sweep = element(seen.page).get_by_role("button", name="Sweep the learning rate")
        sweep.click()
        element(seen.page).get_by_role("button", name="Skip").click()
        answer = element(seen.page).locator(".lab-answer")
        assert answer.inner_text().startswith("Sweeping")
        words = element(seen.page).locator(".lab-sweeping .lab-progress").inner_text().strip()
        assert words.startswith("Training 1 of 13: learning rate 0.01, seed 0.")
        control(seen.page, "seed").fill("4")
        control(seen.page, "seed").press("Tab")
        assert "for you changed the seed." in element(seen.page).locator(".lab-note").inner_text()
        control(seen.page, "ask me before a sweep").uncheck()
        sweep.click()
        assert element(seen.page).locator(".lab-ask:visible").count() == 0
        assert answer.inner_text().startswith("Sweeping")
        assert element(seen.page).locator(".lab-verdict").inner_text() == ""


def test_a_sweep_is_stopped_by_its_button_and_comes_home(visit: Callable[..., Any]) -> None:
    with visit(PAGE) as seen:
        trained(seen.page)
        control(seen.page, "ask me before a sweep").uncheck()
        element(seen.page).get_by_role("button", name="Sweep the batch size").click()
        element(seen.page).get_by_role("button", name="Stop the sweep").click()
        expect(element(seen.page).locator(".lab-question")).to_contain_text(
            "trainings, for you stopped it", timeout=WAIT
        )
        expect(element(seen.page).get_by_role("button", name="Sweep the batch size")).to_have_count(1, timeout=WAIT)
        trained(seen.page)
        assert control(seen.page, "batch size").get_attribute("aria-valuetext") == "20"


def test_a_sweep_s_button_is_named_with_what_it_does(visit: Callable[..., Any]) -> None:
    """In the turn of the press, not a frame later."""
    press = """(root) => {
        const button = root.querySelector(".lab-sweeps button");
        return [0, 1].map(() => { button.click(); return button.textContent; });
    }"""
    with visit(PAGE) as seen:
        trained(seen.page)
        control(seen.page, "ask me before a sweep").uncheck()
        assert element(seen.page).evaluate(press) == ["Stop the sweep", "Sweep the batch size"]


def moved_on(page: Page) -> None:
    for _ in range(2):
        control(page, "batch size").press("ArrowRight")


TWICE: dict[str, tuple[Callable[[Page], Any], str]] = {
    "a slider moved on": (
        lambda page: moved_on(page),
        "you changed the batch size",
    ),
    "a double click": (
        lambda page: element(page).get_by_role("button", name="Default settings").dblclick(),
        "you pressed “Default settings”",
    ),
    "a double click on Train": (
        lambda page: element(page).get_by_role("button", name="Train", exact=True).dblclick(),
        "you pressed “Train”",
    ),
}


@pytest.mark.parametrize("name", TWICE)
def test_a_second_event_leaves_what_the_first_one_ended(visit: Callable[..., Any], name: str) -> None:
    act, why = TWICE[name]
    with visit(PAGE) as seen:
        trained(seen.page)
        unfold(seen.page)
        control(seen.page, "ask me before a sweep").uncheck()
        sweep = element(seen.page).get_by_role("button", name="Sweep the batch size")
        note = element(seen.page).locator(".lab-words .lab-note")
        sweep.click()
        act(seen.page)
        expect(note).to_contain_text(f"for {why}.", timeout=WAIT)
        trained(seen.page)
        expect(note).to_contain_text(f"for {why}.", timeout=WAIT)
        if name == "a double click":  # what begins anew takes it away
            sweep.click()
        else:
            element(seen.page).get_by_role("button", name="Train", exact=True).click()
        expect(note).to_have_text("", timeout=WAIT)


def test_a_bet_on_a_sweep_that_is_left_is_void(visit: Callable[..., Any]) -> None:
    with visit(PAGE) as seen:
        trained(seen.page)
        element(seen.page).get_by_role("button", name="Sweep the batch size").click()
        seen.page.keyboard.press("ArrowUp")
        element(seen.page).get_by_role("button", name="Stop the sweep").click()
        note = element(seen.page).locator(".lab-words .lab-note")
        expect(note).to_contain_text("for you stopped it.", timeout=WAIT)
        expect(note).to_contain_text("Your bet on it is void.", timeout=WAIT)
        assert element(seen.page).locator(".lab-verdict").inner_text() == ""
        assert (element(seen.page).text_content() or "").count("for you stopped it") == 1


def test_bet_and_button_of_a_sweep_go_with_its_answer(visit: Callable[..., Any]) -> None:
    with visit(PAGE) as seen:
        trained(seen.page)
        element(seen.page).get_by_role("button", name="Sweep the batch size").click()
        seen.page.keyboard.press("ArrowUp")
        swept(seen.page)
        trained(seen.page)
        verdict = element(seen.page).locator(".lab-verdict")
        again = element(seen.page).locator(".lab-again")
        assert verdict.inner_text().startswith("You expected a larger gap.")
        assert again.is_visible()
        control(seen.page, "batch size").press("ArrowRight")
        assert not again.is_visible()
        trained(seen.page)
        expect(element(seen.page).locator(".lab-answer")).to_contain_text("The newest two runs", timeout=WAIT)
        assert verdict.inner_text() == ""
        assert not again.is_visible()


def test_the_address_of_a_sweep_is_where_it_comes_home_to(visit: Callable[..., Any]) -> None:
    with visit(PAGE) as seen:
        trained(seen.page)
        control(seen.page, "batch size").press("ArrowRight")
        batch = trained(seen.page) and control(seen.page, "batch size").get_attribute("aria-valuetext")
        until(seen.page, lambda: f"batch_size={batch}&" in seen.page.url, "the address follows")
        address = seen.page.url
        control(seen.page, "ask me before a sweep").uncheck()
        element(seen.page).get_by_role("button", name="Sweep the batch size").click()
        addresses = set()
        progress = element(seen.page).locator(".lab-sweeping .lab-progress")
        for _ in range(10 * SECONDS):
            addresses.add(seen.page.url)
            if re.match(r"\s*Training [4-9] of", progress.inner_text()):
                break
            seen.page.wait_for_timeout(50)
        seen.page.wait_for_timeout(400)
        assert addresses | {seen.page.url} == {address}


WATCH_PLACES = """(root) => {
    const parts = [".lab-evidence", ".lab-buttons", ".lab-controls", ".lab-stage", ".lab-status", ".lab-more"];
    globalThis.places = {};
    const look = () => {
        const top = root.getBoundingClientRect().top;
        for (const part of parts) {
            (places[part] ??= []).push(Math.round(root.querySelector(part).getBoundingClientRect().top - top));
        }
        requestAnimationFrame(look);
    };
    look();
}"""
FURTHEST = "() => Object.entries(places).map(([part, tops]) => [part, Math.max(...tops) - Math.min(...tops)])"


@pytest.mark.parametrize("width", [390, 1280])
def test_neither_a_sweep_nor_a_training_moves_what_is_below(visit: Callable[..., Any], width: int) -> None:
    with visit(PAGE, viewport={"width": width, "height": 844}) as seen:
        trained(seen.page)
        control(seen.page, "predict before I train")  # its fold is open from here on
        painted(seen.page)
        element(seen.page).evaluate(WATCH_PLACES)
        sweep = element(seen.page).locator(".lab-sweeps button").first
        sweep.click()
        seen.page.keyboard.press("=")
        swept(seen.page)
        trained(seen.page)
        sweep.click()
        seen.page.keyboard.press("=")
        control(seen.page, "batch size").press("ArrowRight")
        trained(seen.page)
        control(seen.page, "predict before I train").check()
        element(seen.page).get_by_role("button", name="Train", exact=True).click()
        painted(seen.page)
        seen.page.keyboard.press("=")
        trained(seen.page)
        assert {part: by for part, by in seen.page.evaluate(FURTHEST) if by > 2} == {}


def test_on_a_phone_button_answer_and_picture_come_first(visit: Callable[..., Any]) -> None:
    with visit(PAGE, viewport={"width": 390, "height": 844}) as seen:
        trained(seen.page)
        lab = element(seen.page)
        top = lab.evaluate("(root) => root.getBoundingClientRect().top")
        seen_from = {
            part: lab.locator(part).first.evaluate("(node) => node.getBoundingClientRect().top") - top
            for part in (".lab-sweeps", ".lab-answer", ".lab-evidence > svg", ".lab-panel svg")
        }
        assert list(seen_from) == sorted(seen_from, key=lambda part: seen_from[part])
        assert seen_from[".lab-evidence > svg"] < 844 / 2  # half of a screen
        assert seen_from[".lab-panel svg"] < 1.6 * 844
        folded = ("stop at", "ask me before a sweep")
        assert not any(lab.get_by_label(name, exact=True).is_visible() for name in folded)
        assert all(control(seen.page, name).is_visible() for name in folded)
        for fold in (".lab-full", ".lab-five"):
            assert lab.locator(fold).get_attribute("open") is None
        seen.page.set_viewport_size({"width": 1280, "height": 844})
        expect(lab.locator(".lab-sweeps").get_by_label("stop at", exact=True)).to_be_visible(timeout=WAIT)
        assert lab.locator(".lab-full").get_attribute("open") is not None


def test_what_is_of_the_run_before_stays_and_is_dimmed_until_there_is_something_newer(
    visit: Callable[..., Any],
) -> None:
    with visit(PAGE) as seen:
        trained(seen.page)
        control(seen.page, "picture").select_option("plane")
        paths = element(seen.page).locator(".lab-panel svg").first.locator(".lab-path")
        for _ in range(100):
            if paths.count() == 4:
                break
            seen.page.wait_for_timeout(50)
        seen.page.evaluate(
            """() => {
                const [root, svg] = [document.querySelector(".lab"), document.querySelector(".lab-panel svg")];
                globalThis.looks = [];
                const look = () => {
                    const paths = svg.querySelectorAll(".lab-path").length;
                    looks.push([root.className, svg.getAttribute("class") ?? "", paths]);
                    requestAnimationFrame(look);
                };
                look();
            }"""
        )
        control(seen.page, "batch size").focus()
        seen.page.keyboard.press("Home")
        trained(seen.page)
        looks = seen.page.evaluate("looks")
        assert {paths for _, _, paths in looks} == {4}
        assert any("lab-stale" in root and "lab-before" in svg for root, svg, _ in looks)
        assert looks[-1][:2] == ["lab", ""]


WATCH_HEIGHTS = """globalThis.heights = [];
addEventListener("DOMContentLoaded", () => {
    const look = () => {
        const lab = document.querySelector(".lab");
        if (lab?.children.length) heights.push(Math.round(lab.getBoundingClientRect().height / 3));
        requestAnimationFrame(look);
    };
    look();
});"""


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_jumps_when_results_arrive(visit: Callable[..., Any], width: int) -> None:
    for name in (PAGE, "book/intro"):
        with visit(name, viewport={"width": width, "height": 844}) as seen:
            seen.page.add_init_script(WATCH_HEIGHTS)
            seen.page.reload()
            if name == PAGE:
                trained(seen.page)
                control(seen.page, "batch size").press("ArrowRight")
                trained(seen.page)
                seen.page.evaluate("document.activeElement.blur()")
            else:
                element(seen.page).locator("button.lab-main").click()
                element(seen.page).get_by_role("button", name="Train four others").wait_for()
            heights = seen.page.evaluate("heights")
            assert len(heights) > 5
            assert max(heights) - min(heights) <= 1, sorted(set(heights))


@pytest.mark.parametrize("width", [390, 1280])
def test_sliders_are_wide_and_no_choice_is_cut(visit: Callable[..., Any], width: int) -> None:
    with visit(PAGE, viewport={"width": width, "height": 844}) as seen:
        trained(seen.page)
        unfold(seen.page)
        widths = (
            element(seen.page)
            .locator("input[type=range]:visible")
            .evaluate_all("(inputs) => inputs.map((input) => input.getBoundingClientRect().width)")
        )
        assert len(widths) >= 10
        assert min(widths) >= 140
        cut = element(seen.page).evaluate(
            """(root) => [...root.querySelectorAll("select")].filter((select) => {
                const twin = select.cloneNode(true);
                Object.assign(twin.style, { width: "max-content", maxWidth: "none", position: "absolute" });
                select.after(twin);
                const cut = twin.offsetWidth > select.offsetWidth + 1;
                twin.remove();
                return cut;
            }).map(({ id }) => id)"""
        )
        assert cut == [] or width == 390
        assert seen.page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0


NAMED = {
    "lr=-5": "learning rate -5 is out of range and became 1 × 10⁻⁵",
    "lr=1e9": "learning rate 1e9 is out of range and became 10",
    "lr=fast": "learning rate “fast” is no number and became 0.1",
    "lr=": "learning rate “” is no number and became 0.1",
    "width=100000": "hidden units 100000 is out of range and became 256",
    "epochs=2.5": "epochs 2.5 became the whole number 3",
    "world=mars": "world “mars” is none and became digits",
    "n=1000": "examples n 1000 is out of range and became 300",
    "batch_size=900&n=60": "batch size 900 became 60, for there are no more examples",
    "temperature=0.01&momentum=0.5": "momentum became 0, for Langevin's steps have none",
    "temperature=0.01&stop_loss=0.3": "no training loss stops noisy steps",
    "batchsize=5": "“batchsize” is written batch_size and was left out",
    "learning rate=5": "“learning rate” is written lr and was left out",
    "colour=5": "“colour” is the name of no setting and was left out",
    "lam=99": "lam 99 is none of 0 to 8: left as it was.",
    "stretch=1000": "stretch 1000 is none from 0.1 to 10: left as it was.",
}


def test_what_cannot_be_trained_is_named(visit: Callable[..., Any], site: str) -> None:
    with visit(PAGE) as seen:
        trained(seen.page)
        note = element(seen.page).locator(".lab-words .lab-note")  # in sight, beside the first button
        for given, words in NAMED.items():
            seen.page.evaluate("(given) => { location.hash = `#lab?epochs=3&${given}`; }", given)
            expect(note).to_contain_text(words, timeout=WAIT)
        seen.page.evaluate("location.hash = '#lab?epochs=3&n=60&batch_size=5&lam=2&stretch=1'")
        expect(note).to_have_text("", timeout=WAIT)
        seen.page.goto(f"{site}/{PAGE}.html#lab?world=mars&batch_size=900&lr=fast&n=60&epochs=3")
        seen.page.reload()
        trained(seen.page)
        said = note.inner_text()
        for words in (
            "batch size 900 became 60",
            "“fast” is no number and became 0.1",
            "“mars” is none and became digits",
        ):
            assert words in said
        assert "epochs" not in said
        seed = control(seen.page, "seed")
        seed.fill("-5")
        seed.press("Tab")
        assert "seed -5 is out of range and became 0" in note.inner_text()
        seed.fill("7")
        seed.press("Tab")
        trained(seen.page)
        assert note.inner_text() == ""
        summary = element(seen.page).locator(".lab-more > summary").inner_text()
        assert summary == "More controls: epochs 3, examples n 60, seed 7"
        assert "seed=7" in (element(seen.page).locator("pre code").text_content() or "")


def test_one_control_that_moves_another_says_so(visit: Callable[..., Any], site: str) -> None:
    with visit(PAGE) as seen:
        seen.page.goto(f"{site}/{PAGE}.html#lab?world=moons&n=1000&batch_size=500&momentum=0.5&epochs=3")
        seen.page.reload()
        trained(seen.page)
        note = element(seen.page).locator(".lab-note")
        assert note.inner_text() == ""
        control(seen.page, "Langevin noise").press("ArrowRight")
        assert (
            note.inner_text() == "Not every setting can be trained: momentum became 0, for Langevin's steps have none."
        )
        control(seen.page, "world").select_option("digits")
        assert "examples n 1000 is out of range and became 300" in note.inner_text()
        assert "batch size 500 became 300, for there are no more examples" in note.inner_text()


@pytest.mark.parametrize("name", [PAGE, "book/intro"])
def test_from_320_pixels_on_it_fits(visit: Callable[..., Any], name: str) -> None:
    with visit(name, viewport={"width": 320, "height": 740}) as seen:
        if name == PAGE:
            trained(seen.page)
            unfold(seen.page)
        else:
            element(seen.page).locator("button.lab-main").click()
            element(seen.page).get_by_role("button", name="Train four others").wait_for()
        painted(seen.page)
        beyond = element(seen.page).evaluate(
            """(root) => [root, ...root.querySelectorAll("*:not(svg *)")].filter((node) => !node.closest(".lab-scroll"))
                .filter((node) => node.getClientRects().length && node.getBoundingClientRect().right > innerWidth - 14)
                .map((node) => `${node.tagName} ${node.className}`)"""
        )
        assert beyond == []
        assert seen.page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
        assert (
            element(seen.page).locator("g.lab-bar").first.evaluate(f"(bar) => ({LABELS_MEET})(bar.ownerSVGElement)")
            == []
        )


@pytest.mark.parametrize(("name", "words"), [(PAGE, "Sweep the batch size"), ("book/intro", "Train four networks")])
def test_the_first_button_is_two_keys_away(visit: Callable[..., Any], name: str, words: str) -> None:
    with visit(name) as seen:
        reached = []
        for _ in range(3):
            seen.page.keyboard.press("Tab")
            reached.append(seen.page.evaluate("document.activeElement.textContent.trim()"))
            if "laboratory" in reached[-1]:
                break
        assert "laboratory" in reached[-1], reached
        address = seen.page.url
        seen.page.keyboard.press("Enter")
        assert seen.page.evaluate("document.activeElement.textContent") == words
        assert seen.page.url == address


def test_colours_and_band_are_explained_above_what_they_colour(visit: Callable[..., Any]) -> None:
    with visit(PAGE) as seen:
        trained(seen.page)
        unfold(seen.page)
        for part in (".lab-evidence", ".lab-bars"):
            key, picture = (element(seen.page).locator(f"{part} > {kind}").bounding_box() for kind in ("ul", "svg"))
            assert key is not None
            assert picture is not None
            assert key["y"] + key["height"] <= picture["y"] + 2, part


def test_no_picture_is_blank_before_the_first_run(visit: Callable[..., Any]) -> None:
    with visit(PAGE) as seen:
        seen.page.route("**/digits.js", lambda route: None)  # they never come
        seen.page.reload(wait_until="commit")
        seen.page.wait_for_selector(".lab svg")
        pictures = element(seen.page).locator(".lab-evidence > svg, .lab-panel svg[role=img]")
        assert pictures.count() == 3
        for picture in pictures.all():
            words = picture.text_content() or ""
            assert "drawn once networks have trained" in words or "?" in words
        assert element(seen.page).locator(".lab-evidence > svg .lab-axis").count() == 2


def test_digits_that_do_not_load_are_named_and_asked_for_again(visit: Callable[..., Any]) -> None:
    for name in (PAGE, "book/intro"):
        with visit(name) as seen:
            seen.page.route("**/digits.js", lambda route: route.abort())
            seen.page.reload()
            note = element(seen.page).locator(".lab-note" if name == PAGE else ".lab-status")
            button = element(seen.page).locator(".lab-buttons .lab-main" if name == PAGE else "button.lab-main")
            if name != PAGE:
                button.click()
            for _ in range(10 * SECONDS):
                if "could not be loaded" in note.inner_text():
                    break
                seen.page.wait_for_timeout(100)
            assert "The digits could not be loaded; choose another world, or reload the page." in note.inner_text()
            seen.page.unroute("**/digits.js")
            button.click()
            if name == PAGE:
                trained(seen.page)
                assert element(seen.page).locator(".lab-panel svg").first.locator(".lab-ink").count() > 0
            else:
                element(seen.page).get_by_role("button", name="Train four others").wait_for()


def test_numbers_on_paper(visit: Callable[..., Any]) -> None:
    with visit(PAGE) as seen:
        trained(seen.page)
        seen.page.emulate_media(media="print")
        lab = element(seen.page)
        for hidden in (".lab-buttons", ".lab-more", ".lab-sweeps", ".lab-sweeping", "progress"):
            assert lab.locator(hidden).first.is_hidden(), hidden
        for shown in (".lab-evidence > svg", ".lab-bars svg", ".lab-answer", ".lab-status", ".lab-numbers table"):
            assert lab.locator(shown).first.is_visible(), shown


def test_a_prediction_is_judged(visit: Callable[..., Any]) -> None:
    with visit(PAGE) as seen:
        trained(seen.page)
        control(seen.page, "predict before I train").check()
        control(seen.page, "batch size").focus()
        seen.page.keyboard.press("Home")
        element(seen.page).get_by_role("button", name="Train", exact=True).click()
        seen.page.keyboard.press("=")
        trained(seen.page)
        expected = re.compile("^You expected the gap to be too close to tell. ")
        expect(element(seen.page).locator(".lab-verdict")).to_have_text(expected, timeout=WAIT)


def test_the_history_is_told_apart_and_cleared_by_keyboard(visit: Callable[..., Any]) -> None:
    with visit(PAGE) as seen:
        trained(seen.page)
        control(seen.page, "world").select_option("moons")
        trained(seen.page)
        unfold(seen.page)
        groups = element(seen.page).locator(".lab-groups li")
        assert [text.strip() for text in groups.all_inner_texts()] == ["digits: 1 run", "moons: 1 run"]
        shapes = element(seen.page).locator(".lab-chart svg").first.locator(".lab-dot")
        assert len({shape.get_attribute("d") for shape in shapes.all()}) == 2
        element(seen.page).get_by_role("button", name="Clear the history").focus()
        seen.page.keyboard.press("Enter")
        painted(seen.page)
        assert element(seen.page).locator(".lab-chart .lab-dot").count() == 0
        assert groups.count() == 0


def test_training_stops_at_a_loss_and_the_address_and_the_cell_say_so(visit: Callable[..., Any]) -> None:
    with visit(PAGE) as seen:
        seen.page.evaluate("location.hash = '#lab?world=xor&n=40&width=6&lr=0.5'")
        seen.page.reload()
        trained(seen.page)
        control(seen.page, "stop at").select_option("loss")
        words = trained(seen.page, "Training stopped after")
        assert "below a loss of 0.3" in words
        until(seen.page, lambda: "stop_loss=0.3" in seen.page.url, "the loss in the address")
        scope: dict[str, Any] = {}
        exec(element(seen.page).locator("pre code").text_content() or "", scope)
        assert f"after {len(scope['done'].run.losses)} epochs" in words
        control(seen.page, "training loss").focus()
        seen.page.keyboard.press("Home")
        painted(seen.page)
        dots = element(seen.page).locator(".lab-chart .lab-dot").count()
        trained(seen.page, "never fell below 0.001 in 1000 epochs")
        assert element(seen.page).locator(".lab-chart .lab-dot").count() == dots
        assert seen.problems == []


def test_a_link_stands_at_the_very_value_that_it_names(visit: Callable[..., Any], site: str) -> None:
    with visit(PAGE) as seen:
        seen.page.goto(f"{site}/{PAGE}.html#lab?lr=0.1&batch_size=5&n=60&epochs=7")
        seen.page.reload()
        trained(seen.page)
        rate = control(seen.page, "learning rate")
        rate.focus()
        shown = [rate.get_attribute("aria-valuetext")]
        for key in ("ArrowRight", "ArrowLeft"):
            seen.page.keyboard.press(key)
            painted(seen.page)
            shown.append(rate.get_attribute("aria-valuetext"))
        assert shown == ["0.1", "0.12", "0.1"]


WATCH = """
globalThis.watched = { frames: 0, asked: 0, added: 0 };
const ask = window.requestAnimationFrame.bind(window);
const frame = () => { watched.frames += 1; ask(frame); };
ask(frame);
window.requestAnimationFrame = (paint) => { watched.asked += 1; return ask(paint); };
"""
COUNT_NEW_NODES = """(root) => new MutationObserver((records) => {
    for (const record of records) watched.added += record.addedNodes.length;
}).observe(root, { childList: true, subtree: true })"""


def test_a_dragged_slider_draws_once_a_frame_into_nodes_that_are_there(visit: Callable[..., Any]) -> None:
    with visit(PAGE) as seen:
        seen.page.add_init_script(WATCH)
        seen.page.reload()
        trained(seen.page)
        element(seen.page).evaluate(COUNT_NEW_NODES)
        for label in ("trade-off λ", "learning rate"):
            slider = control(seen.page, label)
            slider.scroll_into_view_if_needed()
            box = slider.bounding_box()
            assert box is not None
            seen.page.evaluate("Object.assign(watched, { frames: 0, asked: 0, added: 0 })")
            seen.page.mouse.move(box["x"] + 20, box["y"] + box["height"] / 2)
            seen.page.mouse.down()
            for step in range(60):
                seen.page.mouse.move(box["x"] + 20 + 1.5 * step, box["y"] + box["height"] / 2)
            seen.page.mouse.up()
            seen.page.wait_for_timeout(500)
            watched = seen.page.evaluate("watched")
            assert 0 < watched["asked"] <= watched["frames"] + 2, label
            assert watched["added"] <= 8 * watched["asked"], label  # new dots and digits, not new pictures
        assert seen.problems == []


def main_thread(page: Page, act: Callable[[], None]) -> dict[str, list[float]]:
    """Processor milliseconds of the page's main thread while ``act`` runs: of each draw, and of each task.

    Processor time, and not the clock's: other work on the machine does not count.
    """
    assert page.context.browser is not None
    session, events, ended = page.context.browser.new_browser_cdp_session(), [], []
    session.on("Tracing.dataCollected", lambda part: events.extend(part["value"]))
    session.on("Tracing.tracingComplete", lambda _: ended.append(True))
    categories = ["toplevel", "devtools.timeline", "__metadata"]
    session.send("Tracing.start", {"traceConfig": {"includedCategories": categories}, "transferMode": "ReportEvents"})
    act()
    session.send("Tracing.end")
    while not ended:
        page.wait_for_timeout(50)
    session.detach()
    mains = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    spent = [(event["name"], event["tdur"] / 1000) for event in events
             if event["ph"] == "X" and (event["pid"], event["tid"]) in mains and "tdur" in event]  # fmt: skip
    return {
        "draws": [time for name, time in spent if name == "FireAnimationFrame"],
        "tasks": [time for name, time in spent if name.endswith("RunTask")],
    }


COUNT_DRAWS = """(root) => {
    window.draws = 0;
    const observer = new MutationObserver(() => { window.draws += 1; });
    for (const svg of root.querySelectorAll("svg")) observer.observe(svg, {subtree: true, attributes: true});
}"""


@pytest.mark.parametrize("label", ["batch size", "trade-off λ"])
def test_no_frame_is_late_while_a_slider_is_dragged(visit: Callable[..., Any], label: str) -> None:
    with visit(PAGE) as seen:
        trained(seen.page)
        slider = control(seen.page, label)
        slider.scroll_into_view_if_needed()
        box = slider.bounding_box()
        assert box is not None

        def drag() -> None:
            """There and back, until the picture was drawn often enough for a median: a loaded machine skips frames."""
            element(seen.page).evaluate(COUNT_DRAWS)
            seen.page.mouse.move(box["x"] + box["width"] / 3, box["y"] + box["height"] / 2)
            seen.page.mouse.down()
            for step in range(10 * SECONDS):
                if step >= 40 and seen.page.evaluate("() => window.draws") > 8:
                    break
                share = abs((step + 40) % 80 - 40) / 40
                seen.page.mouse.move(box["x"] + box["width"] * (1 + share) / 3, box["y"] + box["height"] / 2)
                seen.page.wait_for_timeout(30)
            seen.page.mouse.up()
            seen.page.wait_for_timeout(300)

        spent = main_thread(seen.page, drag)
        assert len(spent["draws"]) > 5
        assert median(spent["draws"]) < 8
        assert max(spent["tasks"]) < 50


LABELS_MEET = """(svg) => {
    const boxes = [...svg.querySelectorAll("text")].map((text) => [text.textContent, text.getBoundingClientRect()]);
    const meet = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 2 && b.top < a.bottom - 2;
    return boxes.flatMap(([text, box], i) => boxes.slice(i + 1)
        .filter(([, other]) => meet(box, other)).map(([other]) => `${text} | ${other}`));
}"""


def test_the_address_is_the_reader_s_until_a_control_is_moved(visit: Callable[..., Any]) -> None:
    with visit(PAGE) as seen:
        trained(seen.page)
        seen.page.evaluate("() => { location.hash = 'exercises'; }")
        seen.page.wait_for_timeout(500)
        assert seen.page.url.endswith("#exercises")
        control(seen.page, "batch size").press("ArrowRight")
        until(seen.page, lambda: "#lab?batch_size=" in seen.page.url, "the address of the setting")


@pytest.mark.parametrize("width", [390, 1280])
def test_the_small_laboratory_keeps_the_focus_and_its_labels_apart(visit: Callable[..., Any], width: int) -> None:
    with visit("book/intro", viewport={"width": width, "height": 844}) as seen:
        button = element(seen.page).locator("button.lab-main")
        button.focus()
        seen.page.keyboard.press("Enter")
        seen.page.wait_for_timeout(300)
        assert button.evaluate("(node) => node === document.activeElement")
        status = element(seen.page).locator(".lab-status")
        for _ in range(10 * SECONDS):
            if "The gap is" in status.inner_text():
                break
            seen.page.wait_for_timeout(100)
        assert button.inner_text() == "Train four others"
        assert button.evaluate("(node) => node === document.activeElement")
        keys = element(seen.page).locator(".lab-legend li").all_inner_texts()
        assert {"trajectory", "flatness", "penalty", "of the moved and noisy network"} <= set(keys)
        assert "is flatness: the trace of the Hessian at the end of training, " in status.inner_text()
        assert element(seen.page).locator(".lab-progress").inner_text().strip().startswith("epoch 40 of 40")
        assert "lab-hollow" in (element(seen.page).locator("[data-bound=self-certified]").get_attribute("class") or "")
        assert element(seen.page).locator("svg").first.evaluate(LABELS_MEET) == []
        assert Axe().run(seen.page, ".lab", options={"preload": False}).response["violations"] == []
        assert seen.problems == []


def test_play_pause_and_one_epoch(visit: Callable[..., Any]) -> None:
    with visit(PAGE, reduced_motion="reduce") as seen:
        trained(seen.page)
        unfold(seen.page)
        bar = element(seen.page).locator(".lab-more progress")  # beside the buttons that are pressed

        def value() -> float:
            return float(bar.get_attribute("value") or 0)

        def at(epochs: int) -> bool:
            return value() == pytest.approx(epochs / 40)

        def resting(page: Page) -> float:
            """Where the bar stays: what was on its way when a button was pressed has arrived."""
            page.wait_for_timeout(1000)
            there = value()
            page.wait_for_timeout(1000)
            return there if value() == there else -1

        for epochs in (1, 2):
            element(seen.page).get_by_role("button", name="One epoch").click()
            until(seen.page, partial(at, epochs), f"{epochs} epochs")
            until(seen.page, lambda: resting(seen.page) >= 0, "the bar rests")
            assert at(epochs)
        element(seen.page).get_by_role("button", name="Play slowly").click()
        until(seen.page, lambda: value() > 2.5 / 40, "it plays")
        element(seen.page).get_by_role("button", name="Pause").click()
        until(seen.page, lambda: resting(seen.page) >= 0, "the bar rests")
        assert 2 / 40 < value() < 1


@pytest.mark.parametrize("worker", [True, False], ids=["worker", "no worker"])
def test_from_the_file_system(visit: Callable[..., Any], worker: bool) -> None:
    with visit(PAGE, base=HTML.as_uri()) as seen:
        if not worker:
            seen.page.add_init_script(NO_WORKER)
            seen.page.reload()
        trained(seen.page)
        note = element(seen.page).locator(".lab-note").inner_text()
        assert ("no worker" in note) == (not worker)
        assert seen.problems == []


def test_the_digits_are_one_file_of_the_site(visit: Callable[..., Any]) -> None:
    asked: list[str] = []
    with visit(PAGE) as seen:
        seen.page.on("request", lambda request: asked.append(request.url))
        seen.page.reload()
        trained(seen.page)
    assert sum(url.endswith("/digits.js") for url in asked) == 1
    assert (HTML / "digits.js").stat().st_size < 80_000
    page = (HTML / f"{PAGE}.html").read_text(encoding="utf-8")
    assert len(page) < 1_000_000
    text = json.loads((HTML / "digits.js").read_text(encoding="ascii").split(" = ", 1)[1].rstrip().rstrip(";"))
    assert text[:200] not in page


def test_in_a_notebook_python_sets_and_reads(visit: Callable[..., Any], site: str) -> None:
    served = {
        "notebook.html": (NOTEBOOK, "text/html"),
        "kernel-element.js": (str(widgets.Laboratory()._esm), "text/javascript"),
        "kernel-digits": (packed_digits(), "text/plain"),
    }
    with visit("search") as seen:
        seen.page.wait_for_load_state("networkidle")
        for name, (body, kind) in served.items():
            seen.page.route(f"**/{name}", answer(body, kind))
        seen.page.goto(f"{site}/notebook.html")
        first = trained(seen.page)
        assert seen.page.evaluate("sent.length") == 1
        assert seen.page.evaluate("model.get('results').settings.epochs") == 5
        seen.page.evaluate("model.set('settings', { world: 'digits', epochs: 8 })")
        assert trained(seen.page) != first
        assert seen.page.evaluate("model.get('results').epochs") == 8
        seen.page.evaluate("model.set('settings', { world: 'digits', epochs: 8, lr: -5, batchsize: 3 })")
        said = seen.page.evaluate("model.get('refused')")
        assert "learning rate -5 is out of range" in said
        assert "“batchsize” is written batch_size" in said
        assert element(seen.page).locator(".lab-note").inner_text() == said
        assert seen.page.evaluate("model.get('settings').lr") == 1e-5
        trained(seen.page)
        own = seen.page.evaluate("model.get('results')") | {"source": "python", "test_error": 0.123}
        seen.page.evaluate("(results) => model.set('results', results)", own)
        trained(seen.page, "test error 12.3 %")
        assert "#lab" not in seen.page.url
        assert seen.problems == []


def test_without_scripts_a_sentence_stands_there(visit: Callable[..., Any]) -> None:
    with visit(PAGE, java_script_enabled=False) as seen:
        assert "Four networks would train here" in seen.page.locator(".widget-fallback").first.inner_text()
