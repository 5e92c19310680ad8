"""Rules for source 001, Wang and Mao."""

from functools import partial

import numpy as np

from helpers.experiments.machinery.artefact import Json

from .common import (
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
def the_text_s_rule_works_as_well(rows: list[Json], config: Json) -> str:
    """Test accuracy under label noise: what the rule of the main text adds, and if that is as much as Algorithm 1."""
    text, printed = (against_plain(noisy(rows), unseen, rule) for rule in (TEXT, PRINTED))
    return graded(text[0] > 0 and text[1] > printed[0], text[0] > 0)


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


@reading(least=24)
def clipping_closes_the_gap(rows: list[Json], config: Json) -> str:
    """The accuracy gap under label noise, with a given and with a detected start, less that of plain SGD."""
    closes = [against_plain(noisy(rows), accuracy_gap, rule)[1] < 0 for rule in (PRINTED, DETECTED)]
    return graded(all(closes), any(closes))


@reading(least=24)
def clipping_generalizes(rows: list[Json], config: Json) -> str:
    """Test accuracy under label noise, with a given and with a detected start, less that of plain SGD."""
    helps = [against_plain(noisy(rows), unseen, rule)[0] > 0 for rule in (PRINTED, DETECTED)]
    return graded(all(helps), any(helps))


@reading(least=24)
def clipping_gains_nothing_on_clean_data(rows: list[Json], config: Json) -> str:
    """Test accuracy without random labels: no clear gain by Algorithm 1, its start given or detected."""
    gains = [against_plain(clean(rows), unseen, rule)[0] > 0 for rule in (PRINTED, DETECTED)]
    return graded(not any(gains), not all(gains))


@reading(least=6)
def dispersion_descends_twice(rows: list[Json], config: Json) -> str:
    """Dispersion across runs under label noise: a fall before the peak, and one after it."""
    curves = [np.array(row["cross_run"]) for row in noisy(rows)]
    peaks = [int(curve.argmax()) for curve in curves]
    first = every(curve[: peak + 1].min() < 0.7 * curve[0] for curve, peak in zip(curves, peaks, strict=True))
    second = every(curve[-1] < 0.5 * curve[peak] for curve, peak in zip(curves, peaks, strict=True))
    return graded(first and second, first or second)


@reading(least=4)
def bound_follows_gap_over_width(rows: list[Json], config: Json) -> str:
    """Directions of eq. 3 and of the gap over the width, at one training loss."""
    value, gap = (
        direction(rows, quantity, "width", ("seed",)) for quantity in (number("wang_mao_eq3", "value"), number("gap"))
    )
    return agreement([(value, gap)])


@reading(least=4)
def bound_follows_gap_over_noise(rows: list[Json], config: Json) -> str:
    """Directions of eq. 3 and of the gap over the share of true labels, at one training loss."""
    shares = [row | {"true labels": 1 - row["noise"]} for row in rows]
    value, gap = (
        direction(shares, quantity, "true labels", ("seed",))
        for quantity in (number("wang_mao_eq3", "value"), number("gap"))
    )
    return agreement([(value, gap)])


@reading(least=4)
def wide_networks_err_less(rows: list[Json], config: Json) -> str:
    """The test error over the width falls, at one training loss."""
    return agreement([(direction(rows, number("test_error"), "width", ("seed",)), "falls")])


@reading(least=9)
def terms_move_in_opposite_ways(rows: list[Json], config: Json) -> str:
    """Sums of dispersion (A) and of curvature (B) of eq. 3 along learning rate and batch size: opposite directions."""
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


def above(rows: list[Json], config: Json, methods: tuple[str, ...], other: str) -> str:
    """Table 3: the test accuracy of each method less that of another is positive, by its interval."""
    better = [difference(rows, number("test_accuracy"), "method", method, other)[0] > 0 for method in methods]
    return graded(all(better), any(better))


RULES: dict[str, Rule] = {
    "001-main-text-clipping": the_text_s_rule_works_as_well,
    "001-figure-4-level": four_fifths_are_kept,
    "001-clean-memorization": memorizing_true_labels_does_not_hurt,
    "001-small-batch-flat": small_batches_are_flatter,
    "001-gmp-flatter": gmp_is_flatter,
    "001-figure-2": bound_follows_gap_over_width,
    "001-figure-2-noise": bound_follows_gap_over_noise,
    "001-figure-3": dispersion_descends_twice,
    "001-figure-4": clipping_closes_the_gap,
    "001-figure-6": terms_move_in_opposite_ways,
    "001-figure-7": reading(2, smaller=False)(partial(bound_above_gap, network="linear")),
    "001-figure-8": reading(2, smaller=False)(partial(bound_above_gap, network="two-layer ReLU")),
    "001-figure-9": clipping_generalizes,
    "001-table-3": reading(20)(partial(above, methods=("absolute GMP, 3 draws",), other="GMP, 3 draws")),
    "002-sam-success": sam_is_more_accurate,
    "001-clean-clipping": clipping_gains_nothing_on_clean_data,
    "004-neyshabur-width": wide_networks_err_less,
}
