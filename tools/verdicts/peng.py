"""Rules for source 000, the summary of Peng et al."""

from itertools import pairwise
from math import inf, log

from helpers.experiments.machinery.artefact import Json
from helpers.experiments.trends import at_credible_noise, usable

from .common import (
    CLEAR,
    NOT_RUN,
    Quantity,
    Rule,
    TooFew,
    agreement,
    direction,
    graded,
    number,
    opposite,
    reading,
)

AXES = {"batch_size": ("lr", "seed"), "lr": ("batch_size", "seed")}
ONE_SEED = 6  # rows of the grid for one seed in one regime: two axes through one point
MOST = 0.75  # share of the rows that must be usable at a lambda, or it is the usable ones that make the trend
FIXED = "fixed epochs"


def credible(point: Json) -> Json:
    """The point at credible noise; as it is where it has no best noise, or does not say how large that is."""
    return dict(at_credible_noise(point)) if (point.get("noise_to_weight") or inf) < inf else point


def conclusive(rows: list[Json]) -> list[Json]:
    """The rows whose networks beat a uniform guess over ten classes, with every bound in them at credible noise.

    Raises:
        TooFew: if that leaves fewer than ``MOST`` of the rows.
    """
    able = [row for row in rows if row["train_loss"] + row["gap"] < log(10)]
    if len(able) < MOST * len(rows):
        raise TooFew(f"only {len(able)} of {len(rows)} rows have networks that are better than a uniform guess")
    return [
        row
        | {key: [credible(point) for point in row[key]] for key in ("omniscient", "self_certified") if key in row}
        | {key: credible(row[key]) for key in ("wang_mao_eq3", "terminal") if row.get(key)}
        for row in able
    ]


def usable_rows(rows: list[Json]) -> list[Json]:
    """The rows with the points of their path that carry no warning (``trends.usable``); rows without any are dropped.

    Raises:
        TooFew: if that leaves fewer than ``MOST`` of the rows.
    """
    kept = [row | {"omniscient": [point for point in row["omniscient"] if usable(point)]} for row in rows]
    kept = [row for row in kept if row["omniscient"]]
    if len(kept) < MOST * len(rows):
        raise TooFew(f"only {len(kept)} of {len(rows)} rows have a point without a warning")
    return kept


def smallest(row: Json) -> Json:
    """The entry of the path of lambda with the smallest bound."""
    return min(row["omniscient"], key=lambda entry: float(entry["value"]))


def at_an_end(rows: list[Json], which: int) -> tuple[list[Json], Quantity]:
    """The rows usable at the smallest (0) or largest (-1) lambda at which most rows are, and the bound there.

    At the smallest the bound is least a hold-out estimate, at the largest most.

    Raises:
        TooFew: if there is no such lambda.
    """
    positions = range(len(rows[0]["omniscient"])) if rows else range(0)
    for i in positions if which == 0 else reversed(positions):
        kept = [row for row in rows if usable(row["omniscient"][i])]
        if len(kept) >= MOST * len(rows):
            return kept, number("omniscient", i, "value")
    raise TooFew("at every lambda a quarter of the points or more carry a warning")


@reading(least=3)
def tight_but_isotropic_bounds_are_not(rows: list[Json], config: Json) -> str:
    """The smallest bound along lambda against the isotropic ones, the gap, and its own hold-out share.

    Reproduced if it is below the isotropic bounds in every row and within a quarter of the gap on average, partly if
    more than half of it is hold-out estimate. All at credible noise; points with a warning do not count.
    """
    rows = usable_rows(conclusive(rows))
    beats = all(smallest(row)["value"] < min(row["wang_mao_eq3"]["value"], row["terminal"]["value"]) for row in rows)
    close = sum(smallest(row)["value"] / row["gap"] for row in rows) / len(rows) < 1.25
    read_off = all(smallest(row)["holdout_share"] > 0.5 for row in rows)
    return graded(beats and close and not read_off, beats and close)


@reading(least=ONE_SEED, regime=FIXED)
def follows_the_gap(rows: list[Json], config: Json) -> str:
    """Directions of the bound at the smallest usable lambda and of the gap, along batch size and learning rate."""
    rows, informed = at_an_end(conclusive(rows), 0)
    return agreement(
        [
            (direction(rows, informed, axis, within), direction(rows, number("gap"), axis, within))
            for axis, within in AXES.items()
        ]
    )


@reading(least=ONE_SEED, regime=FIXED)
def a_wrong_trend_means_a_wrong_lambda(rows: list[Json], config: Json) -> str:
    """Wherever the bound at the smallest usable lambda has a trend against the gap: does the largest set it right?"""
    rows = conclusive(rows)
    (small_rows, informed), (large_rows, held_out) = at_an_end(rows, 0), at_an_end(rows, -1)
    cures = []
    for axis, within in AXES.items():
        truth = direction(rows, number("gap"), axis, within)
        if truth in CLEAR and direction(small_rows, informed, axis, within) == opposite(truth):
            cures.append((direction(large_rows, held_out, axis, within), truth))
    return agreement(cures)


@reading(least=3)
def certificates_are_useful(rows: list[Json], config: Json) -> str:
    """The certificate without held-out data against the loss of a uniform guess over ten classes.

    Only networks that are themselves better than that guess can be certified to be.
    """
    able = conclusive(rows)
    points = [[point for point in row["self_certified"] if usable(point)] for row in able]
    useful = [min(point["certificate"] for point in path) < log(10) for path in points if path]
    if not useful or len(useful) < MOST * len(rows):
        raise TooFew("too few usable certificates of networks that are better than a uniform guess")
    return graded(all(useful), any(useful))


@reading(least=ONE_SEED, regime=FIXED)
def misses_the_learning_rate(rows: list[Json], config: Json) -> str:
    """Open question 2 says that the bound moves against the gap along the learning rate: does it?"""
    rows, informed = at_an_end(conclusive(rows), 0)
    bound, truth = (direction(rows, q, "lr", AXES["lr"]) for q in (informed, number("gap")))
    if truth not in CLEAR or bound == NOT_RUN:
        return NOT_RUN
    return graded(bound == opposite(truth), False)


@reading(least=3)
def more_held_out_data_settle_the_bound(rows: list[Json], config: Json) -> str:
    """Next check 1, at the largest lambda: does the standard error fall from share to share, and the bound stay put?

    The bound stays put if it is within three of its standard errors of the gap at every share. In part if one of the
    two is found, or both with one seed only: then there is no variance over seeds.
    """
    by_seed = [sorted((row for row in rows if row["seed"] == seed), key=lambda row: float(row["share"]))
               for seed in sorted({row["seed"] for row in rows})]  # fmt: skip
    if any([row["share"] for row in path] != sorted(config["shares"]) for path in by_seed):
        raise TooFew("a share was not run")
    if not all(usable(row["omniscient"][-1]) for row in rows):
        raise TooFew("a bound carries a warning")
    errors = [[float(row["omniscient"][-1]["standard_error"]) for row in path] for path in by_seed]
    sharper = all(one > other for path in errors for one, other in pairwise(path))
    settled = all(abs(row["omniscient"][-1]["value"] - row["gap"]) < 3 * row["omniscient"][-1]["standard_error"]
                  for row in rows)  # fmt: skip
    return graded(sharper and settled and len(by_seed) > 1, sharper or settled)


@reading(least=3)
def trends_stay_under_another_cap(rows: list[Json], config: Json) -> str:
    """Next check 2: along batch size or learning rate, is the bound's direction that of the gap at every cap?

    The bound at the largest lambda.

    Raises:
        TooFew: if fewer than two caps have bounds without a warning at two settings of training or more.
    """
    kept = [row for row in rows if usable(row["omniscient"][-1])]
    caps = [[row for row in kept if row["clip"] == cap] for cap in sorted({row["clip"] for row in rows})]
    axis = next((key for key in AXES if len({row.get(key) for row in rows}) > 1), None)
    if axis is None or min(len({row[axis] for row in path}) for path in caps) < 2:
        raise TooFew("a cap has usable bounds at one setting of training only")
    within = tuple(key for key in AXES[axis] if key in rows[0])
    return agreement([
        (direction(path, number("omniscient", -1, "value"), axis, within), direction(path, number("gap"), axis, within))
        for path in caps
    ])  # fmt: skip


@reading(least=ONE_SEED, regime=FIXED)
def larger_batches_generalize(rows: list[Json], config: Json) -> str:
    """Over the batch size, at fixed epochs: do both gaps fall, and with them the test error?"""
    gap, gap01, error = (
        direction(rows, number(key), "batch_size", AXES["batch_size"]) for key in ("gap", "gap01", "test_error")
    )
    if NOT_RUN in (gap, gap01, error):
        return NOT_RUN
    closes = gap == gap01 == "falls"
    return graded(closes and error == "falls", closes or error == "falls")


@reading(least=4, smaller=False)
def convex_rate(rows: list[Json], config: Json) -> str:
    """The bound and the drawn gaps over n: slope -1/2 of both, and agreement within three standard errors.

    In part at best: one construction is no proof for all problems.
    """
    falls = all(direction(rows, number(key), "n", ()) == "falls" for key in ("omniscient", "simulated_gap"))
    first, last = rows[0], rows[-1]
    slope = log(last["omniscient"] / first["omniscient"]) / log(last["n"] / first["n"])
    agrees = all(abs(row["simulated_gap"] - row["gap"]) < 3 * row["simulated_gap_standard_error"] for row in rows)
    return graded(False, falls and agrees and abs(slope + 0.5) < 0.05)


RULES: dict[str, Rule] = {
    "000-result-tight": tight_but_isotropic_bounds_are_not,
    "000-result-trends": follows_the_gap,
    "000-theorem-4": convex_rate,
    "000-failure-trend": a_wrong_trend_means_a_wrong_lambda,
    "000-open-1": certificates_are_useful,
    "000-open-2": misses_the_learning_rate,
    "000-larger-batches": larger_batches_generalize,
    "000-check-1": more_held_out_data_settle_the_bound,
    "000-check-2-trends": trends_stay_under_another_cap,
}
