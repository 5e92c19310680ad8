"""A number with its uncertainty, and how well the uncertainty is known itself.

The mean of m samples has the standard error s / sqrt(m), with s their standard deviation. Of few samples s is known
poorly: value +- standard error then covers less than the 68.3% that it does of a normal distribution, namely 50% after
two samples, 58% after three, 61% after four. Student's t with m - 1 degrees of freedom says by how much the error must
be widened to cover them all the same (``Estimate.uncertainty``): 1.84-fold, 1.32-fold and 1.20-fold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isinf

from scipy.special import ndtr, ndtri, stdtrit
from torch import Tensor

ONE_SIGMA = float(ndtr(1.0))  # share of a normal distribution below one standard deviation


@dataclass(frozen=True)
class Estimate:
    """A number with its uncertainty.

    Attributes:
        value: the estimate.
        standard_error: of the value; 0.0 where nothing was sampled.
        probes: number of random probes (or of runs averaged over).
        method: how it was computed, e.g. "exact", "gauss-newton", "hutchinson".
        reason: why ``method="auto"`` chose that method; empty where it was asked for.
        freedom: degrees of freedom of the standard error, which is itself estimated; infinite where it is not.
    """

    value: float
    standard_error: float
    probes: int
    method: str
    reason: str = ""
    freedom: float = inf

    @classmethod
    def mean(cls, samples: Tensor, method: str) -> "Estimate":
        """The mean of independent samples (m,), m >= 2."""
        m = len(samples)
        return cls(samples.mean().item(), samples.std().item() / m**0.5, m, method, freedom=m - 1.0)

    @property
    def uncertainty(self) -> float:
        """What is shown behind the +-: the standard error, widened where few samples stand behind it."""
        return self.standard_error * widening(self.freedom, ONE_SIGMA)


def widening(freedom: float, probability: float) -> float:
    """Ratio of the quantiles of Student's t and the normal distribution; 1 for infinitely many degrees of freedom."""
    return 1.0 if isinf(freedom) else float(stdtrit(freedom, probability) / ndtri(probability))


def pooled_freedom(variances: Sequence[float], freedoms: Sequence[float]) -> float:
    """Degrees of freedom of a sum of independent variances, each with its own (Satterthwaite)."""
    spread = sum(variance**2 / freedom for variance, freedom in zip(variances, freedoms, strict=True))
    return sum(variances) ** 2 / spread if spread else inf
