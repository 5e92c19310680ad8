"""Chapter 2: what if a ghost walked beside SGD, blurred by noise? Neu, Dziugaite, Haghifam and Roy (2021).

SGD itself is too predictable for information theory: given the sample and the order of its batches, the
weights are known, and I(W_T; S) is infinite. So walk beside it with a noisy copy that uses SGD's own
gradients, W~_t = W~_{t-1} - lr_t g(W_{t-1}, B_t) + N_t, N_t ~ N(0, sigma_t^2 I), bound the gap of the copy by
its information, and pay for the distance between the two. With G the gradient of the population risk,

    |gen| <= sqrt((2 R^2 / n) sum_t (lr_t / sigma_t)^2 E[Psi_t + V_t]) + residual,

    Psi_t = E||G(W_{t-1}) - G(W_{t-1} + noise so far)||^2      sensitivity: the gradient under noise,
    V_t   = ||g(W_{t-1}, B_t) - G(W_{t-1})||^2                 dispersion: the batch against the population.

The population is seen through a held-out split. With m held-out examples both are biased upward by the
sampling variance of G, of order 1/m; with the training sample in its place the dispersion is too small, and
zero for full batches. Gradients are functions from a weight vector (d,) to (d,), risks functions from (d,) to
a number: ``gradient_at`` and ``risk_at`` make them from a model.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from helpers import curvature, xu_raginsky
from helpers._checks import non_negative, non_negatives, per_step, positive, whole
from helpers._generators import generator_from
from helpers._tensors import floats_of
from helpers.curvature import Estimate
from helpers.data import Split
from helpers.losses import Loss
from helpers.models import at

Gradient = Callable[[Tensor], Tensor]
Risk = Callable[[Tensor], float]


def bound(
    sensitivity: Iterable[float],
    dispersion: Iterable[float],
    lr: float | Iterable[float],
    sigma: float | Iterable[float],
    *,
    n: int,
    R: float,
    constant: float = 2.0,
) -> float:
    """The trajectory term of Neu et al. (2021), Theorem 1; Wang & Mao (2022), Lemma 2.

    sqrt((constant R^2 / n) sum_t (lr_t / sigma_t)^2 (Psi_t + V_t)); add the residual for a bound on |gen|.
    The constant 2 is provable in all epochs, 1 in the first, where the batch is independent of the weights.
    The text of Wang & Mao reads as 8; it would make their Corollary 1 the smaller, which it is not at 2.

    Args:
        sensitivity: E Psi_t for each of the T steps, without the learning rate; 0 in the first.
        dispersion: E V_t for each step, without the learning rate.
        lr: learning rate, or one for each step.
        sigma: standard deviation of the noise, or one for each step.
        n: examples that one run is trained on.
        R: sub-Gaussian constant of the loss.
        constant: in front of R^2 / n.

    Raises:
        ValueError: if there is no step, the lengths differ, an entry is negative, or lr, sigma, n, R or the
            constant is not positive.
    """
    psi, spread = non_negatives("sensitivity", sensitivity), non_negatives("dispersion", dispersion)
    if len(psi) != len(spread):
        lengths = f"{len(psi)} and {len(spread)}"
        raise ValueError(f"sensitivity and dispersion must have one entry a step, got {lengths}")
    rates, noises = per_step("lr", lr, len(psi)), per_step("sigma", sigma, len(psi))
    steps = zip(psi, spread, rates, noises, strict=True)
    information = math.fsum((rate / noise) ** 2 * (p + v) for p, v, rate, noise in steps)
    return xu_raginsky.bound(positive("constant", constant) / 2 * information, n=n, R=R)


# --- From a model to functions of its weight vector ---------------------------------------------------------


def gradient_at(model: nn.Module, loss: Loss, split: Split) -> Gradient:
    """w -> gradient of the mean loss over the split at w, shape (d,); the model is left where it is.

    With a held-out split it stands for the population gradient G, with a batch for g(w, B).
    """

    def gradient(vector: Tensor) -> Tensor:
        with at(model, vector):
            return curvature.gradient(model, loss, split)

    return gradient


def risk_at(model: nn.Module, loss: Loss, split: Split) -> Risk:
    """w -> mean loss over the split at w; the model is left where it is."""

    def risk(vector: Tensor) -> float:
        with at(model, vector):
            return float(curvature.values(model, loss, split).mean())

    return risk


# --- Sensitivity and dispersion from a recorded trajectory --------------------------------------------------


def sensitivity(gradient: Gradient, w: Tensor, variance: float, *, draws: int, seed: int) -> Estimate:
    """Psi(w) = E||G(w) - G(w + zeta)||^2, zeta ~ N(0, variance I): a mean over draws.

    Unbiased for the gradient function that is given. For a quadratic it is variance * ||H||_F^2. No noise, no
    sensitivity: variance 0 gives exactly 0.

    Args:
        gradient: G; from held-out data, its sampling noise adds to the result.
        w: weights W_{t-1}, shape (d,).
        variance: sum of sigma_tau^2 over the steps before t.
        draws: number of Gaussian draws, at least 2.
        seed: of the draws, made on the CPU, so that they are the same on every device.

    Raises:
        ValueError: if the variance is negative, there are fewer than two draws, or the gradient is not finite at one.
    """
    variance, draws = non_negative("variance", variance), whole("draws", draws, least=2)
    if variance == 0:
        return Estimate(0.0, 0.0, 0, "exact")
    centre = gradient(w)
    samples = [float((centre - gradient(moved)).square().sum()) for moved in _moved(w, variance, draws, seed)]
    return _mean(samples, "gaussian draws")


def sensitivities(
    gradient: Gradient, trajectory: Sequence[Tensor], sigma: float | Iterable[float], *, draws: int, seed: int
) -> list[Estimate]:
    """Psi_t(W_{t-1}) for t = 1, ..., T: the noise has the variance accumulated *before* step t, so Psi_1 = 0.

    Args:
        gradient: population gradient, as in ``sensitivity``.
        trajectory: W_0, ..., W_T, each (d,).
        sigma: standard deviation of the noise, or one for each of the T steps.
        draws, seed: as in ``sensitivity``; the steps draw independently.

    Raises:
        ValueError: if there is no step, sigma is not positive or has another length, or there are fewer than
            two draws.
    """
    steps = _steps(trajectory)
    sigmas = per_step("sigma", sigma, steps)
    seeds = torch.randint(2**62, (steps,), generator=generator_from(seed)).tolist()
    before = [math.fsum(noise**2 for noise in sigmas[:t]) for t in range(steps)]
    return [
        sensitivity(gradient, w, variance, draws=draws, seed=step_seed)
        for w, variance, step_seed in zip(trajectory[:-1], before, seeds, strict=True)
    ]


def dispersion(batch_gradients: Tensor, population_gradients: Tensor) -> Tensor:
    """V_t = ||g(W_{t-1}, B_t) - G(W_{t-1})||^2 for each step, shape (T,), without the learning rate.

    The centre is the *population* gradient at the same weights; held-out data stand for it.

    Args:
        batch_gradients: (T, d), from ``recorded_gradients`` or ``gradient_at`` of each batch.
        population_gradients: (T, d), from ``population_gradients``.

    Raises:
        ValueError: if the shapes differ or are not (T, d), or an entry is not finite.
    """
    g, G = floats_of("batch gradients", batch_gradients), floats_of("population gradients", population_gradients)
    if g.ndim != 2 or g.shape != G.shape:
        shapes = f"{tuple(g.shape)} and {tuple(G.shape)}"
        raise ValueError(f"batch and population gradients must both have shape (T, d), got {shapes}")
    return (g - G).square().sum(1)


def population_gradients(gradient: Gradient, trajectory: Sequence[Tensor]) -> Tensor:
    """G(W_0), ..., G(W_{T-1}), shape (T, d).

    Raises:
        ValueError: if the trajectory has no step.
    """
    return torch.stack([gradient(w) for w in trajectory[: _steps(trajectory)]])


def recorded_gradients(trajectory: Sequence[Tensor], lr: float | Iterable[float]) -> Tensor:
    """g(W_{t-1}, B_t) = (W_{t-1} - W_t) / lr_t, shape (T, d): the batch gradients behind recorded weights.

    For plain SGD only. With momentum or weight decay the update is no batch gradient of the loss.

    Raises:
        ValueError: if the trajectory has no step, weights are not finite, or a learning rate is not positive.
    """
    rates = per_step("lr", lr, _steps(trajectory))
    path = floats_of("trajectory", list(trajectory))
    return -path.diff(dim=0) / torch.tensor(rates, dtype=path.dtype, device=path.device)[:, None]


# --- The price of the ghost ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Residual:
    """What replacing W by W + noise changes, signed; the bounds add absolute values.

    Attributes:
        training: gamma(W, S) = E[L_S(W + noise) - L_S(W)].
        population: gamma(W, S') = E[L_mu(W + noise) - L_mu(W)], on held-out data.
        difference: training - population. Its absolute value is the residual of Neu et al. and Wang & Mao.
        separate: |training| + |population|, never smaller. Biased upward by the noise in either.
    """

    training: Estimate
    population: Estimate
    difference: Estimate
    separate: Estimate


def gamma(risk: Risk, w: Tensor, variance: float, *, draws: int, seed: int) -> Estimate:
    """gamma(w, s) = E[L_s(w + xi) - L_s(w)], xi ~ N(0, variance I): Wang & Mao (2022), section 2.

    To second order (variance / 2) tr H(w), exactly so for a quadratic.

    Args:
        risk: L_s.
        w: final weights, shape (d,).
        variance: sum of sigma_t^2 over all steps.
        draws, seed: as in ``sensitivity``.

    Raises:
        ValueError: if the variance is not positive, there are fewer than two draws, or the risk is not finite at one.
    """
    return _mean(_changes([risk], w, variance, draws, seed)[0], "gaussian draws")


def residual(
    training_risk: Risk, population_risk: Risk, w: Tensor, variance: float, *, draws: int, seed: int
) -> Residual:
    """Both forms of the residual at the weights of one run; both risks see the same draws.

    The standard errors are those of the draws, given w and both samples. The theorems take the expectation
    over runs before the absolute value: see ``over_runs``.

    Args:
        training_risk: L_S of the run's own sample.
        population_risk: L_mu, by held-out data.
        w, variance, draws, seed: as in ``gamma``.

    Raises:
        ValueError: as ``gamma``.
    """
    on_training, on_population = _changes([training_risk, population_risk], w, variance, draws, seed)
    return _residual(on_training, on_population, "gaussian draws")


def over_runs(residuals: Sequence[Residual]) -> Residual:
    """The residual in expectation over independent runs, with standard errors across runs.

    Raises:
        ValueError: if there are fewer than two runs.
    """
    if len(residuals) < 2:
        raise ValueError(f"a standard error over runs needs at least two runs, got {len(residuals)}")
    return _residual([r.training.value for r in residuals], [r.population.value for r in residuals], "runs")


def _residual(on_training: list[float], on_population: list[float], method: str) -> Residual:
    training, population = _mean(on_training, method), _mean(on_population, method)
    signs = math.copysign(1.0, training.value), math.copysign(1.0, population.value)
    pairs = list(zip(on_training, on_population, strict=True))
    return Residual(
        training,
        population,
        difference=_mean([a - b for a, b in pairs], method),
        separate=_mean([signs[0] * a + signs[1] * b for a, b in pairs], method),
    )


def _changes(risks: list[Risk], w: Tensor, variance: float, draws: int, seed: int) -> list[list[float]]:
    """For each risk, its change at each draw."""
    variance, draws = positive("variance", variance), whole("draws", draws, least=2)
    before = [risk(w) for risk in risks]
    after = [[risk(moved) for risk in risks] for moved in _moved(w, variance, draws, seed)]
    return [[row[i] - start for row in after] for i, start in enumerate(before)]


def _moved(w: Tensor, variance: float, draws: int, seed: int) -> Iterable[Tensor]:
    generator = generator_from(seed)
    for _ in range(draws):
        step = torch.randn(w.shape, generator=generator, dtype=w.dtype).to(w.device)
        yield w + math.sqrt(variance) * step


def _mean(samples: list[float], method: str) -> Estimate:
    wrong = sum(not math.isfinite(sample) for sample in samples)
    if wrong:
        raise ValueError(f"the function is not finite for {wrong} of {len(samples)} {method}; lower the variance")
    return Estimate.mean(torch.tensor(samples, dtype=torch.float64), method)


def _steps(trajectory: Sequence[Tensor]) -> int:
    if len(trajectory) < 2:
        raise ValueError("the trajectory must hold the initial weights and at least one step")
    return len(trajectory) - 1
