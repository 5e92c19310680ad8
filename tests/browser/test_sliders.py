"""The widgets on the built pages: alive without a kernel, by keyboard and by mouse, and true to their numbers."""

import json
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, Page

from helpers import widgets
from helpers.widgets.chart import SCRIPT
from tests.browser.conftest import HTML

VIEW = "application/vnd.jupyter.widget-view+json"
WITH_WIDGETS = sorted(
    page.relative_to(HTML).with_suffix("").as_posix()
    for page in (HTML / "book").glob("*.html")
    if VIEW in page.read_text(encoding="utf-8")
) or ["book/14-playground"]  # not built: its tests skip and say so


def charts(page: Page) -> list[dict[str, Any]]:
    """The ``chart`` of every widget that draws one, in the order of the page; the laboratory has none."""
    state = json.loads(page.locator('script[type="application/vnd.jupyter.widget-state+json"]').inner_text())["state"]
    views = [json.loads(text) for text in page.locator(f'script[type="{VIEW}"]').all_inner_texts()]
    return [chart for view in views if (chart := state[view["model_id"]]["state"].get("chart"))]


def drawing(widget: Locator) -> str:
    return widget.locator("svg[role=img]").inner_html()


def points(widget: Locator, series: int) -> list[tuple[float, float]]:
    """The pixel positions on one drawn curve."""
    path = widget.locator(f"path[data-series='{series}']").get_attribute("d") or ""
    return [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path)]


@pytest.mark.parametrize("look", ["light", "phone"])
@pytest.mark.parametrize("name", WITH_WIDGETS)
def test_every_slider_moves(visit: Callable[..., Any], name: str, look: str) -> None:
    with visit(name, look) as seen:
        sliders = seen.page.locator(".fi input[type=range]")
        assert sliders.count() > 0
        for i in range(sliders.count()):
            slider = sliders.nth(i)
            widget = seen.page.locator(".fi").filter(has=seen.page.locator(f"#{slider.get_attribute('id')}"))
            before, words = drawing(widget), widget.locator(".fi-status").inner_text()
            slider.focus()
            seen.page.keyboard.press("Home")
            if drawing(widget) == before:
                seen.page.keyboard.press("End")
            by_keyboard = drawing(widget)
            assert by_keyboard != before, f"slider {i} of {name} does not follow the keyboard"
            assert widget.locator(".fi-status").inner_text() != words
            box = slider.bounding_box()
            assert box is not None
            far = 3 / 4 if slider.input_value() == slider.get_attribute("min") else 1 / 4
            slider.click(position={"x": far * box["width"], "y": box["height"] / 2})
            assert drawing(widget) != by_keyboard, f"slider {i} of {name} does not follow the mouse"
            shown = widget.locator(f"output[for='{slider.get_attribute('id')}']").first.inner_text()
            assert slider.get_attribute("aria-valuetext") == shown
        assert seen.problems == []


@pytest.mark.parametrize("name", WITH_WIDGETS)
def test_curves_lie_where_the_numbers_say(visit: Callable[..., Any], name: str) -> None:
    with visit(name) as seen:
        for i, chart in enumerate(charts(seen.page)):
            if chart["kind"] != "lines":
                continue
            widget = seen.page.locator(".fi").nth(i)
            toggle = widget.locator("input[type=checkbox]")
            toggle.uncheck()
            for slider in widget.locator("input[type=range]").all():
                slider.focus()
                seen.page.keyboard.press("Home")  # the first frame
            numbers = [[math.nan if v == "inf" else v for v in ys] for ys in chart["frames"][0]]
            pairs = [
                (value, pixel)
                for series, ys in enumerate(numbers)
                for value, (_, pixel) in zip([v for v in ys if math.isfinite(v)], points(widget, series), strict=True)
            ]
            (low, bottom), (high, top) = min(pairs), max(pairs)
            for value, pixel in pairs:
                expected = bottom + (value - low) / (high - low or 1) * (top - bottom)
                assert pixel == pytest.approx(expected, abs=0.3)


def planes(page: Page) -> list[tuple[dict[str, Any], Locator]]:
    """The widgets of a page that draw a plane, with their charts."""
    return [(chart, page.locator(".fi").nth(i)) for i, chart in enumerate(charts(page)) if chart["kind"] == "plane"]


@pytest.mark.parametrize("look", ["light", "phone"])
@pytest.mark.parametrize("name", WITH_WIDGETS)
def test_planes_are_true_to_their_numbers(visit: Callable[..., Any], name: str, look: str) -> None:
    with visit(name, look) as seen:
        for chart, widget in planes(seen.page):
            for slider in widget.locator("input[type=range]").all():
                slider.focus()
                seen.page.keyboard.press("Home")  # the first frame
            if chart["mark"]:
                seen.page.keyboard.press("End")  # the whole of every path
            values, pixels = [], []
            for i, walks in enumerate(chart["frames"][0]):
                drawn = [d.get_attribute("d") or "" for d in widget.locator(f"path[data-series='{i}']").all()]
                assert len(drawn) == (0 if chart["kinds"][i] == "points" else len(walks))
                for walk, path in zip(walks, drawn, strict=False):
                    values += list(zip(walk[::2], walk[1::2], strict=True))
                    pixels += [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path)]
            units = []
            for axis, log in ((0, chart["x"]["log"]), (1, chart["y"]["log"])):
                pairs = [
                    (math.log10(value[axis]) if log else value[axis], pixel[axis])
                    for value, pixel in zip(values, pixels, strict=True)
                ]
                (low, first), (high, last) = min(pairs), max(pairs)
                unit = (last - first) / (high - low or 1)
                units.append(unit)
                for value, pixel in pairs:
                    assert pixel == pytest.approx(first + unit * (value - low), abs=0.3)
            assert units[0] > 0 > units[1]  # pixels count downwards
            if chart["equal"]:
                assert units[0] == pytest.approx(-units[1], rel=0.02)
        assert seen.problems == []


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
@pytest.mark.parametrize("name", WITH_WIDGETS)
def test_a_plane_moves_only_when_its_button_is_pressed(visit: Callable[..., Any], name: str, motion: str) -> None:
    with visit(name, reduced_motion=motion) as seen:
        playing = [widget for chart, widget in planes(seen.page) if chart["play"]]
        still = [drawing(widget) for widget in playing]
        seen.page.wait_for_timeout(300)
        assert [drawing(widget) for widget in playing] == still
        for widget in playing:
            slider, button = widget.locator("input[type=range]").last, widget.locator("button")
            slider.focus()
            seen.page.keyboard.press("Home")
            button.focus()
            seen.page.keyboard.press("Enter")
            assert "Stop" in button.inner_text()
            assert widget.locator(".fi-status").get_attribute("aria-live") == "off"
            seen.page.wait_for_timeout(1500)
            assert slider.input_value() != "0"
            if motion == "reduce":
                assert slider.input_value() == "1"  # one picture a second
            if "Stop" in button.inner_text():
                button.click()
            assert "Play" in button.inner_text()
            stopped = slider.input_value()
            seen.page.wait_for_timeout(1200)
            assert slider.input_value() == stopped
            button.click()
            slider.focus()
            seen.page.keyboard.press("End")  # a hand on the slider takes over
            assert "Play" in button.inner_text()
        assert seen.problems == []


@pytest.mark.parametrize("name", WITH_WIDGETS)
def test_a_click_in_a_plane_goes_to_the_nearest_stop_of_its_path(visit: Callable[..., Any], name: str) -> None:
    with visit(name) as seen:
        for chart, widget in planes(seen.page):
            if not chart["mark"]:
                continue
            slider, path = widget.locator("input[type=range]").last, widget.locator("path[data-series='0']").first
            slider.focus()
            seen.page.keyboard.press("End")
            x, y = re.findall(r"(-?[\d.]+) (-?[\d.]+)", path.get_attribute("d") or "")[0]
            widget.locator("svg[role=img]").click(position={"x": float(x), "y": float(y)})
            assert slider.input_value() == "0"
        assert seen.problems == []


@pytest.mark.parametrize("name", WITH_WIDGETS)
def test_colours_follow_the_theme_at_once(visit: Callable[..., Any], name: str) -> None:
    ink = "getComputedStyle(document.querySelector('.fi')).getPropertyValue('--fi-1').trim()"
    with visit(name) as seen:
        assert seen.page.evaluate(ink) == "#0072b2"
        seen.page.evaluate("document.documentElement.dataset.theme = 'dark'")
        assert seen.page.evaluate(ink) == "#00a0f9"


@pytest.mark.parametrize("name", WITH_WIDGETS)
def test_without_scripts_a_table_stands_there(visit: Callable[..., Any], name: str) -> None:
    with visit(name, java_script_enabled=False) as seen:
        tables = seen.page.locator(".widget-fallback table")
        assert tables.count() == seen.page.locator(f'script[type="{VIEW}"]').count()
        assert all(table.is_visible() for table in tables.all())
    with visit(name) as seen:
        assert not any(table.is_visible() for table in seen.page.locator(".widget-fallback table").all())


def test_a_widget_that_needs_a_kernel_says_so(visit: Callable[..., Any], site: str) -> None:
    state = {"state": {"m": {"model_module": "@jupyter-widgets/controls", "model_name": "VBoxModel", "state": {}}}}
    html = f"""<!doctype html><html lang="en"><title>Foreign</title><body>
        <script type="application/vnd.jupyter.widget-state+json">{json.dumps(state)}</script>
        <div><script type="{VIEW}">{json.dumps({"model_id": "m"})}</script></div>
        <script defer src="_static/static-widgets.js"></script></body></html>"""
    with visit("search") as seen:
        seen.page.wait_for_load_state("networkidle")
        seen.page.route("**/foreign.html", lambda route: route.fulfill(body=html, content_type="text/html"))
        seen.page.goto(f"{site}/foreign.html")
        assert "needs a running kernel" in seen.page.locator("[role=alert]").inner_text()
        assert seen.problems == []


RENDERED = """async ([source, chart]) => {
    const { default: widget } = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
    const n = chart.x.count;
    chart.x.values = Array.from({ length: n }, (_, j) => j);
    chart.frames = [[chart.x.values.map((j) => (j === 123456 ? 9 : j === 400000 ? "inf" : Math.sin(j)))]];
    const values = { chart, position: [], log: false };
    const model = { get: (key) => values[key], set() {}, save_changes() {}, on() {}, off() {} };
    const place = document.body.appendChild(document.createElement("div"));
    widget.render({ model, el: place });
    const keys = [...place.querySelectorAll("input, button, select, summary, [tabindex]")];
    return {
        d: place.querySelector("path.fi-line").getAttribute("d"),
        open: keys.filter((node) => node.dataset.lmSuppressShortcuts !== "true").map((node) => node.outerHTML),
        focusable: keys.length,
    };
}"""


def test_a_million_points_are_thinned_with_their_peak_and_no_key_leaves_the_widget(visit: Callable[..., Any]) -> None:
    chart = {
        "kind": "lines", "title": "t", "description": "d", "series": ["a"], "sliders": [], "mark": False,
        "x": {"label": "x", "log": False, "count": 1_000_000}, "y": {"label": "y", "zero": False},
    }  # fmt: skip
    with visit("search") as seen:
        drawn = seen.page.evaluate(RENDERED, [SCRIPT, chart])
        points = [tuple(map(float, pair.split())) for pair in re.split("[ML]", drawn["d"]) if pair]
        assert 500 < len(points) < 5_000
        assert drawn["d"].count("M") == 2, "the value that is not finite breaks the line"
        highest, second = sorted({y for _, y in points})[:2]
        assert second - highest > 20, "the peak is a single point, and is drawn"
        assert drawn["focusable"] >= 3
        assert drawn["open"] == []
        assert seen.problems == []


DRAWN = """async ([source, charts]) => {
    const { default: widget } = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
    return charts.map(([chart, log]) => {
        const values = { chart, position: chart.sliders.map(() => 0), log };
        const model = { get: (key) => values[key], set() {}, save_changes() {}, on() {}, off() {} };
        const place = document.body.appendChild(document.createElement("div"));
        widget.render({ model, el: place });
        const svg = place.querySelector("path.fi-line").closest("svg");
        return svg.outerHTML;
    });
}"""


def test_numbers_at_the_ends_of_what_a_machine_can_hold_are_drawn_or_said(visit: Callable[..., Any]) -> None:
    """Neither a coordinate nor the text of a tick is infinite or no number, on either axis."""
    cases = [[-1e300, 1e300], [1.0, 1e308], [0.0, 1e-323], [1e-323, 1e300], [1e-300, 2e-300], [1e308, 1e308]]
    options: dict[str, Any] = {"x_label": "x", "y_label": "y", "title": "t"}
    charts = [widgets.Curves([1.0, 2.0], {"a": case}, **options).chart for case in cases]
    charts.append(widgets.Curves([-1e300, 1e300], {"a": [1.0, 2.0]}, x_log=False, **options).chart)
    with visit("search") as seen:
        drawn = seen.page.evaluate(DRAWN, [SCRIPT, [[chart, log] for chart in charts for log in (False, True)]])
    wrong = [re.findall(r'[^">]*(?:Infinity|NaN|undefined)[^"<]*', drawing) for drawing in drawn]
    assert wrong == [[]] * 2 * len(charts)
