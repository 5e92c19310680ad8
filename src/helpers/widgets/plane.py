"""A plane with sliders: trajectories, points, lines and regions over the contours of a landscape.

``Plane`` is the two-dimensional member of the widget family (``helpers.widgets``): made from numbers that are already
there, alive on the page without a kernel. Everything drawn is given in the same form, ``Shape``:

- an array (m, 2), the same for every position of the sliders;
- an array (slider 1, ..., slider s, m, 2), one polyline or cloud for each position;
- an array (slider 1, ..., slider s, k, m, 2), k polylines in one style;
- or a function of one value of each slider that returns (m, 2) or (k, m, 2).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from helpers.widgets.chart import (
    LARGEST,
    SCRIPT,
    STATIC,
    TABLE_ROWS,
    Chart,
    TextTable,
    drawable,
    plain,
    rounded,
    row_major,
    stop_text,
    unspeakable,
)

Shape = Callable[..., ArrayLike] | ArrayLike
Interval = tuple[float, float]
DRAWN = 5000  # coordinates are rounded to this share of the axis, finer than a pixel
MARGIN = 0.06  # empty share of an axis on either side of the data


class Plane(Chart):
    """Paths, points, lines and regions in a plane, chosen by sliders.

    ``sliders``: label to its values, numbers or words. ``paths``: name to trajectories, drawn with markers along them.
    ``points``: name to points, each drawn as a marker. ``lines``: name to curves without markers. ``regions``: name to
    polygons, at most two, hatched. ``along``: one more slider, label to m values, that comes last and runs along the
    paths, which then have m points each: a path is drawn in full up to there and faintly beyond. ``contours``: (x, y,
    z) with z of shape (len(y), len(x)) or a function of the two grids; ``levels`` their number or values,
    ``contour_label`` their name. ``readings``: name to numbers that the sentence below the figure reports, of shape
    (slider 1, ..., slider s) or, with ``along``, (slider 1, ..., slider s, m); or a function of one value of each
    slider. ``equal``: one unit is as long on both axes. ``play``: a button moves the last slider from stop to stop;
    nothing moves before it is pressed. ``start``: first index of each slider, ``along`` included (default: the middle;
    the last stop along paths). ``glow``: names of lines that are drawn with a halo. A cloud of more than forty points
    lies below the lines.

    Five series at most, told apart by marker and line style. Raises ValueError if there is nothing to draw, there is
    too much, a shape does not fit, or a value is not finite.
    """

    _esm = SCRIPT + (STATIC / "plane.js").read_text(encoding="utf-8")

    def __init__(
        self,
        sliders: Mapping[str, Sequence[float] | Sequence[str]] | None = None,
        *,
        paths: Mapping[str, Shape] | None = None,
        points: Mapping[str, Shape] | None = None,
        lines: Mapping[str, Shape] | None = None,
        regions: Mapping[str, Shape] | None = None,
        along: Mapping[str, Sequence[float]] | None = None,
        contours: tuple[ArrayLike, ArrayLike, Callable[..., ArrayLike] | ArrayLike] | None = None,
        levels: int | Sequence[float] = 10,
        contour_label: str = "loss",
        readings: Mapping[str, Callable[..., ArrayLike] | ArrayLike] | None = None,
        x_label: str,
        y_label: str,
        title: str,
        description: str = "",
        x_limits: Interval | None = None,
        y_limits: Interval | None = None,
        x_log: bool = False,
        y_log: bool = False,
        equal: bool = False,
        play: bool = False,
        glow: Sequence[str] = (),
        start: Sequence[int] | None = None,
    ) -> None:
        given = [
            (name, kind, shape)
            for kind, group in (("path", paths), ("points", points), ("line", lines), ("region", regions))
            for name, shape in (group or {}).items()
        ]
        choices, stops = dict(sliders or {}), dict(along or {})
        _refuse(title, given, choices, stops, play, equal and (x_log or y_log))
        if isinstance(glow, str):
            raise ValueError(f"{title}: glow must be a list of names, such as [{glow!r}].")
        halo = [i for i, (name, kind, _) in enumerate(given) if kind == "line" and name in glow]
        if len(halo) != len(set(glow)):
            raise ValueError(f"{title}: glow must name lines of this plane, not {', '.join(map(repr, glow))}.")
        positions = list(product(*choices.values()))
        sizes = tuple(map(len, choices.values()))
        shapes = [_frames(f"{title}: {kind} {name!r}", shape, positions, sizes) for name, kind, shape in given]
        length = len(next(iter(stops.values()))) if stops else None
        for (name, kind, _), frames in zip(given, shapes, strict=True):
            if kind == "path" and length and any(walk.shape[-2] != length for walk in frames):
                raise ValueError(f"{title}: path {name!r} must have {length} points, one for each stop along it.")
        everything = np.concatenate([frame.reshape(-1, 2) for frames in shapes for frame in frames])
        grid = None if contours is None else _grid(title, *contours)
        x_axis = _axis(title, x_label, everything[:, 0], x_limits, grid and grid[0], x_log)
        y_axis = _axis(title, y_label, everything[:, 1], y_limits, grid and grid[1], y_log)
        controls = [{"label": name, "text": list(map(stop_text, v))} for name, v in (choices | stops).items()]
        chart = {
            "kind": "plane",
            "title": title,
            "description": description or f"{', '.join(name for name, *_ in given)}: {y_label} against {x_label}.",
            "x": x_axis,
            "y": y_axis,
            "equal": equal,
            "series": [name for name, *_ in given],
            "kinds": [kind for _, kind, _ in given],
            "sliders": controls,
            "mark": bool(stops),
            "play": play,
            "frames": [[_send(frames, i, x_axis, y_axis) for frames in shapes] for i in range(len(positions))],
            "readings": {
                name: _readings(f"{title}: reading {name!r}", values, positions, sizes, length)
                for name, values in (readings or {}).items()
            },
            "contours": _contours(grid, levels, x_axis, y_axis),
            "contourLabel": contour_label,
        } | ({"glow": halo} if halo else {})
        middle = [len(values) // 2 for values in choices.values()] + ([length - 1] if length else [])
        super().__init__(chart=chart, position=list(middle if start is None else start), log=False)

    def _table(self) -> TextTable:
        """The points of one position of the sliders, and before them the readings: head and rows."""
        chart, position = self.chart, list(self.position)
        choosing = chart["sliders"][:-1] if chart["mark"] else chart["sliders"]
        index = row_major([len(s["text"]) for s in choosing], position)
        rows = []
        for i, name in enumerate(chart["series"]):
            walk = (chart["frames"][index][i] or chart["frames"][0][i])[0]
            pairs = zip(walk[::2], walk[1::2], strict=True)
            rows += [[f"{name}, {j}", plain(x), plain(y)] for j, (x, y) in enumerate(pairs, 1)]
        every = math.ceil(len(rows) / TABLE_ROWS)
        at = ", ".join(f"{s['label']} = {s['text'][i]}" for s, i in zip(choosing, position, strict=False))
        words = []
        for name, values in chart["readings"].items():
            value = values[index]
            words.append([name, plain(value[position[-1]] if isinstance(value, list) else value), ""])
        head = "point" + (f" (at {at})" if at else "")
        return [head, chart["x"]["label"], chart["y"]["label"]], words + rows[::every]


def _refuse(
    title: str,
    given: Sequence[tuple[str, str, Shape]],
    choices: Mapping[str, Sequence[float] | Sequence[str]],
    stops: Mapping[str, Sequence[float]],
    play: bool,
    skewed: bool,
) -> None:
    """What cannot be drawn whatever the numbers."""
    names = [name for name, *_ in given]
    if not names or any(len(values) == 0 for values in (*choices.values(), *stops.values())):
        raise ValueError(f"{title}: there must be something to draw, and a value for every slider.")
    if len(names) > 5 or sum(kind == "region" for _, kind, _ in given) > 2:
        raise ValueError(f"{title}: more than five series, or two regions, cannot be told apart.")
    if len(set(names)) < len(names):
        raise ValueError(f"{title}: two series have the same name; a legend needs different ones.")
    if len(stops) > 1 or (stops and not any(kind == "path" for _, kind, _ in given)):
        raise ValueError(f"{title}: along takes one slider, and paths that it runs along.")
    if play and not (choices or stops):
        raise ValueError(f"{title}: a button to play needs a slider to move.")
    if skewed:
        raise ValueError(f"{title}: units cannot be equal on a logarithmic axis.")


def _frames(what: str, shape: Shape, positions: Sequence[Sequence[Any]], sizes: tuple[int, ...]) -> list[np.ndarray]:
    """The polylines (k, m, 2) for each position of the sliders, or one entry if they are the same for all."""
    if callable(shape):
        frames = [np.asarray(shape(*position), dtype=float) for position in positions]
    else:
        array = np.asarray(shape, dtype=float)
        if array.ndim == 2:
            frames = [array]
        elif array.ndim in (len(sizes) + 2, len(sizes) + 3) and array.shape[: len(sizes)] == sizes:
            frames = list(array.reshape(-1, *array.shape[len(sizes) :]))
        else:
            raise ValueError(f"{what} has shape {array.shape}; sliders ask for {sizes} + (m, 2) or (k, m, 2).")
    for frame in frames:
        if frame.ndim not in (2, 3) or frame.shape[-1] != 2 or frame.size == 0:
            raise ValueError(f"{what} must hold points of the plane, (m, 2) or (k, m, 2), not {frame.shape}.")
        if not drawable(frame):
            raise ValueError(f"{what} holds a value that is not finite, which cannot be drawn.")
    return [frame if frame.ndim == 3 else frame[None] for frame in frames]


def _axis(
    title: str, label: str, values: np.ndarray, limits: Interval | None, grid: np.ndarray | None, log: bool
) -> dict[str, Any]:
    """Label, scale and range of an axis: the limits given, or the contours' grid, or the data with a margin."""
    if limits is None and grid is not None:
        limits = float(grid[0]), float(grid[-1])
    if limits is None:
        low, high = float(values.min()), float(values.max())
        if log:
            ratio = (high / low) ** MARGIN if 0 < low < high else 2.0
            limits = low / ratio, high * ratio
        else:
            room = MARGIN * (high - low or abs(high) or 1.0)
            limits = low - room, high + room
    low, high = map(float, limits)
    if not (drawable([low, high]) and high - low >= 1 / LARGEST):
        raise ValueError(f"{title}: the limits of {label!r} must be finite and in order, not {limits}.")
    if log and (low <= 0 or values.min() <= 0):
        raise ValueError(f"{title}: a logarithmic axis {label!r} needs values above 0.")
    return {"label": label, "range": [low, high], "log": log}


def _short(values: np.ndarray, axis: Mapping[str, Any]) -> list[float | str]:
    """Values rounded to what can be seen on the axis."""
    if axis["log"]:
        return [rounded(v) for v in values]
    low, high = axis["range"]
    digits = math.ceil(math.log10(DRAWN / (high - low)))
    return [float(v) + 0.0 for v in np.round(values, digits)]


def _send(
    frames: Sequence[np.ndarray], index: int, x_axis: Mapping[str, Any], y_axis: Mapping[str, Any]
) -> list[list[float | str]] | None:
    """The polylines of one frame, each as x0, y0, x1, y1, ...; None: as in the first frame."""
    if index and len(frames) == 1:
        return None
    walks = []
    for walk in frames[index]:
        pairs = zip(_short(walk[:, 0], x_axis), _short(walk[:, 1], y_axis), strict=True)
        walks.append([v for pair in pairs for v in pair])
    return walks


def _readings(
    what: str,
    values: Callable[..., ArrayLike] | ArrayLike,
    positions: Sequence[Sequence[Any]],
    sizes: tuple[int, ...],
    length: int | None,
) -> list[Any]:
    """One number for each position of the sliders, or one list of them along the paths."""
    array = np.asarray([values(*p) for p in positions] if callable(values) else values, dtype=float)
    along = (length,) if length else ()
    for shape in (sizes, sizes + along):
        if array.size == math.prod(shape) and (callable(values) or array.shape == shape):
            break
    else:
        raise ValueError(f"{what} has shape {array.shape}; sliders ask for {sizes} or {sizes + along}.")
    if unspeakable(array):
        raise ValueError(f"{what} holds NaN or minus infinity (below -1e300 counts), which cannot be reported.")
    table = array.reshape(len(positions), -1)
    return [[rounded(v) for v in row] if along and len(row) == length else rounded(row[0]) for row in table]


def _grid(
    title: str, x: ArrayLike, y: ArrayLike, z: Callable[..., ArrayLike] | ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The grid of a landscape: increasing x (p,), y (q,) and heights (q, p)."""
    xs, ys = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    for values in (xs, ys):
        if values.ndim != 1 or values.size < 2 or not np.all(np.diff(values) > 0):
            raise ValueError(f"{title}: the grid of the contours must increase along x and along y.")
    heights = np.asarray(z(*np.meshgrid(xs, ys)) if callable(z) else z, dtype=float)
    if heights.shape != (ys.size, xs.size) or not drawable(heights):
        raise ValueError(f"{title}: the contours need finite heights of shape {(ys.size, xs.size)}.")
    return xs, ys, heights


def _contours(
    grid: tuple[np.ndarray, np.ndarray, np.ndarray] | None,
    levels: int | Sequence[float],
    x_axis: Mapping[str, Any],
    y_axis: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Contour lines as polylines, level by level; a number of levels means evenly spaced between the extremes."""
    if grid is None:
        return []
    from contourpy import contour_generator

    x, y, z = grid
    heights = np.linspace(z.min(), z.max(), levels + 2)[1:-1] if isinstance(levels, int) else np.asarray(levels)
    tracer = contour_generator(x, y, z)
    drawn = []
    for level in heights:
        lines = [
            [v for pair in zip(_short(line[:, 0], x_axis), _short(line[:, 1], y_axis), strict=True) for v in pair]
            for line in map(np.asarray, tracer.lines(float(level)))
        ]
        drawn.append({"level": rounded(float(level)), "lines": lines})
    return drawn
