"""Whether a number rises or falls along a setting, and how sure one can be: slopes of artefact rows with intervals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log, sqrt

import numpy as np
from scipy.stats import t as student

from helpers.experiments.machinery.artefact import Json


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
        reach = float(student.ppf(0.975, self.freedom)) * self.standard_error
        return self.slope - reach, self.slope + reach

    @property
    def direction(self) -> str:
        """ "rises", "falls", or "unclear" where the interval holds zero."""
        low, high = self.interval
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


def _centred(values: np.ndarray, groups: Sequence[tuple[object, ...]]) -> np.ndarray:
    """The values less the mean of their group."""
    centred = values.astype(float).copy()
    for group in set(groups):
        rows = [i for i, own in enumerate(groups) if own == group]
        centred[rows] -= centred[rows].mean()
    return centred
