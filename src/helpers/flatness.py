"""Chapter 6: what is flat? Sharpness as the answer of the loss to small perturbations of the weights.

How sharp a minimum looks depends on what one calls a small perturbation. Three choices, each with the matrix
quantity that it measures in the limit of a small radius rho, L(w + e) - L(w) written dL:

    worst case in a ball      max_{||e|| <= rho} 2 dL / rho^2     -> lambda_max(H)       error O(rho)
    isotropic Gaussian        E_{N(0, rho^2 I)}  2 dL / rho^2     -> Tr H                error O(rho^2)
    Gaussian shaped like H    E_{N(0, rho^2 H)}  2 dL / rho^2     -> ||H||_F^2           error O(rho^2)

(Wu's slides give O(rho) for all three; the odd moments of a Gaussian vanish.) Then come Keskar's measure, the
sharpness that SAM minimises, and the matrices that stand in for H: Gauss-Newton and empirical Fisher.

Every function evaluates at perturbed weights and leaves the model where it was. Models are in evaluation mode.
Rescaling, which changes all of these and not the function, is in ``helpers.relu_minima``.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from helpers import curvature
from helpers._checks import positive, seed_of, whole
from helpers._generators import generator_from
from helpers._tensors import symmetric
from helpers.curvature import Estimate
from helpers.data import Split
from helpers.losses import HalfSquaredError, Loss
from helpers.models import at, weights


def mean_loss(model: nn.Module, loss: Loss, split: Split) -> float:
    """L(w), in float64 whatever the model's type: differences of losses are what is measured here."""
    return curvature.values(model, loss, split).double().mean().item()


@dataclass(frozen=True)
class Limits:
    """What the three responses measure as rho -> 0 at a minimum with Hessian H.

    Attributes:
        worst_case: lambda_max(H).
        isotropic: Tr H.
        shaped: ||H||_F^2.
    """

    worst_case: float
    isotropic: float
    shaped: float


def limits(hessian: Tensor) -> Limits:
    """The limits from a dense H, shape (d, d); ValueError if it is not square, symmetric and finite."""
    hessian = symmetric("hessian", hessian)
    return Limits(
        worst_case=float(torch.linalg.eigvalsh(hessian)[-1]),
        isotropic=hessian.trace().item(),
        shaped=hessian.square().sum().item(),
    )


@dataclass(frozen=True)
class Ascent:
    """The highest loss that an ascent found.

    Attributes:
        value: the measure.
        increase: largest L(w + e) - L(w) seen.
        perturbation: the e that reaches it, shape (d,).
        iterations: of all starts together.
        converged: whether the optimiser of the best start ended by its own criterion, not at the iteration limit.
    """

    value: float
    increase: float
    perturbation: Tensor
    iterations: int
    converged: bool


def worst_case_response(
    model: nn.Module,
    loss: Loss,
    split: Split,
    *,
    radius: float,
    iterations: int = 100,
    starts: int = 3,
    seed: int = 0,
) -> Ascent:
    """2 (L(w + e) - L(w)) / rho^2 at the worst e found on the sphere of radius rho.

    L-BFGS ascends over the direction of e from random starts. What it finds is a lower estimate of the maximum
    over the ball: equal to it if the loss is convex nearby and the ascent finds the top; a quadratic has no other
    local maximum on the sphere.

    Args:
        starts: number of random directions to start from.

    Raises:
        ValueError: if the radius is not positive, or a number of starts or iterations not a positive whole number.
    """
    radius, w, base = positive("radius", radius), weights(model), mean_loss(model, loss, split)
    generator = np.random.default_rng(seed_of(seed))

    def descent(u: np.ndarray) -> tuple[float, np.ndarray]:
        length = np.linalg.norm(u)
        unit = u / length
        value, slope = _value_and_gradient(model, loss, split, w, radius * unit)
        tangent = slope - (slope @ unit) * unit
        return -2 * (value - base) / radius**2, -2 / (radius * length) * tangent

    tries = []
    for _ in range(whole("starts", starts)):
        start = generator.standard_normal(len(w))
        options = {"maxiter": whole("iterations", iterations), "ftol": 1e-13, "gtol": 1e-9}
        tries.append(minimize(descent, start, jac=True, method="L-BFGS-B", options=options))
    best = min(tries, key=lambda one: float(one.fun))
    return Ascent(
        value=-float(best.fun),
        increase=-float(best.fun) * radius**2 / 2,
        perturbation=torch.from_numpy(radius * best.x / np.linalg.norm(best.x)).to(w),
        iterations=sum(one.nit for one in tries),
        converged=bool(best.success),
    )


def isotropic_response(
    model: nn.Module, loss: Loss, split: Split, *, radius: float, draws: int = 100, seed: int = 0
) -> Estimate:
    """E 2 (L(w + e) - L(w)) / rho^2 for e ~ N(0, rho^2 I): unbiased at this rho, and Tr H + O(rho^2).

    Draws come in pairs e, -e, which cancels the gradient and every odd order exactly.

    Args:
        draws: number of pairs; the standard error is taken over them.

    Raises:
        ValueError: if the radius is not positive or there are fewer than 2 draws.
    """
    w, generator = weights(model), generator_from(seed)

    def draw() -> Tensor:
        return torch.randn(len(w), dtype=torch.float64, generator=generator).to(w)

    return _gaussian_response(model, loss, split, draw, radius, draws, "isotropic Gaussian")


def shaped_response(
    model: nn.Module, loss: Loss, split: Split, shape: Tensor, *, radius: float, draws: int = 100, seed: int = 0
) -> Estimate:
    """E 2 (L(w + e) - L(w)) / rho^2 for e ~ N(0, rho^2 shape): unbiased at this rho, and Tr(H shape) + O(rho^2).

    With shape = H this is the third response of the slides, ||H||_F^2. A Hessian that is not quite that of a
    minimum is indefinite and no covariance: take the Gauss-Newton matrix.

    Args:
        shape: positive semi-definite, shape (d, d).
        draws: number of pairs e, -e.

    Raises:
        ValueError: if the shape is indefinite or of another size, the radius not positive, or draws below 2.
    """
    w, generator = weights(model), generator_from(seed)
    shape = symmetric("shape", shape)
    if shape.shape != (len(w), len(w)):
        raise ValueError(f"the model has d = {len(w)} weights; shape must be (d, d), got {tuple(shape.shape)}")
    eigenvalues, vectors = torch.linalg.eigh(shape)
    rounding = 10 * len(w) * torch.finfo(shape.dtype).eps * eigenvalues.abs().max()
    if not eigenvalues[0] >= -rounding:
        raise ValueError(
            f"a covariance needs a positive semi-definite shape, this one has eigenvalue {eigenvalues[0].item():.3g}; "
            "use the Gauss-Newton matrix"
        )
    root: Tensor = vectors * eigenvalues.clamp(min=0).sqrt()  # what is below zero is rounding, as just checked

    def draw() -> Tensor:
        normal: Tensor = torch.randn(len(w), dtype=torch.float64, generator=generator).to(root)
        return (root @ normal).to(w)

    return _gaussian_response(model, loss, split, draw, radius, draws, "shaped Gaussian")


def _gaussian_response(
    model: nn.Module,
    loss: Loss,
    split: Split,
    draw: Callable[[], Tensor],
    radius: float,
    draws: int,
    method: str,
) -> Estimate:
    """Mean over pairs of directions, with its standard error."""
    radius, draws = positive("radius", radius), whole("draws", draws, least=2)
    w, base = weights(model), mean_loss(model, loss, split)
    samples = []
    for _ in range(draws):
        direction = draw()
        with at(model, w + radius * direction):
            ahead = mean_loss(model, loss, split)
        with at(model, w - radius * direction):
            behind = mean_loss(model, loss, split)
        samples.append((ahead + behind - 2 * base) / radius**2)
    return Estimate.mean(torch.tensor(samples, dtype=torch.float64), method)


# --- Keskar's measure and SAM's -----------------------------------------------------------------------------


def keskar(
    model: nn.Module,
    loss: Loss,
    split: Split,
    *,
    epsilon: float = 1e-3,
    iterations: int = 10,
    basis: Tensor | None = None,
    seed: int = 0,
) -> Ascent:
    """Keskar's sharpness, whose ``value`` is (max_v L(w + v) - L(w)) / (1 + L(w)) over a box around w.

    The box is |v_i| <= epsilon (|w_i| + 1) for every coordinate, so that zero weights may move too. With a basis A
    of a subspace it is v = A z, |z_j| <= epsilon (|(A^+ w)_j| + 1). A few iterations of L-BFGS-B ascend from a random
    point of the box (at an exact minimum its centre is stationary). The maximum is over the points seen, the
    centre included.

    Args:
        epsilon: 1e-3 and 5e-4 in the source.
        iterations: 10 in the source; more raise the value.
        basis: A, shape (d, p); the whole space if None. Keskar et al. take p = 100 random columns.

    Source: the history note's formula, after Keskar et al. (2017), who report 100 times this.

    Raises:
        ValueError: if epsilon is not positive, iterations not a positive whole number, or the basis has not d rows.
    """
    w, base = weights(model), mean_loss(model, loss, split)
    if basis is not None and basis.shape[0] != len(w):
        raise ValueError(f"the model has d = {len(w)} weights, the basis has {basis.shape[0]} rows")
    A = None if basis is None else basis.detach().cpu().double().numpy()
    centre = w.cpu().double().numpy() if A is None else np.linalg.pinv(A) @ w.cpu().double().numpy()
    half = positive("epsilon", epsilon) * (np.abs(centre) + 1)
    best = (base, np.zeros_like(half))

    def descent(z: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal best
        value, slope = _value_and_gradient(model, loss, split, w, z if A is None else A @ z)
        if value > best[0]:
            best = (value, z.copy())
        return -value, -(slope if A is None else slope @ A)

    start = np.random.default_rng(seed_of(seed)).uniform(-half, half)
    # no tolerance: losses rise by less than any default one, and the number of iterations is part of the measure
    options = {"maxiter": whole("iterations", iterations), "ftol": 0, "gtol": 0}
    bounds = list(zip(-half, half, strict=True))
    minimum = minimize(descent, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    increase, z = best[0] - base, best[1]
    return Ascent(
        value=increase / (1 + base),
        increase=increase,
        perturbation=torch.from_numpy(z if A is None else A @ z).to(w),
        iterations=minimum.nit,
        converged=bool(minimum.success),
    )


def sam_sharpness(model: nn.Module, loss: Loss, split: Split, *, rho: float) -> float:
    """L(w + rho g / ||g||) - L(w), g = grad L(w): SAM's first-order stand-in for the worst case in the ball.

    At a minimum it says little: the direction of a vanishing gradient is noise.

    Raises:
        ValueError: if rho is not positive, or the gradient is zero.
    """
    g = curvature.gradient(model, loss, split)
    norm = g.norm()
    if norm == 0:
        raise ValueError("the gradient is zero, so no direction is steepest; use worst_case_response")
    base = mean_loss(model, loss, split)
    with at(model, weights(model) + positive("rho", rho) / norm * g):
        return mean_loss(model, loss, split) - base


def _value_and_gradient(
    model: nn.Module, loss: Loss, split: Split, w: Tensor, perturbation: np.ndarray
) -> tuple[float, np.ndarray]:
    """Loss and gradient (d,) at w + perturbation, in float64."""
    with at(model, w + torch.from_numpy(perturbation).to(w)):
        slope = curvature.gradient(model, loss, split)
        return mean_loss(model, loss, split), slope.cpu().double().numpy()


# --- matrices that stand in for the Hessian -----------------------------------------------------------------


def empirical_fisher(model: nn.Module, loss: Loss, split: Split) -> Tensor:
    """(1/n) sum_i g_i g_i^T, g_i the gradient of example i's loss: shape (d, d), for small d.

    For squared error that is (1/n) sum_i e_i^2 grad f_i grad f_i^T, and vanishes where the residuals e_i do. What
    the slides call the empirical Fisher matrix is the Gauss-Newton matrix, without the e_i^2, and is
    ``curvature.gauss_newton``.
    """
    gradients = curvature.per_example_gradients(model, loss, split)
    return gradients.T @ gradients / len(split)


@dataclass(frozen=True)
class SquaredErrorHessian:
    """The two parts of the Hessian of the mean half squared error of a network with one output, shape (d, d).

    Attributes:
        gauss_newton: G = (1/n) sum_i grad f_i grad f_i^T.
        residual: (1/n) sum_i e_i grad^2 f_i; zero where the network interpolates.
    """

    gauss_newton: Tensor
    residual: Tensor

    @property
    def total(self) -> Tensor:
        """H = G + residual part."""
        return self.gauss_newton + self.residual


def squared_error_hessian(model: nn.Module, split: Split) -> SquaredErrorHessian:
    """H = G + (1/n) sum_i e_i grad^2 f_i, each part computed for itself. Slides, "An Important Observation".

    Raises:
        ValueError: if the network has more than one output, or d is above the limit for dense work.
    """
    split = curvature.finite_split(split, "split")
    outputs = curvature.values(model, WeightedOutput(), replace(split, targets=torch.ones(len(split))))
    G = curvature.gauss_newton(model, HalfSquaredError(), split)
    weighted = replace(split, targets=outputs - split.targets.reshape(outputs.shape).to(outputs))
    return SquaredErrorHessian(G, curvature.hvp(model, WeightedOutput(), weighted, torch.eye(len(G)).to(G)))


@dataclass(frozen=True)
class WeightedOutput:
    """targets_i f(x_i) in the place of a loss, for a network with one output: curvature of the output itself."""

    R: float = float("inf")  # it is not bounded

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if outputs.numel() != len(targets):
            raise ValueError(f"this is for one output an example; the outputs have shape {tuple(outputs.shape)}")
        return targets * outputs.reshape(len(targets))
