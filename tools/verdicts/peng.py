"""Rules for source 000, the summary of Peng et al."""

from math import log

from helpers.experiments.machinery.artefact import Artefact, Json

from .common import (
    CLEAR,
    NOT_RUN,
    PARTLY,
    REPRODUCED,
    Rule,
    agreement,
    direction,
    finished,
    graded,
    number,
    opposite,
    reading,
)

AXES = {"batch_size": ("lr", "seed"), "lr": ("batch_size", "seed")}
ONE_SEED = 9  # rows of the grid for one seed in one regime: three batch sizes times three learning rates
FIXED = "fixed epochs"


def smallest(row: Json) -> Json:
    """The entry of the path of lambda with the smallest bound."""
    return min(row["omniscient"], key=lambda entry: float(entry["value"]))


def informed(row: Json) -> float:
    """The bound at the smallest lambda, where it is least a hold-out estimate."""
    return float(row["omniscient"][0]["value"])


def held_out(row: Json) -> float:
    """The bound at the largest lambda, where it is most a hold-out estimate."""
    return float(row["omniscient"][-1]["value"])


@reading(least=3)
def tight_but_isotropic_bounds_are_not(rows: list[Json], config: Json) -> str:
    """The smallest bound along lambda against the isotropic ones, the gap, and its own hold-out share.

    Reproduced if it is below the isotropic bounds in every row and within a quarter of the gap on average, partly if
    more than half of it is hold-out estimate.
    """
    beats = all(smallest(row)["value"] < min(row["wang_mao_eq3"]["value"], row["terminal"]["value"]) for row in rows)
    close = sum(smallest(row)["value"] / row["gap"] for row in rows) / len(rows) < 1.25
    read_off = all(smallest(row)["holdout_share"] > 0.5 for row in rows)
    return graded(beats and close and not read_off, beats and close)


@reading(least=ONE_SEED, regime=FIXED)
def follows_the_gap(rows: list[Json], config: Json) -> str:
    """Directions of the bound at the smallest lambda and of the gap, along batch size and learning rate."""
    return agreement(
        [
            (direction(rows, informed, axis, within), direction(rows, number("gap"), axis, within))
            for axis, within in AXES.items()
        ]
    )


@reading(least=ONE_SEED, regime=FIXED)
def a_wrong_trend_means_a_wrong_lambda(rows: list[Json], config: Json) -> str:
    """Wherever the bound at the smallest lambda has a trend against the gap: does the largest lambda set it right?"""
    cures = []
    for axis, within in AXES.items():
        small, large, truth = (direction(rows, q, axis, within) for q in (informed, held_out, number("gap")))
        if truth in CLEAR and small == opposite(truth):
            cures.append((large, truth))
    return agreement(cures)


@reading(least=3)
def certificates_are_useful(rows: list[Json], config: Json) -> str:
    """The certificate without held-out data against the loss of a uniform guess over ten classes."""
    useful = [min(entry["certificate"] for entry in row["self_certified"]) < log(10) for row in rows]
    return graded(all(useful), True)


@reading(least=ONE_SEED, regime=FIXED)
def misses_the_learning_rate(rows: list[Json], config: Json) -> str:
    """Open question 2 says that the bound moves against the gap along the learning rate: does it?"""
    bound, truth = (direction(rows, q, "lr", AXES["lr"]) for q in (informed, number("gap")))
    if truth not in CLEAR or bound == NOT_RUN:
        return NOT_RUN
    return graded(bound == opposite(truth), False)


def every_share_was_run(artefact: Artefact) -> str:
    """Next check 1 is done when each held-out share has a finished row; in part at smaller sizes."""
    shares = {row["share"] for row in finished(artefact)}
    if not set(artefact.config["shares"]) <= shares:
        return NOT_RUN
    return REPRODUCED if artefact.profile == "paper" else PARTLY


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
    "000-check-1": every_share_was_run,
}
