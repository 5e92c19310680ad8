"""Rules for source 002, Wu's lecture slides, and for the rows of the history note on the same experiments."""

from itertools import combinations

import numpy as np
from scipy.stats import spearmanr

from helpers.experiments.machinery.artefact import Json
from helpers.experiments.trends import trend

from .common import (
    CLEAR,
    NOT_RUN,
    REPRODUCED,
    SOURCE_WRONG,
    Quantity,
    Rule,
    TooFew,
    agreement,
    direction,
    every,
    graded,
    number,
    reading,
)

EDGE, SELECTION, WIDTH = "edge", "selection", "width"
STABLE = 1 + 1e-6  # growth of the second moment, up to rounding
BOUNDED = 0.1  # a mu below this counts as vanishing
LEVEL = 0.1  # a slope over the size within this of zero: less than twofold over a thousandfold
MINIMA = 6
LEAVES = 1.05  # growth of the mean loss a step, above which paths are said to leave
SIZES = ("lr", "seed")  # runs that share these differ in the number of weights d
SETTLED = 10  # looks at the end of a descent over which its sharpness is averaged


def column(rows: list[Json], key: str) -> np.ndarray:
    """One number of every row."""
    return np.array([row[key] for row in rows])


def over_the_edge(row: Json) -> float:
    """Sharpness at the end of a descent, in units of 2 / lr."""
    return float(np.mean(row["sharpness"][-SETTLED:]) * row["lr"] / 2)


def settings_at_the_edge(rows: list[Json]) -> list[bool]:
    """For each data set and learning rate: is the mean sharpness over seeds within a tenth of 2 / lr?"""
    groups: dict[tuple[str, float], list[float]] = {}
    for row in rows:
        groups.setdefault((row["dataset"], row["lr"]), []).append(over_the_edge(row))
    return [abs(float(np.mean(ends)) - 1) < 0.1 for ends in groups.values()]


@reading(least=6, part=EDGE)
def sharpness_is_the_edge(rows: list[Json], config: Json) -> str:
    """Table 1: final sharpness against 2 / lr, over data sets and learning rates."""
    close = settings_at_the_edge(rows)
    return graded(all(close), 2 * sum(close) >= len(close))


@reading(least=6, part=EDGE)
def trains_at_the_edge(rows: list[Json], config: Json) -> str:
    """Figure 14: runs that start below the edge climb to it, and their loss falls although steps raise it."""
    below = [row for row in rows if row["sharpness"][0] * row["lr"] / 2 < 0.9]
    climbs = [over_the_edge(row) > min(0.9, row["lr"] * row["sharpness"][0]) for row in below]
    hovers = [abs(over_the_edge(row) - 1) < 0.1 and row["rises"] > 0.01 for row in below]
    falls = all(row["train_loss"] < 0.1 * row["losses"][0] for row in rows)
    return graded(falls and every(climbs) and all(hovers), falls and every(climbs) and any(hovers))


def converged(rows: list[Json]) -> list[Json]:
    """Runs that came to a minimum.

    Raises:
        TooFew: if none did.
    """
    found = [row for row in rows if row["converged"]]
    if not found:
        raise TooFew("no run converged")
    return found


@reading(least=20, part=SELECTION)
def condition_is_not_necessary(rows: list[Json], config: Json) -> str:
    """Stable minima against the two limits of the slides: on the sharpness, and on the non-uniformity."""
    stable = [row for row in converged(rows) if row["growth"] <= STABLE]
    sharp = any(row["gauss_newton_eigenvalue"] > 2 / row["lr"] for row in stable)
    uneven = any(row["non_uniformity"] > row["batch_size"] ** 0.5 / row["lr"] for row in stable)
    return SOURCE_WRONG if sharp or uneven else REPRODUCED


@reading(least=20, part=SELECTION)
def minima_fill_the_region(rows: list[Json], config: Json) -> str:
    """Figure 16: are stable minima inside the half ellipse, and do they shrink with lr and grow with the batch?"""
    here = converged(rows)
    room = [row["batch_size"] * row["gauss_newton_eigenvalue"] * (2 / row["lr"] - row["gauss_newton_eigenvalue"])
            for row in here]  # fmt: skip
    inside = all(
        row["non_uniformity"] ** 2 <= limit
        for row, limit in zip(here, room, strict=True) if row["growth"] <= STABLE
    )  # fmt: skip
    within = ("activation", "seed")
    moves = (
        direction(here, number("non_uniformity"), "lr", (*within, "batch_size")) == "falls"
        and direction(here, number("non_uniformity"), "batch_size", (*within, "lr")) == "rises"
    )
    return graded(inside and moves, moves)


@reading(least=20, part=SELECTION)
def non_uniformity_is_proportional(rows: list[Json], config: Json) -> str:
    """Figure 17, over minima: a strong correlation of the logarithms; and a slope of 1, by its interval."""
    here = converged(rows)
    sharpness, spread = (np.log(column(here, key)) for key in ("gauss_newton_eigenvalue", "non_uniformity"))
    strong = float(np.corrcoef(sharpness, spread)[0, 1]) > 0.9
    low, high = trend(here, number("non_uniformity"), "gauss_newton_eigenvalue").interval
    return graded(strong and low <= 1 <= high, strong)


@reading(least=20, part=SELECTION)
def noise_is_decoupled(rows: list[Json], config: Json) -> str:
    """Looks along training: alpha and beta, which are both 1 if and only if the noise is 2 L G; in part, their product.

    The whole is nine tenths of all looks with both within a tenth of 1; a part is nine tenths with mu between 0.5 and
    2, since mu may be 1 for other noise.
    """
    looks = [look for row in converged(rows) for look in row["path"]]
    exact = [abs(look["alpha"] - 1) < 0.1 and abs(look["beta"] - 1) < 0.1 for look in looks]
    near = [0.5 < look["mu"] < 2 for look in looks]
    return graded(float(np.mean(exact)) > 0.9, float(np.mean(near)) > 0.9)


@reading(least=20, part=SELECTION)
def alignment_is_bounded_below(rows: list[Json], config: Json) -> str:
    """The smallest mu over all displacements: positive, and near the mu that training meets?"""
    here = converged(rows)
    smallest, met = column(here, "mu0"), column(here, "mu")
    positive = bool((smallest > 1e-6).all())
    return graded(positive and float(np.median(smallest / met)) > 0.5, positive)


@reading(least=9, part=WIDTH)
def alignment_is_of_order_one(rows: list[Json], config: Json) -> str:
    """Figure 18: mu along training and at the end, over widths: between 0.5 and 1.5 on average for every width?"""
    ends = {width: [row["mu"] for row in rows if row["width"] == width] for width in {row["width"] for row in rows}}
    near = {width: 0.5 < float(np.mean(values)) < 1.5 for width, values in ends.items()}
    along = float(np.mean([0.5 < look["mu"] < 1.5 for row in rows for look in row["path"]])) > 0.9
    return graded(all(near.values()) and along, near[max(near)])


def over_the_bound(rows: list[Json], key: str) -> np.ndarray:
    """Frobenius norm over the limit of Theorem 3, with mu taken from ``key``."""
    limits = np.array([(row["batch_size"] / row[key]) ** 0.5 / row["lr"] for row in rows])
    return np.array(column(rows, "frobenius") / limits)


@reading(least=20, smaller=False, part=SELECTION)
def no_minimum_breaks_the_frobenius_bound(rows: list[Json], config: Json) -> str:
    """Theorem 3: Frobenius norms of minima against the limit with the smallest mu."""
    return graded(bool((over_the_bound(converged(rows), "mu0") <= 1).all()), False)


@reading(least=20, part=SELECTION)
def tighter_for_small_batches(rows: list[Json], config: Json) -> str:
    """The norm of minima over its bound along the batch size, with the smallest mu and with that of training."""
    here, within = converged(rows), ("activation", "seed", "lr")
    shares = [[row | {"share": x} for row, x in zip(here, over_the_bound(here, key), strict=True)]
              for key in ("mu0", "mu")]  # fmt: skip
    return agreement([(direction(one, number("share"), "batch_size", within), "falls") for one in shares])


def moves_with_the_noise(rows: list[Json], key: str) -> str:
    """Does a number of minima fall with the learning rate and rise with the batch size, both or one?"""
    here, within = converged(rows), ("activation", "seed")
    return agreement(
        [
            (direction(here, number(key), "lr", (*within, "batch_size")), "falls"),
            (direction(here, number(key), "batch_size", (*within, "lr")), "rises"),
        ]
    )


@reading(least=20, part=SELECTION)
def minima_are_uniform(rows: list[Json], config: Json) -> str:
    """Non-uniformity along learning rate and batch size."""
    return moves_with_the_noise(rows, "non_uniformity")


@reading(least=20, part=SELECTION)
def minima_are_flat(rows: list[Json], config: Json) -> str:
    """Frobenius norm along learning rate and batch size."""
    return moves_with_the_noise(rows, "frobenius")


@reading(least=20, part=SELECTION)
def noise_has_size_and_direction(rows: list[Json], config: Json) -> str:
    """Looks along training: cosine alpha above a half, loss-scaled size beta between 0.5 and 2, at nine of ten.

    The two halves of the statement. That both are 1, so that the noise is 2 L G itself, is ``noise_is_decoupled``.
    """
    looks = [look for row in converged(rows) for look in row["path"]]
    direct = float(np.mean([look["alpha"] > 0.5 for look in looks])) > 0.9
    sized = float(np.mean([0.5 < look["beta"] < 2 for look in looks])) > 0.9
    return graded(direct and sized, direct or sized)


@reading(least=6)
def escape_is_fast(rows: list[Json], config: Json) -> str:
    """With the noise of SGD and batches of one: growth of the mean loss by more than a fifth a step, at every seed."""
    growths = [row["measured_growth"] for row in noise(rows, "sgd")]
    return graded(min(growths) > 1.2, max(growths) > 1.2)


def smallest_mu(row: Json) -> float:
    """The least mu over the looks of a run."""
    return float(min(look["mu"] for look in row["path"]))


def over_size(rows: list[Json], quantity: Quantity) -> list[str]:
    """The direction of a number with the number of weights, for each architecture.

    Raises:
        TooFew: if an architecture has too few widths for a direction.
    """
    models = sorted({row["model"] for row in rows})
    found = [direction([row for row in rows if row["model"] == model], quantity, "d", SIZES) for model in models]
    if NOT_RUN in found:
        raise TooFew("an architecture has too few widths")
    return found


@reading(least=12)
def alignment_outlives_width(rows: list[Json], config: Json) -> str:
    """CIFAR-10 figure: is mu above a constant at every look of every run, and does its least not fall with the size?"""
    bounded = every(smallest_mu(row) > BOUNDED for row in rows)
    stays = "falls" not in over_size(rows, smallest_mu)
    return graded(bounded and stays, bounded or stays)


@reading(least=12)
def norm_outlives_size(rows: list[Json], config: Json) -> str:
    """Frobenius norm on CIFAR-10: below its bound with the measured mu, and the same at every size?

    The same is shown of an architecture at a learning rate if the interval of the slope over the number of weights is
    within ``LEVEL`` of zero: an interval that merely holds zero shows nothing. The whole needs it of all, a part of
    one.
    """
    ends = [row | row["path"][-1] | {"batch_size": config["batch_size"]} for row in converged(rows)]
    over_size(ends, number("frobenius"))  # widths enough in every architecture?
    below = bool((over_the_bound(ends, "mu") <= 1).all())
    groups = sorted({(row["model"], row["lr"]) for row in ends})
    level = [is_level([row for row in ends if (row["model"], row["lr"]) == group]) for group in groups]
    return graded(below and all(level), below and any(level))


def is_level(rows: list[Json]) -> bool:
    """Whether the slope of the Frobenius norm over the number of weights is shown to be nearly zero."""
    try:
        low, high = trend(rows, number("frobenius"), "d", within=SIZES).interval
    except ValueError:
        return False
    return low > -LEVEL and high < LEVEL


def noise(rows: list[Json], kind: str, batch_size: int = 1) -> list[Json]:
    """Flights with one kind of noise and one batch size.

    Raises:
        TooFew: if there are none.
    """
    found = [row for row in rows if row["noise"] == kind and row["batch_size"] == batch_size]
    if not found:
        raise TooFew(f"no flights with {kind} noise")
    return found


def rise(row: Json, steps: int = 60) -> float:
    """Largest mean loss of the paths in the first steps, over that at the start."""
    return float(max(row["mean"][:steps]) / row["mean"][0])


@reading(least=6)
def sgd_leaves_within_steps(rows: list[Json], config: Json) -> str:
    """Figure 11: with batches of one the mean loss rises a hundredfold within sixty steps, and the curvature falls."""
    flights = noise(rows, "sgd")
    left = [rise(row) > 100 and row["frobenius_after"] < row["frobenius"] for row in flights]
    return graded(all(left), any(left))


@reading(least=6)
def escape_is_exponential(rows: list[Json], config: Json) -> str:
    """Figure 19: 200 paths grow by more than 1 a step, and follow the exact linear mean while the loss is small."""
    flights = noise(rows, "sgd")
    grows = all(row["measured_growth"] > LEAVES for row in flights)
    follows = all(
        0.5 < found / exact < 2
        for row in flights for found, exact in zip(row["mean"][:5], row["linear"][:5], strict=True)
    )  # fmt: skip
    return graded(grows and follows and config["paths"] >= 200, grows)


@reading(least=9, smaller=False)
def isotropic_noise_stays(rows: list[Json], config: Json) -> str:
    """Batches of one: growth with the noise of SGD and with geometry-aware noise, none with isotropic noise."""
    moves = all(row["measured_growth"] > LEAVES for kind in ("sgd", "geometry") for row in noise(rows, kind))
    stays = all(row["measured_growth"] < 1.01 for row in noise(rows, "isotropic"))
    return graded(moves and stays, stays)


@reading(least=9, smaller=False)
def growth_is_above_the_provable_rate(rows: list[Json], config: Json) -> str:
    """Theorem 4: the exact growth of linearised SGD against gamma_0 with the smallest mu, in every flight."""
    return graded(every(row["linear_growth"] >= row["gamma0"] for row in rows if row["noise"] == "sgd"), False)


@reading(least=9)
def sharper_minima_are_left_faster(rows: list[Json], config: Json) -> str:
    """Over minima, at each batch size, the growth with the noise of SGD against the Frobenius norm: rank correlation 1?

    In part, above a half at some batch size.

    Raises:
        TooFew: if fewer than ``MINIMA`` minima were left.
    """
    flights = [row for row in rows if row["noise"] == "sgd"]
    if len({row["frobenius"] for row in flights}) < MINIMA:
        raise TooFew("too few minima to compare their sharpness")
    ranks = [
        float(spearmanr(column(here, "frobenius"), column(here, "measured_growth")).statistic)
        for size in sorted({row["batch_size"] for row in flights})
        for here in [[row for row in flights if row["batch_size"] == size]]
    ]
    return graded(min(ranks) > 0.9, max(ranks) > 0.5)


def own_alignment(row: Json) -> float:
    """mu of the noise of a flight: as measured for SGD, 1 for 2 L G, (Tr G)^2 / (d |G|_F^2) for isotropic noise."""
    isotropic = row["trace"] ** 2 / (row["d"] * row["frobenius"] ** 2)
    return float({"sgd": row["mu"], "geometry": 1.0, "isotropic": isotropic}[row["noise"]])


@reading(least=9)
def aligned_noise_leaves_faster(rows: list[Json], config: Json) -> str:
    """At one minimum and batch size: does growth rise with mu, over three kinds of noise; in part, over two of them?

    The two are isotropic noise and that of covariance 2 L G, which have the same variance; SGD's has its own. A
    minimum and batch size count if one of the noises leaves at all.
    """
    places: dict[tuple[int, int], dict[str, Json]] = {}
    for row in rows:
        places.setdefault((row["seed"], row["batch_size"]), {})[row["noise"]] = row
    left = [here for here in places.values() if max(row["measured_growth"] for row in here.values()) > LEAVES]
    pairs = {
        kinds: every(
            (own_alignment(here[kinds[0]]) < own_alignment(here[kinds[1]]))
            == (here[kinds[0]]["measured_growth"] < here[kinds[1]]["measured_growth"])
            for here in left
        )
        for kinds in combinations(("isotropic", "geometry", "sgd"), 2)
    }
    return graded(all(pairs.values()), pairs["isotropic", "geometry"])


@reading(least=9)
def escape_follows_an_exponential(rows: list[Json], config: Json) -> str:
    """The noise of SGD, batches of one: growth above ``LEAVES`` a step at every minimum; the whole, where it must be.

    The claim is of minima that are too sharp, which the theorem knows by gamma_0 above 1.
    """
    flights = noise(rows, "sgd")
    grows = [row["measured_growth"] > LEAVES for row in flights]
    too_sharp = [row["gamma0"] > 1 for row in flights]
    return graded(all(grows) and any(too_sharp), any(grows))


@reading(least=20, part=SELECTION)
def ratio_decides(rows: list[Json], config: Json) -> str:
    """Rank correlation of the norm with lr / batch: below -0.9 for every batch size, or for the small ones only?"""
    here = converged(rows)

    def rank(chosen: list[Json], power: int) -> float:
        ratios = column(chosen, "lr") ** power / column(chosen, "batch_size")
        return float(spearmanr(ratios, column(chosen, "frobenius")).statistic)

    everywhere = rank(here, 1) < -0.9 and rank(here, 1) < rank(here, 2)
    return graded(everywhere, rank([row for row in here if row["batch_size"] <= 4], 1) < -0.9)


@reading(least=3, regime="matched loss")
def small_batches_err_less(rows: list[Json], config: Json) -> str:
    """Keskar et al., table 2: does the test error of a ResNet-18 rise with the batch size?

    Each network is trained until an epoch's mean loss is below one level; the losses at the end differ.
    """
    found = direction(rows, number("test_error"), "batch_size", ("lr", "seed"))
    if found not in CLEAR:
        raise TooFew("the interval of the exponent holds zero")
    return graded(found == "rises", False)


RULES: dict[str, Rule] = {
    "002-table-2-keskar": small_batches_err_less,
    "002-figure-11": sgd_leaves_within_steps,
    "002-table-1": sharpness_is_the_edge,
    "002-figure-14": trains_at_the_edge,
    "002-matrix-condition": condition_is_not_necessary,
    "002-figure-16": minima_fill_the_region,
    "002-figure-17": non_uniformity_is_proportional,
    "002-decoupling": noise_is_decoupled,
    "002-mu0": alignment_is_bounded_below,
    "002-figure-18": alignment_is_of_order_one,
    "002-theorem-3-stability": no_minimum_breaks_the_frobenius_bound,
    "002-isotropic-noise": isotropic_noise_stays,
    "002-alignment-cifar": alignment_outlives_width,
    "002-frobenius-cifar": norm_outlives_size,
    "002-theorem-4-escape": growth_is_above_the_provable_rate,
    "002-figure-19": escape_is_exponential,
    "002-tighter-small-batch": tighter_for_small_batches,
    "002-uniform-solutions": minima_are_uniform,
    "002-large-rate-small-batch": minima_are_flat,
    "002-noise-magnitude": noise_has_size_and_direction,
    "002-escape-speed": escape_is_fast,
    "002-sharper-faster": sharper_minima_are_left_faster,
    "002-aligned-faster": aligned_noise_leaves_faster,
    "004-escape": escape_follows_an_exponential,
    "004-jastrzebski": ratio_decides,
}
