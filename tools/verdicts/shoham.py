"""Rules for source 003, soft rank."""

from collections.abc import Callable

import numpy as np

from helpers.experiments.machinery.artefact import Json

from .common import NOT_RUN, Rule, graded, reading

TRAIN, TEST = "from_train", "from_test"
LAM = 0.01  # at which the chapter compares
LEAST = 30  # networks
DRAWS = 300
CALIBRATED = (0.8, 1.25)  # of the trace ratio on test data


def measure(rows: list[Json], config: Json, name: str, source: str = TRAIN, lam: float = LAM) -> np.ndarray:
    """One measure of every network, at one lambda if it depends on it."""
    at = config["lambdas"].index(lam)
    values = [row[source][name] for row in rows]
    return np.array([value[at] if isinstance(value, list) else value for value in values])


def gaps(rows: list[Json]) -> np.ndarray:
    """Cross-entropy gaps."""
    return np.array([row["gap"] for row in rows])


def calibrated(rows: list[Json]) -> list[Json]:
    """Networks with a trace ratio on test data near 1."""
    return [row for row in rows if CALIBRATED[0] < row[TEST]["trace_ratio"] < CALIBRATED[1]]


def tau(values: np.ndarray, target: np.ndarray) -> float:
    """Kendall's rank correlation, tau-b: concordant less discordant pairs over those that are not tied."""
    one, other = (np.sign(x[:, None] - x) for x in (values, target))
    pairs = np.sqrt(np.square(one).sum() * np.square(other).sum())
    return float((one * other).sum() / pairs) if pairs else float("nan")


def bootstrap(statistic: Callable[[np.ndarray], float], n: int) -> tuple[float, float]:
    """Middle 95% of a statistic over resampled networks."""
    rng = np.random.default_rng(0)
    found = [statistic(rng.integers(n, size=n)) for _ in range(DRAWS)]
    low, high = np.nanquantile(found, [0.025, 0.975])
    return float(low), float(high)


def order(values: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """Bootstrap interval of tau."""
    return bootstrap(lambda pick: tau(values[pick], target[pick]), len(target))


def lead(one: np.ndarray, other: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """Bootstrap interval of tau of one measure less that of another, on the same resampled networks."""
    return bootstrap(lambda pick: tau(one[pick], target[pick]) - tau(other[pick], target[pick]), len(target))


def off_by(rows: list[Json], config: Json, name: str, source: str = TRAIN) -> float:
    """Median of the predicted over the measured gap."""
    return float(np.median(measure(rows, config, name, source) / config["n"] / gaps(rows)))


def right(ratio: float) -> bool:
    """Within a quarter of what it predicts."""
    return 0.8 < ratio < 1.25


@reading(LEAST)
def soft_rank_is_the_gap_if_calibrated(rows: list[Json], config: Json) -> str:
    """Soft rank over n against the gap of calibrated networks: its median ratio, and its order."""
    here = calibrated(rows)
    if len(here) < 10:
        return NOT_RUN
    ordered = order(measure(here, config, "soft_rank"), gaps(here))[0] > 0
    return graded(ordered and right(off_by(here, config, "soft_rank")), ordered)


@reading(LEAST)
def tic_follows_the_gap(rows: list[Json], config: Json) -> str:
    """Takeuchi's criterion from test and from training data against the gap: the order, and the median ratio."""
    seen, unseen = (order(measure(rows, config, "tic", source), gaps(rows))[0] for source in (TRAIN, TEST))
    return graded(min(seen, unseen) > 0.5 and right(off_by(rows, config, "tic", TEST)), unseen > 0.5)


@reading(LEAST)
def estimators_from_test_data(rows: list[Json], config: Json) -> str:
    """Figure 1: criterion and soft rank from test data follow the gap, and the trace ratio is far from it in size."""
    tic, rank = (order(measure(rows, config, name, TEST), gaps(rows))[0] > 0.5 for name in ("tic", "soft_rank"))
    far = off_by(rows, config, "trace_ratio", TEST) < 0.1
    return graded(tic and rank and far, tic and far)


@reading(LEAST)
def trace_ratio_is_poor_and_soft_rank_strong(rows: list[Json], config: Json) -> str:
    """Figure 2, from training data: the trace ratio may have no order at all; tau of the soft rank is above 0.7."""
    low, high = order(measure(rows, config, "trace_ratio"), gaps(rows))
    rank = order(measure(rows, config, "soft_rank"), gaps(rows))[0]
    poor = low < 0.2 and high < 0.5
    return graded(poor and rank > 0.7, poor and rank > 0)


@reading(LEAST)
def approximations_are_ordered(rows: list[Json], config: Json) -> str:
    """Figure 3: exact rank below KFAC below diagonal in the median, and the trace ratio far below the gap."""
    exact, kfac, diagonal = (measure(rows, config, name) for name in ("soft_rank", "kfac", "diagonal"))
    ordered = 1 < float(np.median(kfac / exact)) < float(np.median(diagonal / exact))
    far = off_by(rows, config, "trace_ratio") < 0.1
    return graded(ordered and far, ordered)


@reading(LEAST)
def soft_rank_orders_best(rows: list[Json], config: Json) -> str:
    """Figure 4: tau of the soft rank less that of the plain trace, from training data, at every lambda.

    Reproduced if it is clearly ahead somewhere, not reproduced if it never is and is clearly behind somewhere.
    """
    gap, trace = gaps(rows), measure(rows, config, "trace")
    leads = [lead(measure(rows, config, "soft_rank", lam=lam), trace, gap) for lam in config["lambdas"]]
    ahead, behind = any(low > 0 for low, _ in leads), any(high < 0 for _, high in leads)
    return graded(ahead, ahead) if ahead or behind else NOT_RUN


@reading(LEAST)
def confidence_decides(rows: list[Json], config: Json) -> str:
    """Figure 5: predicted over measured gap falls with over-confidence, and is nearest to 1 for calibrated networks."""
    ratio = measure(rows, config, "trace_ratio", TEST)
    miss = measure(rows, config, "soft_rank") / config["n"] / gaps(rows)
    falls = order(miss, ratio)[1] < 0
    near = (ratio > CALIBRATED[0]) & (ratio < CALIBRATED[1])
    distance = np.abs(np.log(miss))
    nearest = bool(near.any() and not near.all() and np.median(distance[near]) < np.median(distance[~near]))
    return graded(falls and nearest, falls or nearest)


RULES: dict[str, Rule] = {
    "003-result-calibrated": soft_rank_is_the_gap_if_calibrated,
    "003-result-tic": tic_follows_the_gap,
    "003-figure-1": estimators_from_test_data,
    "003-figure-2": trace_ratio_is_poor_and_soft_rank_strong,
    "003-figure-3": approximations_are_ordered,
    "003-figure-4": soft_rank_orders_best,
    "003-figure-5": confidence_decides,
}
