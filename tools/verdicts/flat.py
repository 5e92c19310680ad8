"""Rules for what sources 001, 002 and the history note say of flat networks, measured on networks of their kind."""

from collections.abc import Iterable
from itertools import combinations
from statistics import fmean

import numpy as np

from helpers.experiments.machinery.artefact import Json

from .common import (
    Rule,
    TooFew,
    difference,
    direction,
    every,
    graded,
    number,
    reading,
)

SGD, GMPS = "SGD", ("GMP, 3 draws", "GMP, 10 draws")
AXES = ("width", "noise", "weight_decay", "epochs")
DRAWS = 300
ORDER_ONE = 0.1, 10.0
ZETA_AND_EIGENVALUE = number("whole", 0), number("largest_eigenvalue")


def holds_zero(interval: tuple[float, float]) -> bool:
    """Whether an interval does not tell the sign."""
    return interval[0] <= 0 <= interval[1]


def gmp_gains(rows: list[Json], config: Json) -> str:
    """Tables 1 and 2: test accuracy of GMP less that of SGD at equal epochs; intervals that hold zero say nothing."""
    run = [method for method in GMPS if method in {row["method"] for row in rows}]
    gains = [difference(rows, number("test_accuracy"), "method", method, SGD) for method in run]
    if every(map(holds_zero, gains)):
        raise TooFew("too few seeds to tell GMP from SGD")
    return graded(all(low > 0 for low, _ in gains), any(low > 0 for low, _ in gains))


@reading(least=4)
def shortcuts_smooth(rows: list[Json], config: Json) -> str:
    """Figure 5, at the largest depth: fewer dents with shortcuts, and fewer errors on test data."""
    deepest = [row for row in rows if row["depth"] == max(row["depth"] for row in rows)]
    smooth, better = (difference(deepest, number(key), "skips", True, False)[1] < 0 for key in ("dents", "test_error"))
    return graded(smooth and better, smooth or better)


@reading(least=4, biases=True)
def sam_is_flatter_and_worse(rows: list[Json], config: Json) -> str:
    """Figure 8, with biases, where both have fitted: is SAM flatter at every scale and radius, and worse at one?"""
    fitted = [row for row in rows if row["fitted"]]
    flatter, worse = [], []
    for scale in sorted({row["scale"] for row in fitted}):
        here = [row for row in fitted if row["scale"] == scale]
        for radius in sorted({row["radius"] for row in here if row["radius"]}):
            if sum(row["radius"] == radius for row in here) > 1:
                flatter.append(difference(here, number("trace", -1), "radius", radius, 0.0)[1] < 0)
                worse.append(difference(here, number("error", -1), "radius", radius, 0.0)[0] > 0)
    return graded(every(flatter) and any(worse), all(flatter))


@reading(least=6)
def large_batches_are_sharper_in_subspaces(rows: list[Json], config: Json) -> str:
    """Table 4: zeta in random subspaces after the largest batches less that after the smallest, for each network."""
    small, *_, large = sorted({row["batch_size"] for row in rows})
    reached = [row for row in rows if row["reached"]]
    sharper = [
        difference([row for row in reached if row["model"] == model], number("subspace", 0), "batch_size", large, small)
        for model in sorted({row["model"] for row in reached})
    ]
    return graded(every(low > 0 for low, _ in sharper), any(low > 0 for low, _ in sharper))


@reading(least=6)
def large_batches_are_sharper(rows: list[Json], config: Json) -> str:
    """Largest eigenvalue, and zeta in the whole space, after the largest batches less after the smallest.

    The whole for each network; a part for one of them.
    """
    small, *_, large = sorted({row["batch_size"] for row in rows})
    reached = [row for row in rows if row["reached"]]
    sharper = [
        all(difference(here, quantity, "batch_size", large, small)[0] > 0 for quantity in ZETA_AND_EIGENVALUE)
        for here in [[row for row in reached if row["model"] == model] for model in {row["model"] for row in reached}]
    ]
    return graded(every(sharper), any(sharper))


@reading(least=6, smaller=False, part="norms")
def norms_are_of_one_order(rows: list[Json], config: Json) -> str:
    """Theorem 2 with the squares that its display lacks, where inputs are enough: all ratios between 1/10 and 10?

    In part at best: networks that were drawn are no proof for all.
    """
    names = ("trace", "frobenius", "spectral", "energy", "active")
    found = [value for row in rows if row["enough"] for name in names for value in row[name]]
    return graded(False, every(ORDER_ONE[0] < value < ORDER_ONE[1] for value in found))


@reading(least=6, smaller=False, part="gap")
def trace_bounds_the_error(rows: list[Json], config: Json) -> str:
    """Theorem 3 without its polynomial, which would empty it: is error n / (Tr G)^2 below 1, and not rising in n?

    In part at best: networks that were trained are no proof, and what the display says is weaker.
    """
    shares = [row | {"share": row["error"] * row["n"] / row["trace"] ** 2} for row in rows]
    rises = direction(shares, number("share"), "n", ("inputs", "scale", "seed")) == "rises"
    return graded(False, every(row["share"] < 1 for row in shares) and not rises)


def concordance(one: Iterable[float], other: Iterable[float]) -> float:
    """Concordant less discordant pairs over all pairs."""
    pairs = list(combinations(zip(one, other, strict=True), 2))
    return fmean(float(np.sign(a - b) * np.sign(c - d)) for (a, c), (b, d) in pairs)


def along(rows: list[Json], measure: str, gap: str, axis: str) -> list[float]:
    """Rank correlation of a measure with a gap in each group of networks that differ in one setting alone."""
    groups: dict[tuple[float, ...], list[Json]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in (*AXES, "seed") if key != axis), []).append(row)
    return [
        concordance([row[measure] for row in group], [row[gap] for row in group])
        for group in groups.values()
        if len(group) > 1
    ]


def granulated(rows: list[Json], measure: str, gap: str, axes: tuple[str, ...] = AXES) -> tuple[float, float]:
    """Interval of the mean over settings of the mean over groups of the rank correlation: groups are drawn anew.

    Raises:
        TooFew: if a setting has fewer than two groups.
    """
    found = [along(rows, measure, gap, axis) for axis in axes]
    if min(map(len, found)) < 2:
        raise TooFew("too few networks that differ in one setting alone")
    rng = np.random.default_rng(0)
    means = [fmean(float(rng.choice(one, len(one)).mean()) for one in found) for _ in range(DRAWS)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


@reading(least=12)
def endorsed_measures_rank_the_gap(rows: list[Json], config: Json) -> str:
    """The four of the note, one setting at a time, against the gap in errors: three with its sign, size against it."""
    with_it = [granulated(rows, name, "gap01")[0] > 0 for name in ("gradient_variance", "worst_ratio", "path_norm")]
    against = granulated(rows, "size", "gap01", ("width",))[1] < 0
    return graded(all(with_it) and against, any(with_it) or against)


RULES: dict[str, Rule] = {
    "001-table-1": reading(4, model="vgg16")(gmp_gains),
    "001-table-2": reading(4, model="preact-resnet18")(gmp_gains),
    "002-figure-5": shortcuts_smooth,
    "002-figure-8": sam_is_flatter_and_worse,
    "002-table-4-keskar": large_batches_are_sharper_in_subspaces,
    "002-theorem-2-squares": norms_are_of_one_order,
    "002-theorem-3-gap": trace_bounds_the_error,
    "004-keskar-batches": large_batches_are_sharper,
    "004-jiang-measures": endorsed_measures_rank_the_gap,
}
