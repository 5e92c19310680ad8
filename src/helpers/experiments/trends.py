"""Which points of a grid may be used, and whether a number rises or falls along a setting: slopes with intervals.

One rule says of a point whether a conclusion may rest on it. Fits, verdicts and figures all ask it; points that it
warns of are drawn hollow, left out of fits, and counted.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt

import numpy as np
from scipy.stats import t as student

from helpers._checks import whole
from helpers.experiments.machinery.artefact import Json
from helpers.measurement import at_credible_noise, warnings

__all__ = ["Trend", "at_credible_noise", "tally", "trend", "usable", "warnings"]


def usable(point: Json) -> bool:
    """Whether a conclusion may rest on a point: no warning speaks against it."""
    return not warnings(point)


def tally(points: Iterable[Json]) -> str:
    """How many points may be used of how many, as captions say it, with what speaks against the others."""
    by_point = [warnings(point) for point in points]
    kept = sum(not reasons for reasons in by_point)
    counts = Counter(reason for reasons in by_point for reason in reasons)
    against = "; ".join(f"{count} {reason}" for reason, count in counts.most_common())
    return f"{kept} of {len(by_point)} points carry no warning" + (f" ({against})" if against else "")


@dataclass(frozen=True)
class Trend:
    """The exponent p of ``y ~ x^p``, all else equal.

    Attributes:
        slope, standard_error: p and its standard error by least squares.
        freedom: degrees of freedom that are left for the error.
    """

    slope: float
    standard_error: float
    freedom: int

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval of the slope, by Student's t."""
        return self.interval_among(1)

    @property
    def direction(self) -> str:
        """ "rises", "falls", or "unclear" where the interval holds zero."""
        return self.direction_among(1)

    def interval_among(self, count: int) -> tuple[float, float]:
        """Interval that, with ``count`` of its kind, holds all their slopes with 95% (Bonferroni).

        Raises:
            ValueError: if count is not a positive whole number.
        """
        reach = float(student.ppf(1 - 0.025 / whole("count", count), self.freedom)) * self.standard_error
        return self.slope - reach, self.slope + reach

    def direction_among(self, count: int) -> str:
        """The direction that ``interval_among`` allows to state."""
        low, high = self.interval_among(count)
        return "rises" if low > 0 else "falls" if high < 0 else "unclear"


def trend(rows: Sequence[Json], quantity: Callable[[Json], float], along: str, *, within: Sequence[str] = ()) -> Trend:
    """Least squares of log(quantity) on log(along), with an intercept of its own for each value of ``within``.

    Rows that share the settings in ``within`` (a seed, say, and the learning rate) are compared with one another only.
    The error assumes that what is left over is independent from row to row and of one size.

    Args:
        quantity: a positive number of a row.
        along: key of a positive setting.

    Raises:
        ValueError: if a quantity is not positive, the setting does not vary within any group, or nothing is left to
            estimate the error from.
    """
    values = [quantity(row) for row in rows]
    if not all(value > 0 for value in values):
        raise ValueError(f"a trend in logarithms needs positive numbers, got {min(values, default='no rows')}")
    groups = [tuple(row[key] for key in within) for row in rows]
    x = _centred(np.array([log(row[along]) for row in rows]), groups)
    y = _centred(np.log(values), groups)
    freedom = len(rows) - len(set(groups)) - 1
    spread = float(x @ x)
    if spread < 1e-12 or freedom < 1:
        raise ValueError(f"{len(rows)} rows are too few for a trend along {along} within {', '.join(within) or 'all'}")
    slope = float(x @ y) / spread
    rest = y - slope * x
    return Trend(slope, sqrt(float(rest @ rest) / freedom / spread), freedom)


def levels(rows: Sequence[Json], quantity: Callable[[Json], float], along: str) -> tuple[list[float], list[float]]:
    """The values of a setting, and at each the geometric mean of a quantity over everything else.

    Args:
        quantity: a positive number of a row.
        along: key of the setting.

    Raises:
        ValueError: if a quantity is not positive.
    """
    values = [quantity(row) for row in rows]
    if not all(value > 0 for value in values):
        raise ValueError(f"a geometric mean needs positive numbers, got {min(values)}")
    settings = sorted({row[along] for row in rows})
    logs = [[log(value) for value, row in zip(values, rows, strict=True) if row[along] == x] for x in settings]
    return settings, [exp(sum(group) / len(group)) for group in logs]


def _centred(values: np.ndarray, groups: Sequence[tuple[object, ...]]) -> np.ndarray:
    """The values less the mean of their group."""
    centred = values.astype(float).copy()
    for group in set(groups):
        rows = [i for i, other in enumerate(groups) if other == group]
        centred[rows] -= centred[rows].mean()
    return centred
