"""Curves over one axis, the path of lambda with its terms, and bars for a grid of settings, all with sliders."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from helpers.plots import degenerate_regions, mapping
from helpers.widgets.chart import LARGEST, Chart, drawable, plain, rounded, stop_text, unspeakable

Settings = Mapping[str, Any]
WORDS = {"batch_size": "batch size", "lr": "learning rate", "lam": "λ", "n": "n", "width": "width", "sigma": "σ"}


class Curves(Chart):
    """A family of curves over one axis, chosen by zero or more sliders.

    ``x``: (m,) increasing values. ``series``: name to an array of shape (slider 1, ..., slider s, m), or to a function
    that takes one value of each slider in order and returns (m,). ``sliders``: label to its values, numbers or words.
    With ``slide_x`` a last slider of that label runs along x and reads the curves off. ``start``: first index of each
    slider, the one along x included (default: the middle). ``gap``: a measured value, (value, standard error), or an
    object with these as ``value`` and ``standard_error``; drawn as a dashed line with two standard errors on either
    side. ``marks``: name to a place on the axis, one for each choice of the sliders (not of the one along x), as an
    array of their shape or a function of their values; drawn as an upright line and named in the sentence.
    ``readings``: in the same form, name to a number that the sentence reports.
    ``decades``: how far below its largest value a logarithmic vertical axis reaches (default: six).

    Raises ValueError if there is nothing to draw, a shape does not fit, or a value is NaN.
    """

    def __init__(
        self,
        x: ArrayLike,
        series: Mapping[str, Callable[..., ArrayLike] | ArrayLike],
        sliders: Mapping[str, Sequence[float] | Sequence[str]] | None = None,
        *,
        x_label: str,
        y_label: str,
        title: str,
        description: str = "",
        slide_x: str | None = None,
        x_log: bool = True,
        log: bool = True,
        decades: int | None = None,
        gap: Any = None,
        gap_label: str = "measured gap",
        marks: Mapping[str, Callable[..., ArrayLike] | ArrayLike] | None = None,
        readings: Mapping[str, Callable[..., ArrayLike] | ArrayLike] | None = None,
        start: Sequence[int] | None = None,
        **extra: Any,
    ) -> None:
        xs = np.asarray(x, dtype=float)
        choices = dict(sliders or {})
        if xs.ndim != 1 or xs.size < 2 or not drawable(xs) or not np.all(np.diff(xs) > 0):
            raise ValueError(f"{title}: x must hold two or more finite values in increasing order, of at most 1e300.")
        if x_log and xs[0] < 1 / LARGEST:
            raise ValueError(f"{title}: a logarithmic x axis needs values above 0; pass x_log=False.")
        if not series or any(len(values) == 0 for values in choices.values()):
            raise ValueError(f"{title}: there must be a series, and a value for every slider.")
        controls = [{"label": name, "text": [stop_text(v) for v in values]} for name, values in choices.items()]
        if slide_x is not None:
            controls.append({"label": slide_x, "text": [plain(v) for v in xs]})
        chart = {
            "kind": "lines",
            "title": title,
            "description": description or f"{', '.join(series)} against {x_label}.",
            "x": {"label": x_label, "values": [rounded(v, 6) for v in xs], "log": x_log},
            "y": {"label": y_label, "zero": False} | ({} if decades is None else {"decades": decades}),
            "series": list(series),
            "sliders": controls,
            "mark": slide_x is not None,
            "frames": _frames(title, xs.size, series, list(choices.values())),
            "gapLabel": gap_label,
        } | extra
        for key, given in (("marks", marks), ("readings", readings)):
            if given:
                chart[key] = _singles(title, key, given, list(choices.values()))
        if gap is not None:
            chart["gap"] = _interval(gap, title)
        middle = [len(control["text"]) // 2 for control in controls]
        super().__init__(chart=chart, position=list(middle if start is None else start), log=log)


class LambdaPath(Curves):
    """The omniscient bound along its trade-off lambda, with a slider that reads it off.

    ``rows``: one for each lambda, in increasing order, as ``omniscient.estimate`` returns them or as mappings with
    lam > 0, value, penalty and information and, if known, clipped_share, noise_to_weight and converged. ``gap`` as for
    ``Curves``. Hatched: the ends where the bound is a hold-out estimate in disguise (``plots.degenerate_regions``);
    hollow points: the linear solver did not converge.
    """

    def __init__(
        self,
        rows: Sequence[Any],
        gap: Any = None,
        *,
        title: str = "The omniscient bound along λ",
        description: str = "",
        start: int | None = None,
    ) -> None:
        table = _checked(rows, ("lam", "value", "penalty", "information"), title)
        super().__init__(
            [row["lam"] for row in table],
            {"bound": _column(table, "value"), "penalty": _column(table, "penalty")}
            | {"information": _column(table, "information")},
            x_label="trade-off λ",
            y_label="loss",
            title=title,
            description=description
            or "The bound and its two parts, penalty and information, over λ. Where the strip is hatched, the bound is "
            "a hold-out estimate in disguise.",
            slide_x="λ",
            gap=gap,
            start=None if start is None else [start],
            shades=[[rounded(a, 6), rounded(b, 6), why] for a, b, why in degenerate_regions(table)],
            notes=[_note(row) for row in table],
            hollow=[i for i, row in enumerate(table) if not row.get("converged", True)],
        )
        self.rows = table

    @property
    def row(self) -> Settings:
        """The row that the slider points at."""
        return self.rows[self.position[0]]


class BoundExplorer(Chart):
    """The terms of a bound as stacked bars over a grid of runs, the measured gap as a line with its interval.

    ``rows``: one mapping (or dataclass) for each run. ``axes``: the keys that make the grid; the first runs along the
    figure, and each has a slider over the values that rows hold. ``terms``: the keys whose sum is the bound, or key to
    label. The gap is read from ``gap`` and its ``gap_standard_error`` (0 if absent); rows without a gap have no line.
    ``warn``: what speaks against a conclusion from a row, in words (``experiments.trends.warnings``); rows of which it
    says anything are drawn hollow, and say it. ``caps``: label to a value that is drawn as a line, such as the clip.
    Settings without a row are shown as "no run", never filled in.

    Raises ValueError if there are no rows, a key is missing, a value is NaN, a term is negative, or two rows have the
    same settings.
    """

    def __init__(
        self,
        rows: Sequence[Any],
        axes: Sequence[str] = ("batch_size", "lr"),
        terms: Sequence[str] | Mapping[str, str] = ("penalty", "trajectory", "flatness"),
        *,
        gap: str = "gap",
        warn: Callable[[Settings], Sequence[str]] | None = None,
        caps: Mapping[str, float] | None = None,
        labels: Mapping[str, str] | None = None,
        title: str = "The terms of the bound",
        description: str = "",
        gap_label: str = "measured gap",
        y_label: str = "loss",
        log: bool = False,
        start: Sequence[int] | None = None,
    ) -> None:
        names = dict(terms) if isinstance(terms, Mapping) else {key: WORDS.get(key, key) for key in terms}
        words = WORDS | dict(labels or {})
        table = _checked(rows, (*axes, *names), title)
        values = {axis: sorted({row[axis] for row in table}) for axis in axes}
        cells = _grid(table, axes, title)
        for row in table:
            negative = next((key for key in names if row[key] < 0), None)
            if negative is not None:
                raise ValueError(f"{title}: {negative!r} is {row[negative]}: only terms >= 0 can be stacked.")
        combinations = [cells.get(key) for key in product(*values.values())]
        chart = {
            "kind": "bars",
            "title": title,
            "description": description
            or f"{', '.join(names.values())}: stacked, they are the bound; the dashed line is the {gap_label}.",
            "x": {"label": words.get(axes[0], axes[0])},
            "y": {"label": y_label},
            "series": list(names.values()),
            "sliders": [{"label": words.get(a, a), "text": [plain(v) for v in values[a]]} for a in axes],
            "frames": [None if row is None else [rounded(row[key]) for key in names] for row in combinations],
            "gaps": [_row_gap(row, gap, title) for row in combinations],
            "gapLabel": gap_label,
            "notes": [_warned(row, warn) for row in combinations],
            "caps": [[words, rounded(value)] for words, value in (caps or {}).items()],
        }
        middle = [len(values[axis]) // 2 for axis in axes]
        super().__init__(chart=chart, position=list(middle if start is None else start), log=log)
        self._cells = dict(zip(product(*(range(len(v)) for v in values.values())), combinations, strict=True))

    @property
    def row(self) -> Settings | None:
        """The row that the sliders point at; None if no run has these settings."""
        return self._cells[tuple(self.position)]


def _checked(rows: Sequence[Any], keys: Sequence[str], title: str) -> list[Settings]:
    """The rows, if there are any and each holds a number under every key."""
    table = [mapping(row) for row in rows]
    if not table:
        raise ValueError(f"{title}: there are no rows to draw; run the experiment first.")
    for i, row in enumerate(table):
        for key in keys:
            if key not in row:
                raise ValueError(f"{title}: row {i} has no {key!r}; it has {', '.join(map(str, row))}.")
            _number(row[key], f"{title}: {key!r} of row {i}")
    return table


def _number(value: Any, what: str) -> float:
    """``value`` as a float; a ValueError names ``what`` if it is no number, NaN, or minus infinity."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{what} is {value!r}: it must be a number.") from None
    if unspeakable(number):
        raise ValueError(f"{what} is {number}: it cannot be drawn, so leave the row out and say why.")
    return number


def _column(rows: Sequence[Settings], key: str) -> list[float]:
    return [float(row[key]) for row in rows]


def _interval(gap: Any, title: str) -> list[float | str]:
    """A gap with its standard error as [value, value - 2 s.e., value + 2 s.e.]."""
    if hasattr(gap, "standard_error"):
        gap = (gap.value, gap.standard_error)
    value, error = gap if isinstance(gap, Sequence) else (gap, 0.0)
    value, error = _number(value, f"{title}: the gap"), _number(error, f"{title}: the gap's standard error")
    return [rounded(value), rounded(value - 2 * error), rounded(value + 2 * error)]


def _row_gap(row: Settings | None, key: str, title: str) -> list[float | str] | None:
    if row is None or row.get(key) is None:
        return None
    return _interval((row[key], row.get(f"{key}_standard_error") or 0.0), title)


def _warned(row: Settings | None, warn: Callable[[Settings], Sequence[str]] | None) -> str:
    reasons = [] if row is None or warn is None else warn(row)
    return f"Warned: {'; '.join(reasons)}." if reasons else ""


def _grid(rows: Sequence[Settings], axes: Sequence[str], title: str) -> dict[tuple[Any, ...], Settings]:
    """The rows by their settings; two rows with the same settings cannot both be shown."""
    cells: dict[tuple[Any, ...], Settings] = {}
    for row in rows:
        key = tuple(row[axis] for axis in axes)
        if key in cells:
            settings = ", ".join(f"{axis}={value}" for axis, value in zip(axes, key, strict=True))
            raise ValueError(f"{title}: two rows have {settings}; add the key in which they differ to axes.")
        cells[key] = row
    return cells


def _frames(
    title: str, points: int, series: Mapping[str, Any], choices: Sequence[Sequence[Any]]
) -> list[list[list[float | str]]]:
    """For every choice of the sliders, in row-major order, the (series, x) values."""
    shape = (*map(len, choices), points)
    arrays = []
    for name, given in series.items():
        if callable(given):
            given = np.reshape([np.broadcast_to(given(*values), (points,)) for values in product(*choices)], shape)
        if np.iscomplexobj(given):
            raise ValueError(f"{title}: series {name!r} holds complex numbers, which have no height.")
        array = np.asarray(given, dtype=float)
        if array.shape != shape:
            raise ValueError(f"{title}: series {name!r} has shape {array.shape}; sliders and x ask for {shape}.")
        if unspeakable(array):
            raise ValueError(
                f"{title}: series {name!r} holds NaN or minus infinity (below -1e300 counts), which cannot be drawn."
            )
        arrays.append(array.reshape(-1, points))
    return [[[rounded(v) for v in array[i]] for array in arrays] for i in range(len(arrays[0]))]


def _singles(
    title: str, what: str, given: Mapping[str, Any], choices: Sequence[Sequence[Any]]
) -> dict[str, list[float | str]]:
    """For every name one finite number for each choice of the sliders, in row-major order."""
    shape, found = tuple(map(len, choices)), {}
    for name, values in given.items():
        array = np.asarray([values(*v) for v in product(*choices)] if callable(values) else values, dtype=float)
        if array.size != math.prod(shape) or not (callable(values) or array.shape == shape):
            raise ValueError(f"{title}: {what} {name!r} has shape {array.shape}; the sliders ask for {shape}.")
        if not drawable(array):
            raise ValueError(f"{title}: {what} {name!r} holds a value that is not finite, which cannot be shown.")
        found[name] = [rounded(v) for v in array.reshape(-1)]
    return found


def _note(row: Settings) -> str:
    """What a reader must know about one row of a path, beside its numbers."""
    notes = []
    if "clipped_share" in row:
        notes.append(f"{row['clipped_share']:.0%} of the examples sit at the clip.")
    if row.get("noise_to_weight", 0.0) > 1:
        notes.append("The noise is larger than the weights, so the second-order flatness term is not credible.")
    if not row.get("converged", True):
        notes.append("The solver did not converge.")
    return " ".join(notes)
