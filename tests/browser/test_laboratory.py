"""The laboratory on the built page: trains without a kernel, by keyboard, on a phone, in both themes, from a file."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, Route

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
SECONDS = 60


def element(page: Page) -> Locator:
    return page.locator(".lab").first


def trained(page: Page, words: str = "Gap") -> str:
    """The sentence under the picture, once a run has finished."""
    status = element(page).locator(".lab-status")
    for _ in range(10 * SECONDS):
        text = status.inner_text()
        if words in text and element(page).get_attribute("class") == "lab":
            return text
        page.wait_for_timeout(100)
    raise AssertionError(f"nothing was trained within {SECONDS} s; the status says {status.inner_text()!r}")


def answer(body: str, kind: str) -> Callable[[Route], None]:
    return lambda route: route.fulfill(body=body, content_type=kind)


def control(page: Page, label: str) -> Locator:
    return element(page).get_by_label(label, exact=True)


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_it_trains_as_the_page_opens(visit: Callable[..., Any], look: str) -> None:
    with visit(PAGE, look) as seen:
        trained(seen.page)
        bars = element(seen.page).locator("g.lab-bar")
        assert [bar.get_attribute("data-bound") for bar in bars.all()] == [
            "closed form", "end point", "omniscient", "self-certified", "counted", "Langevin",
        ]  # fmt: skip
        assert element(seen.page).locator(".lab-gap").count() == 2
        assert element(seen.page).locator(".lab-dot").count() == 2
        assert seen.page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
        assert seen.problems == []


@pytest.mark.parametrize("look", ["light", "dark"])
def test_axe_finds_nothing_once_it_has_trained(visit: Callable[..., Any], look: str) -> None:
    with visit(PAGE, look) as seen:
        trained(seen.page)
        seen.page.evaluate("document.querySelectorAll('.lab details').forEach((more) => (more.open = true))")
        found = Axe().run(seen.page, ".lab", options={"preload": False}).response["violations"]
        assert [(rule["id"], rule["nodes"][0]["html"][:120]) for rule in found] == []


def test_every_control_works_by_keyboard(visit: Callable[..., Any]) -> None:
    with visit(PAGE) as seen:
        before = trained(seen.page)
        for slider in element(seen.page).locator("input[type=range]:visible").all():
            text = slider.get_attribute("aria-valuetext")
            slider.focus()
            seen.page.keyboard.press(
                "ArrowRight" if slider.input_value() == slider.get_attribute("min") else "ArrowLeft"
            )
            seen.page.wait_for_timeout(150)
            assert slider.get_attribute("aria-valuetext") != text, slider.get_attribute("id")
            output = element(seen.page).locator(f"output[for='{slider.get_attribute('id')}']")
            assert output.inner_text() == slider.get_attribute("aria-valuetext")
        assert trained(seen.page) != before
        assert seen.problems == []


def test_lambda_and_sigma_move_without_training(visit: Callable[..., Any]) -> None:
    with visit(PAGE) as seen:
        trained(seen.page)
        dots = element(seen.page).locator(".lab-dot").count()
        picture = element(seen.page).locator(".lab-bars svg")
        for label in ("trade-off λ", "ghost noise σ"):
            drawn = picture.inner_html()
            control(seen.page, label).focus()
            seen.page.keyboard.press("ArrowRight")
            seen.page.wait_for_timeout(200)
            assert picture.inner_html() != drawn
        assert element(seen.page).locator(".lab-dot").count() == dots
        assert "lab-busy" not in (element(seen.page).get_attribute("class") or "")


def test_a_setting_can_be_sent(visit: Callable[..., Any]) -> None:
    with visit(PAGE) as seen:
        trained(seen.page)
        control(seen.page, "world").select_option("moons")
        control(seen.page, "batch size").focus()
        for _ in range(20):
            seen.page.keyboard.press("ArrowLeft")
        seen.page.wait_for_timeout(300)
        words, address = trained(seen.page), seen.page.url
        assert "world=moons" in address
        batch = control(seen.page, "batch size").get_attribute("aria-valuetext")
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


def test_a_sweep_shows_the_trend_and_solves_a_challenge(visit: Callable[..., Any]) -> None:
    with visit(PAGE) as seen:
        trained(seen.page)
        element(seen.page).get_by_role("button", name="Sweep the batch size").click()
        dots = element(seen.page).locator(".lab-chart svg").first.locator(".lab-dot")
        for _ in range(10 * SECONDS):
            if dots.count() >= 8:
                break
            seen.page.wait_for_timeout(100)
        assert dots.count() >= 8
        assert element(seen.page).locator("li.lab-solved").count() >= 1
        assert seen.problems == []


def test_a_prediction_is_judged(visit: Callable[..., Any]) -> None:
    with visit(PAGE) as seen:
        trained(seen.page)
        control(seen.page, "predict before I train").check()
        control(seen.page, "batch size").focus()
        seen.page.keyboard.press("End")
        control(seen.page, "I think the trace").select_option("falls")
        element(seen.page).get_by_role("button", name="Train and see").click()
        trained(seen.page)
        seen.page.wait_for_timeout(200)
        assert "You said the trace falls; it rises." in element(seen.page).locator(".lab-verdict").inner_text()


def test_play_pause_and_one_epoch(visit: Callable[..., Any]) -> None:
    with visit(PAGE, reduced_motion="reduce") as seen:
        trained(seen.page)
        element(seen.page).get_by_role("button", name="One epoch").click()
        seen.page.wait_for_timeout(1500)
        value = element(seen.page).locator("progress")
        assert float(value.get_attribute("value") or 0) == pytest.approx(1 / 40)
        element(seen.page).get_by_role("button", name="One epoch").click()
        seen.page.wait_for_timeout(1500)
        assert float(value.get_attribute("value") or 0) == pytest.approx(2 / 40)
        element(seen.page).get_by_role("button", name="Play slowly").click()
        seen.page.wait_for_timeout(600)
        element(seen.page).get_by_role("button", name="Pause").click()
        seen.page.wait_for_timeout(400)
        at = float(value.get_attribute("value") or 0)
        assert 2 / 40 < at < 1
        seen.page.wait_for_timeout(600)
        assert float(value.get_attribute("value") or 0) == at


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
        seen.page.wait_for_timeout(300)
        assert trained(seen.page) != first
        assert seen.page.evaluate("model.get('results').epochs") == 8
        own = seen.page.evaluate("model.get('results')") | {"source": "python", "test_error": 0.123}
        seen.page.evaluate("(results) => model.set('results', results)", own)
        trained(seen.page, "test error 12.3 %")
        assert "#lab" not in seen.page.url
        assert seen.problems == []


def test_without_scripts_a_sentence_stands_there(visit: Callable[..., Any]) -> None:
    with visit(PAGE, java_script_enabled=False) as seen:
        assert "Four networks would train here" in seen.page.locator(".widget-fallback").first.inner_text()
