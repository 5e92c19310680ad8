"""The dice: their numbers are the package's, in Python and in the page."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import widgets, xu_raginsky

PRIOR, VALUES = np.array([0.5, 0.25, 0.25]), np.array([-1.0, 0.0, 2.0])


def dice(**changes: Any) -> widgets.Dice:
    options = {"prior": PRIOR, "values": VALUES, "title": "Dice"} | changes
    return widgets.Dice(options.pop("prior"), options.pop("values"), **options)


def test_gain_and_price_add_up_to_the_tilted_value() -> None:
    widget = dice(weights=[1.0, 2.0, 5.0])
    for position in ([0, 0, 0, 0], [0, 1, 2, 0], [2, 0, 1, 1]):
        widget.position = position
        gain, price = widget.terms
        assert gain == pytest.approx(widget.p @ VALUES)
        assert gain - price == pytest.approx(xu_raginsky.tilted_value(widget.p, PRIOR, VALUES))
    assert widget.p == pytest.approx([5 / 8, 1 / 8, 2 / 8])
    assert widget.chart["best"] == pytest.approx(xu_raginsky.log_partition(PRIOR, VALUES))
    assert widget.chart["gibbs"] == pytest.approx(xu_raginsky.gibbs(PRIOR, VALUES), rel=1e-5)


def test_a_hand_comes_near_the_best_and_not_beyond() -> None:
    widget = dice()
    best = np.round(60 * xu_raginsky.gibbs(PRIOR, VALUES) / xu_raginsky.gibbs(PRIOR, VALUES).max()).astype(int)
    widget.position = [*(np.maximum(best, 1) - 1), 0]
    gain, price = widget.terms
    assert 0 <= widget.chart["best"] - (gain - price) < 0.01


def test_it_starts_at_the_prior_and_covered() -> None:
    widget = dice()
    assert widget.p == pytest.approx(PRIOR, abs=0.01)
    assert widget.position[-1] == 0
    assert widget.terms[1] == pytest.approx(0, abs=1e-3)
    head, rows = widget._table()
    assert head == ["value V of the face", "prior", "yours"]
    assert [row[0] for row in rows[-4:]] == ["gain", "price", "difference", "at most"]
    json.dumps(widget.get_state(), allow_nan=False)


def test_at_the_prior_itself_the_price_is_exactly_zero() -> None:
    sixths = widgets.Dice(np.full(6, 1 / 6), np.arange(6.0), title="Dice")
    assert sixths.terms[1] == 0
    tenths = widgets.Dice([0.1, 0.2, 0.7], np.arange(3.0), title="Dice", weights=range(1, 11))
    assert tenths.p.tolist() == pytest.approx([0.1, 0.2, 0.7])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"prior": [0.5, 0.5, 0.5]}, "add up to 1"),
        ({"prior": [0.0, 0.5, 0.5]}, "positive probabilities"),
        ({"values": [1.0, 2.0]}, "one for each of the 3 faces"),
        ({"values": [1.0, 2.0, np.inf]}, "values must be finite"),
        ({"weights": [0.0, 1.0]}, "weights must be positive"),
        ({"weights": [2.0, 1.0]}, "weights must be positive, finite, and increase"),
        ({"weights": [1.0, np.inf]}, "weights must be positive, finite, and increase"),
    ],
)
def test_what_is_no_game_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        dice(**changes)


def test_the_page_computes_what_python_computes(tmp_path: Path) -> None:
    """In Chromium: by slider, by pointer and by keyboard, the sentence holds the package's numbers."""
    playwright = pytest.importorskip("playwright.sync_api")
    widget = dice()
    script = widgets.Dice._esm.replace("export default { render };", "window.render = render;")
    state = json.dumps({"chart": widget.chart, "position": list(widget.position), "log": False})
    page_file = tmp_path / "dice.html"
    page_file.write_text(
        f"<meta charset='utf-8'><style>{widgets.Dice._css}</style><div id='a' style='width:640px'></div>"
        f"<script type='module'>{script}; const state = {state}, on = {{}};"
        "window.model = {get: (k) => state[k], save_changes() {}, off() {}, on(e, f) { on[e] = f; },"
        "set(k, v) { state[k] = v; on['change:' + k]?.(); }};"
        "window.render({model: window.model, el: document.getElementById('a')});</script>",
        encoding="utf-8",
    )
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium())
        page = browser.new_page()
        page.goto(page_file.as_uri())
        bar = page.locator("rect[data-face='2']").bounding_box()
        assert bar is not None
        page.mouse.move(bar["x"] + bar["width"] / 2, bar["y"] + 4)
        page.mouse.down()
        page.mouse.move(bar["x"] + bar["width"] / 2, bar["y"] - 40)
        page.mouse.up()
        page.locator("input[type=range]").first.focus()
        page.keyboard.press("ArrowLeft")
        widget.position = page.evaluate("window.model.get('position')")
        words = page.locator(".fi-status").inner_text()
        page.locator("input[type=range]").last.focus()
        page.keyboard.press("ArrowRight")
        uncovered = page.locator(".fi-status").inner_text()
        browser.close()
    assert widget.position[2] > dice().position[2]
    assert widget.position[0] == dice().position[0] - 1
    gain, price = widget.terms
    shown = [float(text.replace("−", "-")) for text in re.findall(r"[−\d.]*\d", words)]
    assert shown == pytest.approx([gain, price, gain - price, widget.chart["best"] - gain + price], rel=6e-3, abs=1e-4)
    best = ", ".join(f"{q:.2f}" for q in xu_raginsky.gibbs(PRIOR, VALUES))
    assert uncovered == f"{words} The best: {best}."


def chromium() -> str:
    """The browser of the system."""
    path = Path("/usr/bin/chromium")
    if not path.exists():
        pytest.skip("no Chromium here")
    return str(path)
