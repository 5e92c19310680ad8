"""Three bounds on the gap of a walk whose noise is real, from what it recorded on its way.

Step t adds noise of standard deviation sigma. Whoever guesses its mean from what is known already is off by some
vector, and learns at most |that|^2 / (2 sigma^2) nats (Lemma 4 of Wang & Mao, with log(1 + x) <= x). What is guessed
from decides the bound:

- nothing but the weights: ``whole_sample``, Pensia, Jog & Loh (2018);
- all examples but one: ``leave_one_out``, Negrea et al. (2019);
- all examples of a supersample, and all coins but one: ``membership``, Haghifam et al. (2020).

The noise is in the network, so the gap is that of the noisy network itself, for any bounded loss, whatever was trained.
The expectation over runs stands *inside* the root: give several runs as rows, and they are averaged before it. The
statements are about the gap on average over samples, not with high probability.
"""

from collections.abc import Iterable
from math import fsum, log1p, sqrt
from typing import Any

import torch
from torch import Tensor

from helpers import xu_raginsky
from helpers._checks import per_step, positive, whole
from helpers._tensors import floats_of, numbers_of
from helpers.supersample.family import LOG_2


def whole_sample(
    moments: Any,
    *,
    lr: float | Iterable[float],
    sigma: float | Iterable[float],
    d: int,
    n: int,
    R: float,
    steps: int | None = None,
) -> float:
    """R sqrt(2 I / n) with I = sum_t d/2 log(1 + lr_t^2 E|g_t - m_t|^2 / (d sigma_t^2)) nats.

    Source: Pensia, Jog & Loh (2018) with centre 0. Any m_t that is a function of W_{t-1} and of data independent of S
    is allowed; the best is E[g_t | W_{t-1}], which is the population gradient in the first step only.

    Args:
        moments: |g_t - m_t|^2 for each of the T steps, (T,) or a row a run, (k, T): ``walk.moments`` for the centre
            0, ``walk.held_out_moments`` for the gradient on held-out data. Not ``walk.incoherence``.
        lr, sigma: of the walk; one number, or one a step.
        d: number of weights.
        n: examples that one run is trained on.
        R: sub-Gaussian constant of the evaluation loss.
        steps: T, to hold the moments to: they are lists over steps, as an incoherence is one over examples.

    Raises:
        ValueError: if the moments are no rows of T steps or negative, or a number is out of range.
    """
    means = _averaged("moments", moments, "walk.moments").tolist()
    if steps is not None and len(means) != whole("steps", steps):
        raise ValueError(
            f"moments must hold one number for each of the {steps} steps, got {len(means)}; give walk.moments"
        )
    rates, noises = per_step("lr", lr, len(means)), per_step("sigma", sigma, len(means))
    d = whole("d", d)
    walked = ((moment, rate / noise) for moment, rate, noise in zip(means, rates, noises, strict=True))
    nats = fsum(d / 2 * log1p(ratio * ratio * moment / d) for moment, ratio in walked)
    return xu_raginsky.bound(nats, n=n, R=positive("R", R))


def leave_one_out(incoherence: Any, *, n: int, R: float) -> float:
    """(R / n) mean_i sqrt(incoherence_i), from training data alone: Negrea et al. (2019).

    I(W; Z_i | S without i) <= incoherence_i / (2 n^2), with the expectation over everything. One walk gives an
    unbiased estimate of every incoherence_i, and the root of an estimate is too small on average: average over runs
    (k, n), and for a learner that treats its examples alike over examples, too (``expected``).

    Mind what one walk gives. ``leave_one_out(walk.incoherence, ...)`` takes the root example by example, before noise
    and example are averaged: that is smaller, and estimates no bound of the theorem. For the valid form give
    ``expected(walk.incoherence)``, or better ``expected([walk.incoherence for walk in walks])``.

    Args:
        incoherence: what ``expected`` makes of the walks, (1,); or a row a run, (k, n), also as a list of
            ``walk.incoherence``; or one ``walk.incoherence``, (n,).
        n: examples that one run is trained on.
        R: sub-Gaussian constant of the evaluation loss; 1/2 for the 0–1 error.

    Raises:
        ValueError: if there is neither one entry an example nor one for all, an entry is negative or not finite, or n
            or R is not positive.
    """
    n, R = whole("n", n), positive("R", R)
    mean = _averaged("incoherence", incoherence, "walk.incoherence")
    if len(mean) not in (1, n):
        raise ValueError(
            f"incoherence must hold n = {n} entries a run, or one from `expected`, got {len(mean)}; a row is a run"
        )
    return R / n * mean.sqrt().mean().item()


def membership(information: Any, *, R: float) -> float:
    """2 R mean_i sqrt(2 I_i), I_i = min(log 2, E information_i): Haghifam et al. (2020).

    A coin holds no more than log 2, whatever the sum over steps says. 2 R is the range of the loss.

    Args:
        information: ``paired_walk.information``, (n,), or a row a run.
        R: half the range of the evaluation loss.

    Raises:
        ValueError: if an entry is negative or not finite, or R is not positive.
    """
    nats = _averaged("information", information, "walk.information").clamp(max=LOG_2)
    return 2 * positive("R", R) * (2 * nats).sqrt().mean().item()


def expected(recorded: Any) -> Tensor:
    """The mean over runs and examples, (1,): the estimate for a learner that treats its examples alike.

    All examples then have the same expectation. The root of this mean is never below the mean of the roots, and it is
    what the theorems ask for.

    Args:
        recorded: incoherence or information, (n,) or a row a run, (k, n); also a list of k tensors (n,).
    """
    return _averaged("recorded", recorded, "walk.incoherence").mean(0, keepdim=True)


def _averaged(name: str, recorded: Any, attribute: str) -> Tensor:
    """Mean over runs, float64; ``attribute`` is what of a walk to give."""
    if recorded is None:
        raise ValueError(f"{name} is None; only a walk that was given held_out has held-out moments")
    values = numbers_of(name, recorded, advice=f"; give {attribute}, one row a run").detach().double()
    if values.ndim not in (1, 2) or values.numel() == 0:
        raise ValueError(f"{name} must hold one row a run, or one row, got shape {tuple(values.shape)}")
    if not bool(torch.isfinite(values).all()):
        raise ValueError(f"{name} must be finite; the walk diverged, lower its learning rate")
    if bool((values < 0).any()):
        raise ValueError(f"{name} must not be negative, got {values.min().item():.3g}; give {attribute}")
    return values if values.ndim == 1 else values.mean(0)


def standard_error(bound: Any, recorded: Any) -> float:
    """Jackknife over runs of a bound that takes rows (k, n): how far it would move with other runs."""
    rows = floats_of("recorded", recorded)
    if rows.ndim != 2 or len(rows) < 2:
        raise ValueError(f"a standard error over runs needs at least two rows, got shape {tuple(rows.shape)}")
    without = [bound(torch.cat([rows[:i], rows[i + 1 :]])) for i in range(len(rows))]
    return sqrt(len(rows) - 1) * torch.tensor(without, dtype=torch.float64).std(correction=0).item()
