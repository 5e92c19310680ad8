"""The one figure style of the book, shared with the widgets.

Five colours that stay apart for colour-blind readers (four of Okabe and Ito's, and a violet) and that reach a contrast
of 3 on white and on the dark theme alike; each comes with a marker and a line style of its own, so a figure reads
without colour too. Figures are SVG with a transparent ground: the page behind them decides whether they are light or
dark.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, VERMILION, GREEN, PINK, VIOLET = PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7b5be6")
GREY = "#7a7a7a"  # words, frames and the measured gap
MARKERS = ("o", "s", "^", "D", "v")
# Lengths in units of the line width: solid, dashed, dotted, dash-dotted, long-dashed.
DASHES: tuple[tuple[float, ...], ...] = ((), (5, 2), (1.2, 1.8), (6, 2, 1.2, 2), (9, 3))
HATCH = "////"
CLIPPED, HOLD_OUT = 0.5, 0.9  # shares from which on a row of an omniscient path counts as degenerate
WIDTH, HEIGHT = 5.2, 3.2  # inches; the page scales it by 1.2, a phone by 0.65, and its words stay readable


def rc() -> dict[Any, Any]:
    """The style as matplotlib parameters (import of matplotlib happens here, not with the package)."""
    from cycler import cycler

    styles = [(0, dash) if dash else "-" for dash in DASHES]
    cycle = (
        cycler(color=PALETTE)
        + cycler(marker=MARKERS)
        + cycler(linestyle=styles)
        + cycler(markevery=[0.12] * len(PALETTE))  # a curve of a thousand points keeps about eight markers
    )
    frame: dict[str, Any] = dict.fromkeys(
        ("axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "text.color", "xtick.color", "ytick.color"), GREY
    )
    return frame | {
        "axes.axisbelow": True,
        "axes.grid": True,
        "axes.prop_cycle": cycle,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "figure.constrained_layout.use": True,
        "figure.dpi": 100,
        "figure.facecolor": "none",
        "figure.figsize": (WIDTH, HEIGHT),
        "axes.facecolor": "none",
        "font.size": 10.0,
        "grid.alpha": 0.25,
        "grid.color": GREY,
        "hatch.color": GREY,
        "hatch.linewidth": 0.6,
        "legend.frameon": False,
        "legend.handlelength": 3.2,  # long enough to show a whole period of every dash
        "lines.linewidth": 1.6,
        "lines.markersize": 5.0,
        "savefig.facecolor": "none",
        "savefig.transparent": True,
        "svg.fonttype": "path",
        "svg.hashsalt": "flatness-and-information",  # the same figure gives the same file
    }


def use_style() -> None:
    """Switch the style on for the rest of a notebook; inside Jupyter, figures become SVG."""
    import matplotlib.pyplot as plt

    plt.rcParams.update(rc())
    try:
        get_ipython  # type: ignore[name-defined]  # noqa: B018
    except NameError:
        return
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    # Without a date in it the file changes only when the figure does.
    set_matplotlib_formats("svg", metadata={"Date": None}, bbox_inches=None)


@contextmanager
def style() -> Iterator[None]:
    """The style for the length of a ``with`` block."""
    import matplotlib.pyplot as plt

    with plt.rc_context(rc()):
        yield


def figure(columns: int = 1, *, height: float = HEIGHT, **options: Any) -> tuple["Figure", Any]:
    """A figure in the book's style with ``columns`` axes side by side; its width is the text column's.

    ``height`` in inches; ``options`` go to ``matplotlib.pyplot.subplots``. Returns the figure and its axes: one Axes,
    or an array (columns,).
    """
    import matplotlib.pyplot as plt

    with style():
        return plt.subplots(1, columns, figsize=(WIDTH, height), **options)


def gap_line(ax: "Axes", gap: float, standard_error: float = 0.0, *, label: str = "measured gap") -> None:
    """A measured value as a dashed horizontal line with its band of two standard errors."""
    ax.axhline(gap, color=GREY, linestyle=(0, DASHES[1]), linewidth=1.5, label=label)
    if standard_error > 0:
        ax.axhspan(gap - 2 * standard_error, gap + 2 * standard_error, color=GREY, alpha=0.18, linewidth=0)


def hatched(ax: "Axes", start: float, end: float, label: str) -> None:
    """A hatched vertical strip from ``start`` to ``end``: here the curve says less than it seems to."""
    ax.axvspan(start, end, facecolor="none", edgecolor=GREY, alpha=0.5, hatch=HATCH, linewidth=0, label=label)


def mapping(row: Any) -> Mapping[str, Any]:
    """A row as a mapping, whether it comes from an artefact (a mapping) or from an estimator (a dataclass)."""
    return row if isinstance(row, Mapping) else asdict(row)


def degenerate_regions(rows: Sequence[Any]) -> list[tuple[float, float, str]]:
    """Where an omniscient path is a hold-out estimate of the gap in disguise: (from lambda, to lambda, why).

    Two cases: at least half of the examples sit at the clip at the shifted weights (``clipped_share``, where rows have
    it), or the penalty makes up at least 90 % of the bound. Neighbouring rows of one case become one region, which
    ends half-way (in the logarithm) to the next row.
    """
    rows = [mapping(row) for row in rows]
    lam = [float(row["lam"]) for row in rows]
    edges = [lam[0], *(math.sqrt(a * b) for a, b in pairwise(lam)), lam[-1]]
    regions: list[tuple[float, float, str]] = []
    for i, row in enumerate(rows):
        if row.get("clipped_share", 0.0) >= CLIPPED:
            why = "most examples clipped"
        elif row["penalty"] >= HOLD_OUT * row["value"]:
            why = "almost all of it is the penalty, a hold-out estimate"
        else:
            continue
        if regions and regions[-1][1:] == (edges[i], why):
            regions[-1] = (regions[-1][0], edges[i + 1], why)
        else:
            regions.append((edges[i], edges[i + 1], why))
    return regions


def lambda_path(ax: "Axes", rows: Sequence[Any], gap: float | None = None, standard_error: float = 0.0) -> None:
    """Draw an omniscient path: the bound, its penalty and its information part over lambda, both axes logarithmic.

    ``rows``: as ``omniscient.estimate`` returns them, or mappings with lam, value, penalty and information;
    ``degenerate_regions`` are hatched.
    ``widgets.LambdaPath`` is the same figure with a slider.
    """
    rows = [mapping(row) for row in rows]
    lam = [row["lam"] for row in rows]
    for key, label in (("value", "bound"), ("penalty", "penalty"), ("information", "information")):
        ax.plot(lam, [row[key] for row in rows], label=label)
    if gap is not None:
        gap_line(ax, gap, standard_error)
    for start, end, label in degenerate_regions(rows):
        hatched(ax, start, end, label)
    ax.set(xscale="log", yscale="log", xlabel=r"trade-off $\lambda$", ylabel="nats")
    ax.legend()


def terms_path(
    ax: "Axes",
    rows: Sequence[Any],
    gap: float | None = None,
    standard_error: float = 0.0,
    *,
    warned: Sequence[bool] | None = None,
) -> None:
    """Draw an omniscient path as stacked areas: penalty, flatness, trajectory; their sum, the bound, on top.

    The vertical axis is linear, so that areas can be compared; the horizontal one is logarithmic. Points of the bound
    are hollow where ``warned`` says so. Rows as for ``lambda_path``, with trajectory and flatness.
    """
    rows = [mapping(row) for row in rows]
    lam = [row["lam"] for row in rows]
    terms = ("penalty", "flatness", "trajectory")
    areas = ax.stackplot(lam, [[row[term] for row in rows] for term in terms], labels=terms, colors=PALETTE)
    for area, colour, pattern in zip(areas, PALETTE, (HATCH, "", "...."), strict=False):
        area.set(facecolor=(colour, 0.45), hatch=pattern, edgecolor=GREY, linewidth=0)
    values = [row["value"] for row in rows]
    ax.plot(lam, values, color=GREY, marker="none", linestyle="-")
    for points, face, label in ((False, GREY, "bound"), (True, "none", "bound, with a warning")):
        chosen = [i for i in range(len(rows)) if bool(warned and warned[i]) is points]
        if chosen:
            x, y = [lam[i] for i in chosen], [values[i] for i in chosen]
            ax.scatter(x, y, edgecolors=GREY, facecolors=face, s=28, zorder=3, label=label)
    if gap is not None:
        gap_line(ax, gap, standard_error)
    ax.set(xscale="log", xlabel=r"trade-off $\lambda$", ylabel="nats")
    ax.legend()
