"""What the rules share: which rows count, directions with intervals, and how findings make a verdict."""

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from math import sqrt
from statistics import fmean, stdev
from typing import Any

from scipy.stats import t as student

from helpers.experiments.machinery.artefact import Artefact, Json
from helpers.experiments.trends import trend

REPRODUCED, PARTLY, NOT_REPRODUCED = "reproduced", "partly", "not reproduced"
SMALL_SCALE, OTHERWISE = "reproduced at small scale", "otherwise at small scale"
SOURCE_WRONG, NOT_RUN = "source wrong", "not run yet"
AT_SMALL_SCALE = {REPRODUCED: SMALL_SCALE, NOT_REPRODUCED: OTHERWISE}
CLEAR = {"rises", "falls"}

Rule = Callable[[Artefact], str]
Reading = Callable[[list[Json], Json], str]
Quantity = Callable[[Json], float]


class TooFew(ValueError):
    """What a rule needs to compare has not been run; ``reading`` makes "not run yet" of it."""


def finished(artefact: Artefact, **settings: object) -> list[Json]:
    """Rows that did not diverge and have these settings."""
    rows = [row for row in artefact.finished if row.get("status", "ok") == "ok"]
    return [row for row in rows if all(row[key] == value for key, value in settings.items())]


def reading(least: int, *, smaller: bool = True, **settings: object) -> Callable[[Reading], Rule]:
    """Make a rule of a function of rows and config.

    The rule says "not run yet" of fewer than ``least`` finished rows with these settings, and where the function
    raises ``TooFew``.

    Args:
        smaller: the profiles below "paper" are smaller than what the source ran: what is found or not found there is
            found or not at small scale.
    """

    def wrap(read: Reading) -> Rule:
        @wraps(read)
        def rule(artefact: Artefact) -> str:
            rows = finished(artefact, **settings)
            if len(rows) < least:
                return NOT_RUN
            try:
                verdict = read(rows, artefact.config)
            except TooFew:
                return NOT_RUN
            return AT_SMALL_SCALE.get(verdict, verdict) if smaller and artefact.profile != "paper" else verdict

        return rule

    return wrap


def number(*keys: str | int) -> Quantity:
    """The function that reads the number at these keys of a row."""

    def read(row: Json) -> float:
        value: Any = row
        for key in keys:
            value = value[key]
        return float(value)

    return read


def every(findings: Iterable[bool]) -> bool:
    """Whether all are true, of at least one.

    Raises:
        TooFew: if there are none.
    """
    found = list(findings)
    if not found:
        raise TooFew("there is nothing to judge")
    return all(found)


def graded(whole: bool, part: bool) -> str:
    """The verdict on a claim of which the whole was found, or a part, or nothing."""
    return REPRODUCED if whole else PARTLY if part else NOT_REPRODUCED


def direction(rows: Sequence[Json], quantity: Quantity, along: str, within: Sequence[str]) -> str:
    """Of a measured number along a setting: "rises", "falls", "unclear", or "not run yet" for want of rows."""
    try:
        return trend(rows, quantity, along, within=within).direction
    except ValueError:
        return NOT_RUN


def agreement(pairs: Sequence[tuple[str, str]]) -> str:
    """The verdict on numbers that are said to follow others, from pairs of directions (the number's, the other's).

    A pair counts where the other has a clear direction: a number without one was not seen to follow it. If no pair
    counts, or its number could not be measured, the runs are too few to judge.
    """
    follows = [ours == theirs for ours, theirs in pairs if theirs in CLEAR and ours != NOT_RUN]
    if not follows:
        return NOT_RUN
    return graded(all(follows) and len(follows) == len(pairs), any(follows))


def opposite(found: str) -> str:
    """The other clear direction; what is not clear stays as it is."""
    return {"rises": "falls", "falls": "rises"}.get(found, found)


def difference(rows: Sequence[Json], quantity: Quantity, setting: str, one: object, other: object,
               within: Sequence[str] = ("seed",)) -> tuple[float, float]:  # fmt: skip
    """95% interval, by Student's t, of a number with ``setting`` at one value less that at another, in pairs.

    Raises:
        TooFew: if fewer than two pairs share the settings in ``within``.
    """
    found: dict[object, dict[object, float]] = {one: {}, other: {}}
    for row in rows:
        if row[setting] in found:
            found[row[setting]][tuple(row[key] for key in within)] = quantity(row)
    pairs = sorted(found[one].keys() & found[other].keys(), key=str)
    if len(pairs) < 2:
        raise TooFew(f"{len(pairs)} pairs are too few to compare {one} with {other}")
    changes = [found[one][pair] - found[other][pair] for pair in pairs]
    reach = float(student.ppf(0.975, len(changes) - 1)) * stdev(changes) / sqrt(len(changes))
    return fmean(changes) - reach, fmean(changes) + reach
