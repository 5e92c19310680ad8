"""Many numbers with their intervals in one picture: a row for each quantity, a column for each setting."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING

from helpers.plots.figures import BLUE, GREY, figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ValueAndEnds = tuple[float, float, float]  # value, low, high


def intervals(
    columns: Mapping[str, Mapping[str, ValueAndEnds]],
    *,
    label: str,
    compare: str | None = None,
    limits: tuple[float, float] | None = None,
    points: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
    height: float | None = None,
) -> "Figure":
    """Draw intervals around zero, full where an interval does not hold zero and hollow where it does.

    ``columns``: title to rows, each a name with (value, low, high); a row that a column lacks stays empty there. Rows
    stand in the order in which they first come. ``compare``: the name of a row whose interval is drawn as a band
    through the whole column, so that the others can be held against it. ``limits``: ends of the horizontal axis; an
    interval that leaves it ends in an arrowhead. ``points``: title to rows of single values, drawn as small dots.

    Raises:
        ValueError: if there is nothing to draw, a number is not finite, or low <= value <= high does not hold; if
            ``compare`` is no row, ``points`` name a column or a row that is not there, or ``limits`` are not in order.
    """
    names = list(dict.fromkeys(name for rows in columns.values() for name in rows))
    if not names:
        raise ValueError("columns must hold a row with (value, low, high); there is nothing to draw.")
    for title, rows in columns.items():
        for name, (value, low, high) in rows.items():
            if not (isfinite(low) and isfinite(high) and low <= value <= high):
                raise ValueError(f"columns: {name!r} of {title!r} must be finite with low <= value <= high.")
    if compare is not None and compare not in names:
        raise ValueError(f"compare must be the name of a row, one of {names}, got {compare!r}.")
    if limits is not None and not (isfinite(limits[0]) and isfinite(limits[1]) and limits[0] < limits[1]):
        raise ValueError(f"limits must be finite and in order, got {limits}.")
    for title, dots in (points or {}).items():
        if title not in columns or not set(dots) <= set(names):
            raise ValueError(f"points must be of the columns and rows drawn, got {list(dots)} of {title!r}.")
        if not all(isfinite(dot) for row in dots.values() for dot in row):
            raise ValueError(f"points of {title!r} must be finite.")
    fig, axes = figure(len(columns), height=height or 0.9 + 0.27 * len(names), sharey=True, squeeze=False)
    for ax, (title, rows) in zip(axes[0], columns.items(), strict=True):
        ax.axvline(0, color=GREY, linewidth=1)
        if compare is not None and compare in rows:
            ax.axvspan(*rows[compare][1:], color=GREY, alpha=0.18, linewidth=0)
        for y, name in enumerate(names):
            for dot in (points or {}).get(title, {}).get(name, ()):
                ax.plot(dot, y + 0.25, color=GREY, marker=".", markersize=3, linestyle="none", markevery=1)
            if name not in rows:
                continue
            value, low, high = rows[name]
            colour = GREY if name == compare else BLUE
            start, end = limits or (low, high)
            clear = low > 0 or high < 0
            thickness = 2.2 if clear else 1.0
            ax.plot((max(low, start), min(high, end)), (y, y), color=colour, marker="", linestyle="-", lw=thickness)
            fill = colour if clear else "none"
            ax.plot(value, y, color=colour, marker="o", markerfacecolor=fill, linestyle="none", markevery=1)
            for beyond, at, head in ((low < start, start, "<"), (high > end, end, ">")):
                if beyond:
                    ax.plot(at, y, color=colour, marker=head, linestyle="none", markevery=1, clip_on=False)
        ax.set_title(title, fontsize=9)
        ax.grid(axis="y", visible=False)
        if limits:
            ax.set_xlim(*limits)
    axes[0][0].set_yticks(range(len(names)), names)
    axes[0][0].set_ylim(len(names) - 0.4, -0.6)
    fig.supxlabel(label, fontsize=10, color=GREY)
    return fig
