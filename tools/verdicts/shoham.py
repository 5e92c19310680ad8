"""Rules for source 003, soft rank."""

from collections.abc import Callable

import numpy as np

from helpers.experiments.machinery.artefact import Json

from .common import NOT_RUN, Rule, graded, reading

TRAIN, TEST = "from_train", "from_test"
LAM = 0.01  # at which the chapter compares
LEAST = 30  # networks
DRAWS = 300
STRONG = 0.5  # Kendall's tau, by the lower end of its interval
NORMS = ("trace", "frobenius", "largest_eigenvalue")
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


def bootstrap(statistic: Callable[[np.ndarray], float], n: int) -> tuple[float, float]:
    """Middle 95% of a statistic over resampled networks."""
    rng = np.random.default_rng(0)
    found = [statistic(rng.integers(n, size=n)) for _ in range(DRAWS)]
    low, high = np.nanquantile(found, [0.025, 0.975])
    return float(low), float(high)


def levels(rows: list[Json]) -> np.ndarray:
    """Shares of random labels; gaps of different levels differ by the level alone, so pairs are compared within one."""
    return np.array([row["noise"] for row in rows])


def tau_within(values: np.ndarray, target: np.ndarray, groups: np.ndarray) -> float:
    """Kendall's rank correlation, tau-b, over pairs of one group only: concordant less discordant over untied pairs."""
    pairs = ties = 0.0
    for group in np.unique(groups):
        one, other = (np.sign(x[groups == group][:, None] - x[groups == group]) for x in (values, target))
        pairs += float((one * other).sum())
        ties += float(np.sqrt(np.square(one).sum() * np.square(other).sum()))
    return pairs / ties if ties else float("nan")


def relation(values: np.ndarray, target: np.ndarray, rows: list[Json]) -> tuple[float, float]:
    """Bootstrap interval of tau of two numbers of networks, within levels of label noise."""
    groups = levels(rows)
    return bootstrap(lambda pick: tau_within(values[pick], target[pick], groups[pick]), len(rows))


def order(values: np.ndarray, rows: list[Json]) -> tuple[float, float]:
    """Bootstrap interval of tau with the gap, within levels of label noise."""
    return relation(values, gaps(rows), rows)


def lead(one: np.ndarray, other: np.ndarray, rows: list[Json]) -> tuple[float, float]:
    """Bootstrap interval of tau of one measure less that of another, on the same resampled networks."""
    target, groups = gaps(rows), levels(rows)

    def difference(pick: np.ndarray) -> float:
        return tau_within(one[pick], target[pick], groups[pick]) - tau_within(other[pick], target[pick], groups[pick])

    return bootstrap(difference, len(rows))


def product(rows: list[Json], config: Json, source: str) -> np.ndarray:
    """(Tr C / Tr F) rank_lambda(F): the estimator into which the source takes the gap apart."""
    return np.asarray(measure(rows, config, "trace_ratio", source) * measure(rows, config, "soft_rank", source))


def off_by(rows: list[Json], config: Json, name: str, source: str = TRAIN) -> float:
    """Median of the predicted over the measured gap."""
    return off(measure(rows, config, name, source), rows, config)


def off(values: np.ndarray, rows: list[Json], config: Json) -> float:
    """Median of values over n over the measured gap."""
    return float(np.median(values / config["n"] / gaps(rows)))


def right(ratio: float) -> bool:
    """Within a quarter of what it predicts."""
    return 0.8 < ratio < 1.25


@reading(LEAST)
def soft_rank_is_the_gap_if_calibrated(rows: list[Json], config: Json) -> str:
    """Soft rank over n against the gap of calibrated networks: its median ratio, and its order."""
    here = calibrated(rows)
    if len(here) < 10:
        return NOT_RUN
    ordered = order(measure(here, config, "soft_rank"), here)[0] > 0
    return graded(ordered and right(off_by(here, config, "soft_rank")), ordered)


@reading(LEAST)
def tic_follows_the_gap(rows: list[Json], config: Json) -> str:
    """Takeuchi's criterion from test and from training data against the gap: the order, and the median ratio."""
    seen, unseen = (order(measure(rows, config, "tic", source), rows)[0] for source in (TRAIN, TEST))
    return graded(min(seen, unseen) > STRONG and right(off_by(rows, config, "tic", TEST)), unseen > STRONG)


@reading(LEAST)
def product_follows_the_gap(rows: list[Json], config: Json) -> str:
    """Trace ratio times soft rank from test data: a strong order, and a size right to a factor of two."""
    values = product(rows, config, TEST)
    ordered = order(values, rows)[0] > STRONG
    return graded(ordered and 0.5 < off(values, rows, config) < 2, ordered)


@reading(LEAST)
def estimators_from_test_data(rows: list[Json], config: Json) -> str:
    """Figure 1: criterion and product from test data follow the gap, and the trace ratio is far from it in size."""
    values = (measure(rows, config, "tic", TEST), product(rows, config, TEST))
    tic, ours = (order(one, rows)[0] > STRONG and 0.4 < off(one, rows, config) < 2.5 for one in values)
    far = off_by(rows, config, "trace_ratio", TEST) < 0.1
    return graded(tic and ours and far, far and (tic or ours))


@reading(LEAST)
def trace_ratio_is_poor_and_soft_rank_strong(rows: list[Json], config: Json) -> str:
    """Figure 2, from training data: the trace ratio has no order to speak of, and the soft rank a strong one."""
    poor = order(measure(rows, config, "trace_ratio"), rows)[1] < STRONG
    strong = order(measure(rows, config, "soft_rank"), rows)[0] > STRONG
    return graded(poor and strong, poor or strong)


@reading(LEAST)
def approximations_are_ordered(rows: list[Json], config: Json) -> str:
    """Figure 3: the trace ratio far below the gap, the diagonal clearly above it, KFAC above it by less.

    Clearly above is so of nine networks of ten. In part, if the order is right: exact rank, KFAC, diagonal.
    """
    exact, kfac, diagonal = (measure(rows, config, name) for name in ("soft_rank", "kfac", "diagonal"))
    ordered = 1 < float(np.median(kfac / exact)) < float(np.median(diagonal / exact))
    above = float(np.mean(diagonal / config["n"] > gaps(rows))) > 0.9 and off(kfac, rows, config) > 1
    far = off_by(rows, config, "trace_ratio") < 0.1
    return graded(ordered and above and far, ordered)


@reading(LEAST)
def soft_rank_orders_best(rows: list[Json], config: Json) -> str:
    """Figure 4, from training data: at some lambda the soft rank orders the gaps, and clearly better than the trace."""
    trace = measure(rows, config, "trace")
    values = [measure(rows, config, "soft_rank", lam=lam) for lam in config["lambdas"]]
    ordered = [order(one, rows)[0] > 0 for one in values]
    ahead = [lead(one, trace, rows)[0] > 0 for one in values]
    return graded(any(map(all, zip(ordered, ahead, strict=True))), any(ordered))


@reading(LEAST)
def flatter_networks_have_smaller_gaps(rows: list[Json], config: Json) -> str:
    """Trace and largest eigenvalue at the minima against the gap: both order it, from training data.

    In part, if both do with the Hessian of test data, which is not the one at whose minimum a network is.
    """
    seen, unseen = (
        [order(measure(rows, config, name, source), rows)[0] > 0 for name in ("trace", "largest_eigenvalue")]
        for source in (TRAIN, TEST)
    )
    return graded(all(seen), all(unseen) or any(seen))


@reading(LEAST)
def soft_rank_outperforms_norms(rows: list[Json], config: Json) -> str:
    """The soft rank from training data orders the gaps, and clearly better than each norm of the Hessian."""
    rank = measure(rows, config, "soft_rank")
    ordered = order(rank, rows)[0] > 0
    ahead = [lead(rank, measure(rows, config, name), rows)[0] > 0 for name in NORMS]
    return graded(ordered and all(ahead), ordered or any(ahead))


@reading(LEAST)
def rank_comes_from_training_data(rows: list[Json], config: Json) -> str:
    """Networks that are not over-confident: is the gap predicted from training data; in part, is the rank itself?"""
    here = [row for row in rows if row[TEST]["trace_ratio"] < CALIBRATED[1]]
    if len(here) < 10:
        return NOT_RUN
    seen, unseen = (measure(here, config, "soft_rank", source) for source in (TRAIN, TEST))
    same = right(float(np.median(seen / unseen)))
    predicts = order(seen, here)[0] > 0 and right(off(seen, here, config))
    return graded(same and predicts, same)


@reading(LEAST)
def confidence_decides(rows: list[Json], config: Json) -> str:
    """Figure 5, left: the soft rank is nearest to the gap for calibrated networks, and its miss falls with the ratio.

    Right: how far it is off falls with the trace ratio on training data, which is small where a network over-fits.
    Both within levels of label noise.
    """
    seen, unseen = (measure(rows, config, "trace_ratio", source) for source in (TRAIN, TEST))
    miss = measure(rows, config, "soft_rank") / config["n"] / gaps(rows)
    distance = np.abs(np.log(miss))
    near = (unseen > CALIBRATED[0]) & (unseen < CALIBRATED[1])
    nearest = bool(near.any() and not near.all() and np.median(distance[near]) < np.median(distance[~near]))
    falls, degrades = relation(miss, unseen, rows)[1] < 0, relation(distance, seen, rows)[1] < 0
    return graded(falls and nearest and degrades, (falls and nearest) or degrades)


RULES: dict[str, Rule] = {
    "003-result-calibrated": soft_rank_is_the_gap_if_calibrated,
    "003-result-tic": tic_follows_the_gap,
    "003-figure-1": estimators_from_test_data,
    "003-figure-2": trace_ratio_is_poor_and_soft_rank_strong,
    "003-figure-3": approximations_are_ordered,
    "003-figure-4": soft_rank_orders_best,
    "003-figure-5": confidence_decides,
    "003-product": product_follows_the_gap,
    "003-training-estimate": rank_comes_from_training_data,
    "003-flat-generalizes": flatter_networks_have_smaller_gaps,
    "003-outperforms": soft_rank_outperforms_norms,
}
