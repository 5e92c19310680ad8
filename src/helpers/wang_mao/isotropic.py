"""The compromise between trajectory and flatness, in closed form: Wang & Mao (2022), Theorem 2, eq. 3.

With noise N(0, sigma^2 I) in each of T steps the bound is A / sigma + B sigma^2: what the noisy trajectory
tells about the sample, and what the accumulated noise costs at the final weights. Both coefficients are
known, so the best sigma is too. ``wang_mao`` holds the theorem this comes from, and explains the symbols.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from helpers._checks import non_negative, positive, whole
from helpers._tensors import floats_of
from helpers.models import weights


@dataclass(frozen=True)
class Isotropic:
    """A bound with isotropic noise: value = trajectory + flatness at the noise level sigma.

    A and B are the coefficients of the relaxed form A / sigma + B sigma^2.
    """

    value: float
    A: float
    B: float
    sigma: float
    trajectory: float
    flatness: float


def optimal_noise(A: float, B: float) -> Isotropic:
    """The minimum of A / sigma + B sigma^2 over sigma > 0: the last step of Wang & Mao (2022), Theorem 2.

    At sigma = (A / 2B)^{1/3} the value is 3 (A/2)^{2/3} B^{1/3} and the first part is exactly twice the
    second. With A = 0 the infimum 0 is reached as sigma -> 0, with B = 0 as sigma -> infinity; sigma is then
    0.0 or infinity.

    Raises:
        ValueError: if A or B is negative or not finite.
    """
    A, B = non_negative("A", A), non_negative("B", B)
    # Cube roots one by one: A / B overflows for a trace that is almost zero.
    half, root = math.cbrt(A / 2), math.cbrt(B)
    sigma = 0.0 if A == 0 else math.inf if B == 0 else half / root
    flatness = half**2 * root
    return Isotropic(3 * flatness, A, B, sigma, trajectory=2 * flatness, flatness=flatness)


def closed_form(dispersion: float, trace: float, *, n: int, steps: int, R: float) -> Isotropic:
    """Wang & Mao (2022), Theorem 2, eq. 3: gen <~ (3/2) ((R^2 T / n) * dispersion * trace)^{1/3}.

    The minimum over sigma of A / sigma + B sigma^2, A = sqrt(R^2 dispersion / n), B = T trace / 2. What the
    step from eq. 2 assumes: noise at W_T does not lower the population risk (so gen is bounded, not |gen|),
    one sigma for all steps, log(1 + x) <= x, and the risk *is* its second-order Taylor expansion. The last
    holds for quadratics only, which makes eq. 3 an approximation and not a bound for networks.

    Args:
        dispersion: sum_t lr_t^2 E[V_t], for instance ``run.dispersion``.
        trace: expected trace of the training Hessian at the final weights.
        n: examples that one run is trained on.
        steps: T, the number of SGD steps.
        R: sub-Gaussian constant of the loss.

    Raises:
        ValueError: if dispersion or trace is negative (with a negative trace there is no minimum), or n,
            steps or R is not positive.
    """
    dispersion, trace = non_negative("dispersion", dispersion), non_negative("trace", trace)
    n, steps, R = whole("n", n), whole("steps", steps), positive("R", R)
    return optimal_noise(R * math.sqrt(dispersion / n), steps / 2 * trace)


def lemma_7(second_moment: float, trace: float, *, n: int, steps: int, R: float) -> Isotropic:
    """Wang & Mao (2022), Lemma 7: eq. 3 without a centre, weaker and free of the mean gradient.

    Args:
        second_moment: sum_t lr_t^2 E||g(W_{t-1}, B_t)||^2, for instance from ``uncentred_dispersion``.
        trace, n, steps, R: as in ``closed_form``, with the same assumptions.

    Raises:
        ValueError: as ``closed_form``.
    """
    return closed_form(non_negative("second_moment", second_moment), trace, n=n, steps=steps, R=R)


# --- What only sees the final weights -----------------------------------------------------------------------


def terminal(models: Sequence[nn.Module], trace: float, *, n: int, steps: int, R: float) -> Isotropic:
    """The isotropic bound from final weights alone: the omniscient trajectory with Delta = 0.

    A noisy trajectory that moves evenly from a fixed point to W_T has A = sqrt(R^2 M / (n T)), M = E||W_T - E
    W_T||^2; with B = T |trace| / 2 the number of steps cancels and the value is (3/2) (R^2 M |trace| /
    n)^{1/3}. Same Taylor step as ``closed_form``.

    Args:
        models: k >= 2 trained models, independent runs from one initialisation on disjoint samples of n
            examples; M is their unbiased variance.
        trace: of the training Hessian, or of the training minus the population Hessian (the two-sided
            flatness term).
        n, steps, R: as in ``closed_form``; sigma refers to one of ``steps`` steps, the value does not depend
            on it.

    Raises:
        ValueError: if there are fewer than two models, their sizes differ, a weight is not finite, or n,
            steps or R is not positive.
    """
    n, steps, R = whole("n", n), whole("steps", steps), positive("R", R)
    if not math.isfinite(trace):
        raise ValueError(f"trace must be a finite number, got {trace}")
    variance = terminal_variance([weights(model) for model in models])
    return optimal_noise(R * math.sqrt(variance / (n * steps)), steps / 2 * abs(trace))


def terminal_variance(vectors: Sequence[Tensor]) -> float:
    """Unbiased estimate of tr Cov(W_T) from k weight vectors of shape (d,): divisor k - 1.

    Raises:
        ValueError: if there are fewer than two vectors, their sizes differ, or an entry is not finite.
    """
    if len(vectors) < 2:
        raise ValueError(f"the variance over runs needs at least two runs, got {len(vectors)}")
    if len({vector.numel() for vector in vectors}) > 1:
        raise ValueError("all runs must have the same number of weights")
    if not all(bool(torch.isfinite(vector).all()) for vector in vectors):
        raise ValueError("the weights of a run are not finite: it diverged")
    stacked = floats_of("vectors", [vector.reshape(-1) for vector in vectors])
    return float(stacked.var(dim=0, correction=1).sum())
