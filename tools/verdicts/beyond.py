"""Rules for statements from beyond the five sources: experiments on supersamples and on Langevin dynamics."""

from collections import defaultdict
from math import sqrt
from statistics import fmean

import torch

from helpers import langevin
from helpers.experiments.machinery.artefact import Json
from helpers.langevin.certificates import standard_error

from .common import Rule, TooFew, every, graded, reading

SEEDS = 5
GUESS = 0.9  # error of a uniform guess among ten classes
R = 0.5
ROUNDING = 1e-12  # networks without training error have equal members


def certificates(rows: list[Json], n: int) -> dict[tuple[float, int], tuple[float, float, float]]:
    """For every temperature and length: mean training error, bound on the gap, and its jackknife error over seeds."""
    looks: dict[tuple[float, int], list[Json]] = defaultdict(list)
    for row in rows:
        for look in row["looks"]:
            looks[row["beta"], look["steps"]].append(look)
    found = {}

    def bound(incoherence: torch.Tensor) -> float:
        return langevin.leave_one_out(langevin.expected(incoherence), n=n, R=R)

    for key, seen in looks.items():
        if len(seen) < SEEDS:
            raise TooFew(f"{len(seen)} seeds at {key}")
        recorded = torch.tensor([look["incoherence"] for look in seen], dtype=torch.float64)[:, None]
        found[key] = (fmean(look["train_error"] for look in seen), bound(recorded), standard_error(bound, recorded))
    return found


@reading(SEEDS, kind="full batch")
def a_certificate_is_not_vacuous(rows: list[Json], config: Json) -> str:
    """Some temperature and length certify less than a uniform guess, by two standard errors; partly, less than 1."""
    best = min(own + gap + 2 * error for own, gap, error in certificates(rows, config["n"]).values())
    return graded(best < GUESS, best < 1)


@reading(SEEDS, kind="paired")
def the_posterior_saves_nats(rows: list[Json], config: Json) -> str:
    """The running posterior's sum is below the blind one in every walk; the whole claim is a smaller *bound*."""
    saves = every(row["information"] < row["blind"] for row in rows)
    smaller = every(2 * R * sqrt(2 * row["information"]) < R / row["n"] * sqrt(row["incoherence"]) for row in rows)
    return graded(saves and smaller, saves)


@reading(3)
def members_are_in_order_and_above_the_gap(rows: list[Json], config: Json) -> str:
    """On every supersample: informations fall from predictions to differences, and the last bound is above the gap."""
    nats = [[member["information"] for member in row["members"]] for row in rows]
    ordered = every(a >= b - ROUNDING and b >= c - ROUNDING for a, b, c in nats)
    above = every(row["members"][2]["bound"] >= row["gap"] for row in rows)
    return graded(ordered and above, above)


RULES: dict[str, Rule] = {
    "beyond-certificate": a_certificate_is_not_vacuous,
    "beyond-posterior": the_posterior_saves_nats,
    "beyond-members-measured": members_are_in_order_and_above_the_gap,
}
