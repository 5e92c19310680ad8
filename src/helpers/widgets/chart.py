"""The base of the widgets: a chart with sliders, sent to ``static/widget.js``, and its numbers as a table.

The modules that use it build ``chart``, the description of one drawing:

- ``kind``: "lines", "bars", "plane" or "dice"; ``title``, ``description``, ``series`` (names), ``x``, ``y`` (labels,
  scale);
- ``sliders``: label and the text of every stop; ``frames``: the numbers to draw for every combination of stops, in
  row-major order (lines: one list for each series; bars: one number for each term, or None where there is no run);
- lines: ``mark`` (the last slider runs along x and chooses no frame), ``gap``, ``shades``, ``notes``, ``hollow``,
  ``marks`` and ``readings`` (name to one number for each frame);
  bars: ``gaps``, one for each frame; plane: see ``helpers.widgets.plane``.
"""

import html
import math
from collections.abc import Sequence
from importlib.resources import files
from itertools import product
from typing import Any

import anywidget
import numpy as np
import traitlets
from numpy.typing import ArrayLike

TextTable = tuple[list[str], list[list[str]]]  # head and rows
STATIC = files("helpers.widgets") / "static"
SCRIPT = (STATIC / "widget.js").read_text(encoding="utf-8")
LARGEST = 1e300  # what is larger in size counts as infinite
TABLE_ROWS = 24  # a fallback table has at most about this many


class Chart(anywidget.AnyWidget):
    """Base of the family: sliders, one drawing, its numbers in words and as a table.

    ``position`` holds one index for each slider and ``log`` whether the vertical axis is logarithmic; both follow the
    reader and may be set from Python. ``chart`` is the drawing itself; assigning a new one redraws it.
    """

    _esm = SCRIPT
    _css = (STATIC / "widget.css").read_text(encoding="utf-8")
    chart = traitlets.Dict().tag(sync=True)
    position = traitlets.List(traitlets.Int()).tag(sync=True)
    log = traitlets.Bool(True).tag(sync=True)

    @traitlets.validate("position")
    def _position_exists(self, proposal: dict[str, Any]) -> list[int]:
        sizes = [len(slider["text"]) for slider in self.chart.get("sliders", [])]
        value = list(proposal["value"])
        if len(value) != len(sizes) or any(not 0 <= i < size for i, size in zip(value, sizes, strict=True)):
            raise traitlets.TraitError(
                f"position must hold one index for each slider, below {sizes}: {value} does not."
            )
        return value

    def __repr__(self) -> str:
        """The class and its title, without the address that would differ from run to run."""
        return f"{type(self).__name__}({self.chart.get('title', '')!r})"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The widget, and beside it a table for readers without JavaScript."""
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        return {**data, "text/html": self._fallback()}, metadata

    def _table(self) -> TextTable:
        """Head and rows of the table that stands in for the drawing."""
        return (_line_table if self.chart["kind"] == "lines" else _bar_table)(self.chart, self.position)

    def _fallback(self) -> str:
        title, description = (html.escape(self.chart[key]) for key in ("title", "description"))
        head, rows = self._table()
        cells = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in head)
        body = "".join(
            f'<tr><th scope="row">{html.escape(first)}</th>'
            + "".join(f"<td>{html.escape(text)}</td>" for text in rest)
            + "</tr>"
            for first, *rest in rows
        )
        return (
            f"<p><strong>{title}</strong> {description}</p>"
            f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"
        )


def drawable(values: ArrayLike) -> bool:
    """Whether all values are numbers of at most 1e300 in size, between which distances can be computed."""
    return bool(np.all(np.abs(np.asarray(values, dtype=float)) <= LARGEST))


def unspeakable(values: ArrayLike) -> bool:
    """Whether a value is NaN, minus infinity, or so far below zero that it counts as that."""
    array = np.asarray(values, dtype=float)
    return bool(np.any(np.isnan(array) | (array < -LARGEST)))


def rounded(value: float, digits: int = 4) -> float | str:
    """``value`` to ``digits`` significant digits; infinity becomes "inf", since JSON has no infinity.

    Above 1e300 counts as infinite, and less than 1e-300 in size as 0: a chart's arithmetic needs the room.

    A last digit 5 keeps two more behind it: the page rounds once more, to one digit less, and must not go astray.
    """
    if value > LARGEST:
        return "inf"
    if abs(value) < 1 / LARGEST:
        return 0.0
    short = f"{float(value):.{digits}g}"
    return float(f"{float(value):.{digits + 2}g}" if short.split("e")[0].endswith("5") else short)


def plain(value: float | str) -> str:
    """A number as it is written beside a slider: at most four digits, powers of ten as such."""
    number = float(value)
    if number == math.inf:
        return "infinite"
    if number == 0 or 1e-3 <= abs(number) < 1e5:
        return f"{number:.4g}".replace("-", "−") if abs(number) < 1e4 else f"{number:.0f}".replace("-", "−")
    mantissa, exponent = f"{number:.3g}".split("e") if "e" in f"{number:.3g}" else f"{number:.2e}".split("e")
    power = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{float(mantissa):g} × 10{power}".replace("-", "−", 1)


def stop_text(value: float | str) -> str:
    """What stands beside a slider at one of its stops: a number, or the word that a setting goes by."""
    return value if isinstance(value, str) else plain(value)


def row_major(sizes: Sequence[int], position: Sequence[int]) -> int:
    """Row-major index of a slider position."""
    index = 0
    for size, i in zip(sizes, position, strict=False):
        index = index * size + i
    return index


def _line_table(chart: dict[str, Any], position: Sequence[int]) -> TextTable:
    """The curves at one position of the sliders: head and rows."""
    choosing = chart["sliders"][:-1] if chart["mark"] else chart["sliders"]
    frame = chart["frames"][row_major([len(s["text"]) for s in choosing], position)]
    xs = chart["x"]["values"]
    every = math.ceil(len(xs) / TABLE_ROWS)
    rows = [[plain(v), *(plain(ys[j]) for ys in frame)] for j, v in enumerate(xs)]
    at = ", ".join(f"{s['label']} = {s['text'][i]}" for s, i in zip(choosing, position, strict=False))
    head = chart["x"]["label"] + (f" (at {at})" if at else "")
    return [head, *chart["series"]], rows[::every]


def _bar_table(chart: dict[str, Any], position: Sequence[int]) -> TextTable:
    """Every setting with its terms and its gap, whatever the position: head and rows."""
    sliders, series = chart["sliders"], chart["series"]
    settings = list(product(*(slider["text"] for slider in sliders)))
    every = math.ceil(len(settings) / TABLE_ROWS)
    rows = [
        [*setting, *(map(plain, frame) if frame else ["no run"] * len(series)), plain(gap[0]) if gap else "none"]
        for setting, frame, gap in zip(settings, chart["frames"], chart["gaps"], strict=True)
    ]
    return [*(slider["label"] for slider in sliders), *series, chart["gapLabel"]], rows[::every]
