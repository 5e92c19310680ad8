"""Chapter 13: which side of the gap does the learner fix, and which the optimiser?

Let l(w, z) be convex in w on a convex set, for every z, and let w* minimise the population risk L_mu there. With
excess = E L_mu(W) - L_mu(w*), any learner W has

    gen = excess + L_mu(w*) - E L_S(W).

From above: a subgradient g_z of l(., z) at w* supports the loss, so L_S(W) >= L_S(w*) + <g_S, W - w*>, with g_S the
mean of g_z over the sample. Chosen so that <E g_Z, w - w*> >= 0 on the whole set, as optimality of w* allows, they give

    gen <= excess + sqrt(V E|W - w*|^2 / n),    V = E|g_Z - E g_Z|^2,

whatever W does to the training risk. V is the gradient dispersion at w*, at most L^2 for an L-Lipschitz loss. From
below: if E L_S(W) <= E min L_S + epsilon, then gen >= excess - epsilon, because E min L_S <= L_mu(w*). Without such an
epsilon there is no floor that falls with n: ``WorstCoordinate`` learns to any accuracy and has a gap near -1.

Source: the question is the third open one of Peng et al. (2026); the two sides and the example are this book's.
"""

from dataclasses import dataclass
from math import ceil, expm1, log, log1p, sqrt

import torch
from torch import Tensor

from helpers._checks import non_negative, whole


def ceiling(excess: float, *, dispersion: float, squared_distance: float, n: int) -> float:
    """excess + sqrt(V E|W - w*|^2 / n): the gap of no learner is larger, where the loss is convex.

    It is attained: for l(w, z) = <w, z> with E Z = 0 by every W = -s mean(S).

    Args:
        excess: E L_mu(W) - L_mu(w*).
        dispersion: V = E|g_Z - E g_Z|^2, of subgradients at w* whose mean makes w* optimal; L^2 is always enough.
        squared_distance: E|W - w*|^2; the squared diameter is always enough.
        n: examples in a sample.

    Raises:
        ValueError: if a number is negative or not finite, or n is not a whole number from 1.
    """
    variance = non_negative("dispersion", dispersion) / whole("n", n)
    return non_negative("excess", excess) + sqrt(variance * non_negative("squared_distance", squared_distance))


def floor(excess: float, *, suboptimality: float) -> float:
    """excess - epsilon: the gap of no epsilon-optimiser is smaller, convex or not.

    Args:
        excess: E L_mu(W) - L_mu(w*).
        suboptimality: epsilon = E[L_S(W) - min L_S].

    Raises:
        ValueError: if a number is negative or not finite.
    """
    return non_negative("excess", excess) - non_negative("suboptimality", suboptimality)


@dataclass(frozen=True)
class WorstCoordinate:
    """A learner with a small excess risk and a gap near -1, on a convex, 1-Lipschitz, bounded problem.

    z has d independent coordinates, 1 with probability delta and else 0; l(w, z) = max(0, max_j z_j w_j) on the unit
    ball, with values in [0, 1]. w* = 0 has no risk. The learner looks for a coordinate j that was 1 in the *whole*
    sample and answers with its unit vector e_j, or with 0 where there is none: L_mu(e_j) = delta, L_S(e_j) = 1.

    Attributes:
        n: examples in a sample.
        d: coordinates; they are only counted, so 1e300 of them are no trouble until the learner is run.
        delta: probability that a coordinate is 1, in (0, 1).

    Raises:
        ValueError: if delta is not inside (0, 1), or n or d is not a whole number from 1.
    """

    n: int
    d: int
    delta: float

    def __post_init__(self) -> None:
        whole("n", self.n)
        whole("d", self.d)
        if not 0 < self.delta < 1:
            raise ValueError(f"delta must lie inside (0, 1), got {self.delta}")

    @classmethod
    def wide_enough(cls, n: int, delta: float, *, failure: float = 0.01) -> "WorstCoordinate":
        """The problem with the fewest coordinates in which the learner finds none with probability <= ``failure``.

        Raises:
            ValueError: if n is not a whole number from 1, delta or failure is not inside (0, 1), or it would need more
                coordinates than a float can count.
        """
        whole("n", n)
        if not (0 < delta < 1 and 0 < failure < 1):
            raise ValueError(f"delta and failure must lie inside (0, 1), got {delta} and {failure}")
        if delta**n < 1e-300:
            raise ValueError(f"delta^n = {delta}^{n} is below 1e-300; take a larger delta or a smaller n")
        return cls(n, ceil(log(failure) / log1p(-(delta**n))), delta)

    @property
    def found(self) -> float:
        """Probability that some coordinate is 1 in the whole sample: 1 - (1 - delta^n)^d."""
        return -expm1(self.d * log1p(-(self.delta**self.n)))

    @property
    def excess(self) -> float:
        """E L_mu(W) - L_mu(0)."""
        return self.delta * self.found

    @property
    def training_risk(self) -> float:
        """E L_S(W); also the suboptimality, since L_S(0) = 0."""
        return self.found

    @property
    def gap(self) -> float:
        """E[L_mu(W) - L_S(W)]."""
        return self.excess - self.training_risk

    def loss(self, w: Tensor, z: Tensor) -> Tensor:
        """l(w, z) for weights (..., d) and examples (..., d), broadcast; result (...)."""
        return (w * z).amax(-1).clamp(min=0)

    def learn(self, sample: Tensor) -> Tensor:
        """The learner's answer to samples (..., n, d) of zeros and ones; result (..., d)."""
        whole_sample = sample.amin(-2)
        first = torch.nn.functional.one_hot(whole_sample.argmax(-1), self.d)
        return first * whole_sample
