"""Rules for source 001, Wang and Mao."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from helpers.experiments.machinery.artefact import Json
from helpers.experiments.trends import at_credible_noise

from .common import (
    CLEAR,
    NOT_RUN,
    Quantity,
    Rule,
    TooFew,
    agreement,
    difference,
    direction,
    every,
    graded,
    number,
    opposite,
    reading,
)  # fmt: skip

PLAIN, PRINTED, DETECTED, TEXT = "none", "algorithm 1", "algorithm 1, start detected", "main text"
WITHIN = ("seed", "noise")
MARGIN = 0.01  # an accuracy gain below this is none


def unseen(row: Json) -> float:
    """Accuracy on test data with true labels, at the end."""
    return float(row["true_test_accuracy"][-1])


def accuracy_gap(row: Json) -> float:
    """Training less test accuracy, at the end."""
    return float(row["train_accuracy"][-1]) - float(row["test_accuracy"][-1])


def against_plain(rows: list[Json], quantity: Quantity, rule: str) -> tuple[float, float]:
    """Interval of what a clipping rule adds to a number, in pairs of equal seed and noise."""
    return difference(rows, quantity, "rule", rule, PLAIN, WITHIN)


def noisy(rows: list[Json]) -> list[Json]:
    """Rows with random labels."""
    return [row for row in rows if row["noise"] > 0]


def clean(rows: list[Json]) -> list[Json]:
    """Rows without random labels."""
    return [row for row in rows if row["noise"] == 0]


@reading(least=24)
def the_text_s_rule_works(rows: list[Json], config: Json) -> str:
    """Under label noise: is the accuracy gap smaller and the test accuracy higher with the rule of the main text?

    The two halves that ``clipping_works`` asks of Algorithm 1; in part one of them.
    """
    narrows = against_plain(noisy(rows), accuracy_gap, TEXT)[1] < 0
    gains = against_plain(noisy(rows), unseen, TEXT)[0] > 0
    return graded(narrows and gains, narrows or gains)


def half_memorised(row: Json, classes: int = 10) -> float:
    """The first epoch after which half of the wrong labels are fitted, all others being so; infinity if never."""
    wrong = row["noise"] * (1 - 1 / classes)
    fitted = np.flatnonzero(np.array(row["train_accuracy"]) > 1 - wrong / 2)
    return float(fitted[0]) if fitted.size else np.inf


def learns_what_is_true(row: Json, classes: int = 10) -> bool:
    """Whether training accuracy ends at nine tenths of the share of true labels or more."""
    return bool(row["train_accuracy"][-1] > 0.9 * (1 - row["noise"] * (1 - 1 / classes)))


@reading(least=24)
def clipping_delays_memorising(rows: list[Json], config: Json) -> str:
    """Appendix E.5: under label noise half of the wrong labels are fitted later than by plain SGD, in every pair.

    By networks that learn the true labels: one that learns nothing has not slowed memorising. The whole of it with a
    start that is given and one that is detected; in part with either.
    """
    plain = {(row["noise"], row["seed"]): half_memorised(row) for row in noisy(rows) if row["rule"] == PLAIN}
    later = [
        every(
            learns_what_is_true(row) and half_memorised(row) > plain[row["noise"], row["seed"]]
            for row in noisy(rows) if row["rule"] == rule and (row["noise"], row["seed"]) in plain
        )
        for rule in (PRINTED, DETECTED)
    ]  # fmt: skip
    return graded(all(later), any(later))


@reading(least=24)
def four_fifths_are_kept(rows: list[Json], config: Json) -> str:
    """At a fifth of random labels: does test accuracy end within 0.05 of 0.8, and clearly above that of plain SGD?"""
    rows = [row for row in rows if row["noise"] == 0.2]

    def end(row: Json) -> float:
        return float(row["test_accuracy"][-1])

    kept = []
    for rule in (PRINTED, DETECTED):
        ends = [end(row) for row in rows if row["rule"] == rule]
        above = difference(rows, end, "rule", rule, PLAIN)[0] > 0
        kept.append(above and abs(float(np.mean(ends)) - 0.8) < 0.05)
    return graded(all(kept), any(kept))


def lost(row: Json, classes: int = 10) -> float:
    """Share of what was learned of clean test data that is lost by the end: (peak - end) / (peak - guessing)."""
    accuracy = row["true_test_accuracy"]
    return float((max(accuracy) - accuracy[-1]) / (max(accuracy) - 1 / classes))


@reading(least=6)
def memorizing_true_labels_does_not_hurt(rows: list[Json], config: Json) -> str:
    """Appendix E.6: more than a tenth of what was learned is lost with random labels, less without."""
    hurts, spares = every(lost(row) > 0.1 for row in noisy(rows)), every(lost(row) < 0.1 for row in clean(rows))
    return graded(hurts and spares, hurts or spares)


@reading(least=9)
def small_batches_are_flatter(rows: list[Json], config: Json) -> str:
    """The trace over the batch size rises, at one training loss."""
    return agreement([(direction(rows, number("trace"), "batch_size", ("lr", "seed")), "rises")])


@reading(least=9)
def small_rates_take_longer(rows: list[Json], config: Json) -> str:
    """Steps to one training loss over the learning rate: do they fall?"""
    return agreement([(direction(rows, number("steps"), "lr", ("batch_size", "seed")), "falls")])


@reading(least=24)
def clipping_works(rows: list[Json], config: Json) -> str:
    """Figures 4 and 9, under label noise: a smaller accuracy gap and a higher test accuracy than with plain SGD.

    One sentence of the source says both of both figures. The whole of it with a start that is given and one that is
    detected; in part with either.
    """
    works = [
        against_plain(noisy(rows), accuracy_gap, rule)[1] < 0 and against_plain(noisy(rows), unseen, rule)[0] > 0
        for rule in (PRINTED, DETECTED)
    ]
    return graded(all(works), any(works))


@reading(least=24)
def clipping_gains_nothing_on_clean_data(rows: list[Json], config: Json) -> str:
    """Test accuracy without random labels: less than ``MARGIN`` gained by Algorithm 1, its start given or detected?

    Raises:
        TooFew: if no interval is clear of zero or ends below the margin: a gain is then neither seen nor excluded.
    """
    gains = [against_plain(clean(rows), unseen, rule) for rule in (PRINTED, DETECTED)]
    none, some = [high < MARGIN for _, high in gains], [low > 0 for low, high in gains if high >= MARGIN]
    if not all(none) and not any(some):
        raise TooFew("too few seeds to exclude a gain")
    return graded(all(none), any(none))


def phases(row: Json) -> tuple[np.ndarray, int, int]:
    """Dispersion across runs by epoch, its second peak and the valley before it.

    The peak is where dispersion is most above the least that came before, among epochs with half of the largest or
    more; the valley is that least.
    """
    curve = np.array(row["cross_run"])
    rise = np.where(curve < curve.max() / 2, 0, curve / np.minimum.accumulate(curve))
    peak = int(rise.argmax())
    return curve, int(curve[: peak + 1].argmin()), peak


def descends_first(row: Json) -> bool:
    """Whether the valley is below 0.7 of what came before it and of the peak after it."""
    curve, valley, peak = phases(row)
    return bool(curve[valley] < 0.7 * min(curve[: valley + 1].max(), curve[peak]))


def descends_twice(rows: list[Json]) -> str:
    """Dispersion across runs: a fall before the peak, and one after it, in every row; in part one of the two."""
    first = every(descends_first(row) for row in rows)
    second = every(curve[-1] < 0.5 * curve[peak] for curve, _, peak in map(phases, rows))
    return graded(first and second, first or second)


@reading(least=6)
def dispersion_descends_twice(rows: list[Json], config: Json) -> str:
    """Under label noise: double descent at every level and seed."""
    return descends_twice(noisy(rows))


@reading(least=2, noise=0.0)
def clean_dispersion_descends_twice(rows: list[Json], config: Json) -> str:
    """Appendix E.6: double descent without label noise, at every seed."""
    return descends_twice(rows)


def divides(row: Json) -> bool:
    """Whether the valley of the dispersion is where memorisation sets in.

    Test accuracy on true labels is within 0.03 of its best there and falls by more than 0.1 afterwards, and the
    accuracy gap is below a quarter of what it becomes.
    """
    _, valley, _ = phases(row)
    seen, noisy_test, true_test = (row[key] for key in ("train_accuracy", "test_accuracy", "true_test_accuracy"))
    best = max(true_test) - true_test[valley] < 0.03 and true_test[valley] - true_test[-1] > 0.1
    return bool(best and seen[valley] - noisy_test[valley] < (seen[-1] - noisy_test[-1]) / 4)


@reading(least=6)
def valley_is_the_divide(rows: list[Json], config: Json) -> str:
    """Does the valley divide generalization from memorisation, at each level of label noise and every seed?"""
    levels = {row["noise"] for row in noisy(rows)}
    here = [all(descends_first(row) and divides(row) for row in rows if row["noise"] == noise) for noise in levels]
    return graded(every(here), any(here))


@reading(least=3, noise=0.0)
def dispersion_decays_on_clean_data(rows: list[Json], config: Json) -> str:
    """Appendix E.6, without label noise: does dispersion fall a hundredfold, its logarithm along a line?"""
    curves = [np.array(row["cross_run"]) for row in rows]
    falls = every(curve[-1] < 0.01 * curve[0] for curve in curves)
    straight = all(np.corrcoef(np.arange(len(curve)), np.log(curve))[0, 1] ** 2 > 0.9 for curve in curves)
    return graded(falls and straight, falls)


def at_credible(row: Json) -> float:
    """Eq. 3 at its best noise, or at noise as long as the weights where the best is longer.

    Raises:
        TooFew: if the row does not say how long its best noise is.
    """
    if row["wang_mao_eq3"].get("noise_to_weight") is None:
        raise TooFew("eq. 3 does not say how large its noise is")
    return float(at_credible_noise(row["wang_mao_eq3"])["value"])


def eq_3_follows(rows: list[Json], along: str, within: Sequence[str]) -> str:
    """Eq. 3 against the gap, as the source takes it, at the best noise, and at credible noise.

    At its best noise it carries a warning wherever that noise is longer than the weights, so that number alone makes
    no more than a part.
    """
    both = [row | {"credible": at_credible(row)} for row in rows]
    gap = direction(rows, number("gap"), along, within)
    best, credible = (direction(both, q, along, within) for q in (number("wang_mao_eq3", "value"), number("credible")))
    return agreement([(best, gap), (credible, gap)])


@reading(least=4)
def bound_follows_gap_over_width(rows: list[Json], config: Json) -> str:
    """Directions of eq. 3 and of the gap over the width, at one training loss."""
    return eq_3_follows(rows, "width", ("seed",))


@reading(least=4)
def bound_follows_gap_over_noise(rows: list[Json], config: Json) -> str:
    """Directions of eq. 3 and of the gap over the share of true labels, at one training loss."""
    return eq_3_follows([row | {"true labels": 1 - row["noise"]} for row in rows], "true labels", ("seed",))


@reading(least=9)
def small_rates_are_not_favoured(rows: list[Json], config: Json) -> str:
    """Section 3: does the learning rate move flatness against dispersion, and eq. 3 not simply rise with the rate?

    Sums of dispersion (A) and curvature (B) are measured at the weights, without noise, so no warning concerns them;
    eq. 3 is read at credible noise.
    """
    both = [row | {"credible": at_credible(row)} for row in rows]
    names = (number("wang_mao_eq3", "A"), number("wang_mao_eq3", "B"), number("credible"))
    A, B, value = (direction(both, quantity, "lr", ("batch_size", "seed")) for quantity in names)
    if NOT_RUN in (A, B, value):
        return NOT_RUN
    against = A in CLEAR and opposite(A) == B
    return graded(against and value != "rises", against or value != "rises")


@reading(least=4)
def wide_networks_err_less(rows: list[Json], config: Json) -> str:
    """The test error over the width falls, at one training loss."""
    return agreement([(direction(rows, number("test_error"), "width", ("seed",)), "falls")])


@reading(least=9)
def terms_move_in_opposite_ways(rows: list[Json], config: Json) -> str:
    """Sums of dispersion (A) and of curvature (B) of eq. 3 along learning rate and batch size: opposite directions.

    Both are measured at the weights, without noise: no warning of a bound concerns them.
    """
    pairs = []
    for axis, within in {"lr": ("batch_size", "seed"), "batch_size": ("lr", "seed")}.items():
        trajectory, flatness = (direction(rows, number("wang_mao_eq3", key), axis, within) for key in ("A", "B"))
        pairs.append((trajectory, opposite(flatness)))
    return agreement(pairs)


def bound_above_gap(rows: list[Json], config: Json, network: str) -> str:
    """Gap and bound of one network along training: both rise, and the bound is above."""
    pairs = [(np.mean(row["gap"], 0)[1:], np.array(row["bound"])) for row in rows if row["network"] == network]
    above = every(bool((bound > gap).all()) for gap, bound in pairs)
    rise = all(gap[-1] > gap[0] and bound[-1] > bound[0] for gap, bound in pairs)
    return graded(above and rise, above)


@reading(least=6)
def gmp_is_flatter(rows: list[Json], config: Json) -> str:
    """Trace and test accuracy of GMP with three draws less those of ERM: flatter, and more accurate?"""
    trace, accuracy = (
        difference(rows, number(key), "method", "GMP, 3 draws", "ERM") for key in ("trace", "test_accuracy")
    )
    return graded(trace[1] < 0 and accuracy[0] > 0, trace[1] < 0)


@reading(least=6)
def sam_is_more_accurate(rows: list[Json], config: Json) -> str:
    """Trace and test accuracy of SAM less those of ERM; intervals that hold zero say nothing."""
    trace, accuracy = (difference(rows, number(key), "method", "SAM", "ERM") for key in ("trace", "test_accuracy"))
    if unclear(trace) or unclear(accuracy):
        raise TooFew("too few seeds to tell SAM from ERM")
    return graded(trace[1] < 0 and accuracy[0] > 0, trace[1] < 0 or accuracy[0] > 0)


def unclear(interval: tuple[float, float]) -> bool:
    """Whether an interval holds zero."""
    return interval[0] <= 0 <= interval[1]


def above(rows: list[Json], config: Json, method: str, other: str) -> str:
    """Table 3: the test accuracy of a method less that of another; an interval that holds zero says nothing."""
    gain = difference(rows, number("test_accuracy"), "method", method, other)
    if unclear(gain):
        raise TooFew(f"too few seeds to tell {method} from {other}")
    return graded(gain[0] > 0, False)


@reading(least=6)
def more_draws_need_not_help(rows: list[Json], config: Json) -> str:
    """Test accuracy with ten noise draws less that with three: lower, or in part, less than ``MARGIN`` higher?

    Raises:
        TooFew: if the interval holds zero and reaches the margin.
    """
    low, high = difference(rows, number("test_accuracy"), "method", "GMP, 10 draws", "GMP, 3 draws")
    if low <= 0 and high >= MARGIN:
        raise TooFew("too few seeds to exclude a gain")
    return graded(high < 0, high < MARGIN)


RULES: dict[str, Rule] = {
    "001-main-text-clipping-effect": the_text_s_rule_works,
    "001-clipping-slows": clipping_delays_memorising,
    "001-clean-double-descent": clean_dispersion_descends_twice,
    "001-figure-4-level": four_fifths_are_kept,
    "001-clean-memorization": memorizing_true_labels_does_not_hurt,
    "001-small-batch-flat": small_batches_are_flatter,
    "001-small-rates-longer": small_rates_take_longer,
    "001-gmp-flatter": gmp_is_flatter,
    "001-figure-2": bound_follows_gap_over_width,
    "001-figure-2-noise": bound_follows_gap_over_noise,
    "001-figure-3": dispersion_descends_twice,
    "001-figure-3-cifar": dispersion_descends_twice,
    "001-great-divide": valley_is_the_divide,
    "001-clean-decay": dispersion_decays_on_clean_data,
    "001-learning-rate-temptation": small_rates_are_not_favoured,
    "001-figure-4": clipping_works,
    "001-figure-6": terms_move_in_opposite_ways,
    "001-figure-7": reading(2, smaller=False)(partial(bound_above_gap, network="linear")),
    "001-figure-8": reading(2, smaller=False)(partial(bound_above_gap, network="two-layer ReLU")),
    "001-figure-9": clipping_works,
    "001-table-3": reading(20)(partial(above, method="absolute GMP, 3 draws", other="GMP, 3 draws")),
    "001-more-draws": more_draws_need_not_help,
    "002-sam-success": sam_is_more_accurate,
    "001-clean-clipping": clipping_gains_nothing_on_clean_data,
    "004-neyshabur-width": wide_networks_err_less,
}
