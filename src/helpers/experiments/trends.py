"""Which points of a grid may be used, and whether a number rises or falls along a setting: slopes with intervals.

One rule says of a point whether a conclusion may rest on it. Fits, verdicts and figures all ask it; points that it
warns of are drawn hollow, left out of fits, and counted.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import isfinite, log, sqrt

import numpy as np
from scipy.stats import t as student

from helpers._checks import whole
from helpers.experiments.machinery.artefact import Json

MOST_CLIPPED = 0.05  # share of examples at W + Delta; clipped ones have no gradient, so flatness there is destruction
MOST_NOISE = 1.0  # noise over weights; beyond, the Taylor step of the flatness term is not credible
MOST_TRACE_ERROR = 0.5  # standard error of a trace term over the term ...
LEAST_EFFECT = 0.05  # ... unless it moves the bound by less than this share of its value


def warnings(point: Json) -> list[str]:
    """What speaks against a conclusion from one point, in words; none if it may be used.

    Args:
        point: a bound as rows hold it: of ``omniscient`` or ``self_certified``, or an isotropic one with its noise.

    Raises:
        ValueError: if the point does not say how large its noise is: then it is no such bound.
    """
    if "noise_to_weight" not in point:
        raise ValueError(f"a point needs noise_to_weight to be judged, got {', '.join(point) or 'nothing'}")
    reasons = []
    if not _at_most(point["noise_to_weight"], MOST_NOISE):
        reasons.append("noise larger than the weights")
    if "clipped_share" in point and not _at_most(point["clipped_share"], MOST_CLIPPED):
        reasons.append(f"more than {MOST_CLIPPED:.0%} of examples clipped")
    if not point.get("converged", True):
        reasons.append("solve not converged")
    if point.get("negative_curvature", False):
        reasons.append("negative curvature")
    if "trace_error" in point and _trace_matters(point):
        reasons.append("trace error above half the trace term")
    return reasons


def _trace_matters(point: Json) -> bool:
    """Whether the trace is poorly known and that moves the value: at its noise, flatness is proportional to the trace.

    Near the centre the trace term is a difference of two nearly equal numbers, which no number of probes brings out;
    but there the flatness is next to nothing beside the penalty, and the value stands whatever the trace.
    """
    error, term = point["trace_error"], abs(point["trace_term"] or 0)
    if _at_most(error, MOST_TRACE_ERROR * term):
        return False
    if not (error and term and point["flatness"]):
        return True
    return not _at_most(point["flatness"] * error / term, LEAST_EFFECT * point["value"])


def at_credible_noise(point: Json) -> Json:
    """The bound of a row at its best noise, or at noise as large as the weights where the best is larger.

    The theorems hold for every noise; what a large one takes away is the right to a second-order step. From sigma to
    sigma / r, the trajectory term A / sigma grows r-fold and the flatness term B sigma^2 falls by r^2. ``gamma``, which
    was measured at the best noise, is left out of what changed.

    Raises:
        ValueError: as ``warnings`` does, or if the noise is not finite: the row has no best noise then.
    """
    if "noise_to_weight" not in point:
        raise ValueError(f"a point needs noise_to_weight to be judged, got {', '.join(point) or 'nothing'}")
    excess = point["noise_to_weight"]
    if excess is None or not isfinite(excess):
        raise ValueError(
            "the best noise is not finite, so there is no bound to scale; leave the point out and count it"
        )
    if excess <= MOST_NOISE:
        return point
    r = excess / MOST_NOISE
    terms = {"trajectory": point["trajectory"] * r, "flatness": point["flatness"] / r**2}
    information = sum(terms.values())
    value = information + point.get("penalty", 0.0)
    changed = terms | {"sigma": point["sigma"] / r, "noise_to_weight": MOST_NOISE, "value": value}
    if "penalty" in point:
        changed |= {"information": information, "holdout_share": point["penalty"] / value}
    if "certificate" in point:
        changed["certificate"] = point["train_loss"] + value
    return {key: value for key, value in point.items() if not key.startswith("gamma")} | changed


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


def _at_most(value: float | None, limit: float) -> bool:
    """False for a number that was not finite, which artefacts hold as null or NaN."""
    return value is not None and value <= limit


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


def _centred(values: np.ndarray, groups: Sequence[tuple[object, ...]]) -> np.ndarray:
    """The values less the mean of their group."""
    centred = values.astype(float).copy()
    for group in set(groups):
        rows = [i for i, other in enumerate(groups) if other == group]
        centred[rows] -= centred[rows].mean()
    return centred
