"""The figure style: readable on white and on black, with and without colour, and the same file every time."""

import io
import itertools

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("agg")

import matplotlib.pyplot as plt

from helpers import plots

GROUNDS = {"white": (255, 255, 255), "dark theme": (18, 18, 18)}
# What the two common kinds of red-green blindness see (Machado, Oliveira and Fernandes 2009, severity 1), linear RGB.
PROTAN = np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]])
DEUTAN = np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]])

TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
)


def linear(colour: str | tuple[int, int, int]) -> np.ndarray:
    """Linear RGB in [0, 1]."""
    levels = [int(colour[i : i + 2], 16) for i in (1, 3, 5)] if isinstance(colour, str) else colour
    srgb = np.asarray(levels) / 255
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear RGB; a distance of 2 is just noticeable, 10 is plain at a glance."""
    xyz = TO_XYZ @ np.clip(rgb, 0, 1) / (0.95047, 1, 1.08883)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(one: np.ndarray, other: np.ndarray) -> float:
    """The contrast ratio of the accessibility guidelines."""
    light, dark = sorted((float(c @ (0.2126, 0.7152, 0.0722)) for c in (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("colour", [*plots.PALETTE, plots.GREY])
def test_every_colour_stands_out_on_both_grounds(colour: str, ground: str) -> None:
    assert contrast(linear(colour), linear(GROUNDS[ground])) >= 3


@pytest.mark.parametrize("seen", [np.eye(3), PROTAN, DEUTAN], ids=["typical", "protan", "deutan"])
def test_colours_stay_apart_for_colour_blind_readers(seen: np.ndarray) -> None:
    for one, other in itertools.combinations(plots.PALETTE, 2):
        distance = np.linalg.norm(lab(seen @ linear(one)) - lab(seen @ linear(other)))
        assert distance > 15, f"{one} and {other} look alike"


def test_series_differ_without_colour_too() -> None:
    with plots.style():
        cycle = plt.rcParams["axes.prop_cycle"].by_key()
    pairs = set(zip(cycle["marker"], map(str, cycle["linestyle"]), strict=True))
    assert len(pairs) == len(plots.PALETTE)


def draw() -> str:
    figure, ax = plots.figure()
    with plots.style():
        ax.plot([1, 2, 3], label="line")
        plots.gap_line(ax, 1.5, 0.1)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    return buffer.getvalue()


def test_the_same_figure_is_the_same_transparent_file() -> None:
    text = draw()
    assert text == draw()
    assert "fill: #ffffff" not in text


def test_lambda_path_draws_three_curves_the_gap_and_the_ends() -> None:
    rows = [
        {"lam": 10.0**i, "value": 2.0, "penalty": p, "information": 2.0 - p, "clipped_share": c}
        for i, (p, c) in enumerate([(1.0, 0.9), (1.0, 0.0), (1.95, 0.0)])
    ]
    figure, ax = plots.figure()
    plots.lambda_path(ax, rows, gap=1.8, standard_error=0.1)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "bound",
        "penalty",
        "information",
        "measured gap",
        "most examples clipped",
        "almost all of it is the penalty, a hold-out estimate",
    ]
    assert [(round(a, 3), round(b, 3)) for a, b, _ in plots.degenerate_regions(rows)] == [(1.0, 3.162), (31.623, 100.0)]
    plt.close(figure)


def test_terms_path_stacks_the_terms_up_to_the_bound_and_leaves_warned_points_hollow() -> None:
    rows = [
        {"lam": 10.0**i, "value": 3.0 + i, "penalty": 1.0, "flatness": 0.5, "trajectory": 1.5 + i} for i in range(3)
    ]
    figure, ax = plots.figure()
    plots.terms_path(ax, rows, gap=1.8, standard_error=0.1, warned=[True, False, False])
    *areas, full, hollow = ax.collections
    tops = [area.get_paths()[0].vertices[:, 1].max() for area in areas]
    assert tops == [1.0, 1.5, 5.0]  # each area reaches the sum of the terms so far, at most over lambda
    assert full.get_offsets().tolist() == [[10.0, 4.0], [100.0, 5.0]]
    assert hollow.get_offsets().tolist() == [[1.0, 3.0]]
    assert hollow.get_facecolors().size == 0
    plt.close(figure)
