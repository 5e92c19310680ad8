"""Chapter 7: at which minima can gradient descent and SGD stay? Linear stability.

Near a minimum w* of L = (1/n) sum_i l_i at which every example is at rest (interpolation), a step on a batch
multiplies the displacement x = w - w* by I - lr H_batch, where H_batch is the mean of the batch's H_i.
Gradient descent stays when the largest eigenvalue of H is at most 2 / lr. For SGD "stays" means here:
E|x_t|^2 stays bounded.

The module goes the way of the chapter: gradient descent; SGD in one dimension, where two numbers decide, the
sharpness a (mean of the H_i) and the non-uniformity s (their standard deviation); the same in d dimensions,
where the exact condition is a spectral radius. What the alignment of gradient noise with curvature adds to
this, and how fast SGD escapes, is in ``helpers.alignment``.

Batches are drawn afresh for every step: without replacement from n examples, or, with ``n=math.inf``, with
replacement. Noise of a batch of B then has 1/B times (n - B) / (n - 1) of the variance of one example.

Source: Wu's slides, section "Stability analysis"; Wu, Ma and E (2018).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from helpers._checks import non_negative, positive, whole
from helpers._generators import generator_from

OPERATOR_LIMIT = 48  # the second-moment operator is d^2 x d^2

# --- gradient descent ---------------------------------------------------------------------------------------


def edge_of_stability(lr: float) -> float:
    """2 / lr: the largest sharpness at which gradient descent can stay; training tends to end about there."""
    return 2 / positive("lr", lr)


def gd_factor(eigenvalues: Tensor, lr: float) -> float:
    """Spectral norm of I - lr H, by which a step can stretch the displacement; stable when at most 1.

    Args:
        eigenvalues: of the symmetric H, shape (d,). With all of them in [0, 2 / lr] the factor is at most 1;
            a negative one is a direction of escape at every learning rate.
    """
    return (1 - positive("lr", lr) * eigenvalues).abs().max().item()


# --- SGD in one dimension -----------------------------------------------------------------------------------


def noise_share(batch_size: int, n: float) -> float:
    """Variance of a batch mean over that of one example: (n - B) / (B (n - 1)), or 1 / B for n = inf.

    Raises:
        ValueError: if the batch is larger than the sample, or a size is not a positive whole number.
    """
    batch = whole("batch_size", batch_size)
    if math.isinf(n):
        return 1 / batch
    if batch > whole("n", n):
        hint = "draw with replacement (n=math.inf, or replacement=True)"
        raise ValueError(f"a batch of {batch} cannot be drawn without replacement from n = {n}; {hint}")
    return 0.0 if batch == n else (n - batch) / (batch * (n - 1))


def sgd_factor(
    sharpness: float, non_uniformity: float, lr: float, *, batch_size: int = 1, n: float = math.inf
) -> float:
    """E x_{t+1}^2 / E x_t^2 of SGD on l_i(x) = a_i x^2 / 2, exactly:

        (1 - lr a)^2 + lr^2 s^2 (n - B) / (B (n - 1)).

    Stable when at most 1. Wu's slides, eq. 5 (B = 1) and 6.

    Args:
        sharpness: a, mean of the a_i.
        non_uniformity: s, their *population* standard deviation (divisor n).
        n: number of examples; ``math.inf`` draws batches with replacement.

    Raises:
        ValueError: if s is negative, lr not positive, or the batch does not fit.
    """
    lr, s = positive("lr", lr), non_negative("non_uniformity", non_uniformity)
    return (1 - lr * sharpness) ** 2 + lr**2 * s**2 * noise_share(batch_size, n)


def sharpness_and_non_uniformity(curvatures: Sequence[float] | Tensor) -> tuple[float, float]:
    """Mean a and population standard deviation s of the curvatures a_i, shape (n,)."""
    a = torch.as_tensor(curvatures, dtype=torch.float64)
    return a.mean().item(), a.std(correction=0).item()


def lyapunov_exponent(curvatures: Sequence[float] | Tensor, lr: float) -> float:
    """Mean of log |1 - lr a_i|: the rate at which log |x_t| of *almost every* path of SGD with B = 1 grows.

    By Jensen's inequality at most half the logarithm of ``sgd_factor``: in between, E x_t^2 explodes while
    almost every path still converges, on the strength of ever rarer ever larger excursions. Minus infinity if
    a step can land on the minimum exactly.
    """
    a = torch.as_tensor(curvatures, dtype=torch.float64)
    return (1 - positive("lr", lr) * a).abs().log().mean().item()


# --- the selection diagram ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Region:
    """The minima (a, s) at which SGD can stay, as a box around the half ellipse of ``stable_non_uniformity``.

    Attributes:
        sharpness: 2 / lr, largest a (the batch size plays no part).
        non_uniformity: (1 / lr) sqrt(B (n - 1) / (n - B)), largest s, reached at a = 1 / lr; infinite for a
            full batch.
    """

    sharpness: float
    non_uniformity: float


def selection_region(lr: float, *, batch_size: int, n: float = math.inf) -> Region:
    """Bounding box of the selection diagram: learning rate limits sharpness, both limit non-uniformity."""
    share = noise_share(batch_size, n)
    widest = math.inf if share == 0 else 1 / (positive("lr", lr) * math.sqrt(share))
    return Region(edge_of_stability(lr), widest)


def stable_non_uniformity(sharpness: float, lr: float, *, batch_size: int, n: float = math.inf) -> float:
    """Largest s that is stable at sharpness a, sqrt(a (2/lr - a) B (n - 1) / (n - B)): there the factor is 1.

    Raises:
        ValueError: if a lies outside [0, 2 / lr], where no s is stable.
    """
    a, edge, share = float(sharpness), edge_of_stability(lr), noise_share(batch_size, n)
    if not 0 <= a <= edge:
        raise ValueError(f"at sharpness {a}, outside [0, 2/lr] = [0, {edge}], SGD is unstable whatever the noise")
    return math.inf if share == 0 else math.sqrt(a * (edge - a) / share)


# --- the example of the slides: two valleys with the same mean ----------------------------------------------

# Curvatures (at x = 0, at x = 1) of the two functions that SGD picks from. The slides announce an escape from
# x = 1 at lr = 0.7 for the first pair and plot it for the second. The first pair is stable there: its factor
# is 0.3^2 + (0.7 * 0.9)^2 = 0.4869, and each function alone is too. The second, without the factors 1/2, has
# twice the curvature and the factor 0.4^2 + (0.7 * 1.8)^2 = 1.7476.
HALVED_PAIR = ((1.0, 0.1), (1.0, 1.9))
PLOTTED_PAIR = ((2.0, 0.2), (2.0, 3.8))


def valley(x: Tensor, zero: float, one: float) -> Tensor:
    """min(zero x^2 / 2, one (x - 1)^2 / 2): minima at 0 and 1 with the curvatures given."""
    return torch.minimum(zero * x**2, one * (x - 1) ** 2) / 2


def valley_slope(x: Tensor, zero: float, one: float) -> Tensor:
    """Derivative of ``valley``, of the branch that attains the minimum (the one at 0 on a tie)."""
    return torch.where(zero * x**2 <= one * (x - 1) ** 2, zero * x, one * (x - 1))


def valley_paths(
    pair: Sequence[tuple[float, float]], *, lr: float, start: float, steps: int, paths: int, seed: int
) -> Tensor:
    """SGD on a pair of valleys, one of the two drawn for every step: positions, shape (steps + 1, paths)."""
    generator = generator_from(seed)
    lr, x = positive("lr", lr), torch.full((whole("paths", paths),), start, dtype=torch.float64)
    positions = [x]
    for _ in range(whole("steps", steps)):
        drawn = torch.randint(len(pair), x.shape, generator=generator)
        slopes = torch.stack([valley_slope(x, *curvatures) for curvatures in pair])
        x = x - lr * slopes.gather(0, drawn[None])[0]
        positions.append(x)
    return torch.stack(positions)


# --- SGD in d dimensions ------------------------------------------------------------------------------------


def second_moment_operator(hessians: Tensor, lr: float, *, batch_size: int = 1, replacement: bool = False) -> Tensor:
    """Matrix (d^2, d^2) of M -> E[(I - lr H_batch) M (I - lr H_batch)], which takes E[x_t x_t^T] one step on:

        (I - lr H) M (I - lr H) + lr^2 (n - B) / (B (n - 1)) (mean_i H_i M H_i - H M H).

    Args:
        hessians: H_i of every example, symmetric, shape (n, d, d).
        replacement: whether a batch may hold an example twice.

    Raises:
        ValueError: if the Hessians are not symmetric matrices, d is above 48, or the batch does not fit.
    """
    H_i, H, share = _hessians(hessians, batch_size, replacement)
    step = torch.eye(len(H), dtype=H.dtype, device=H.device) - positive("lr", lr) * H
    return torch.kron(step, step) + lr**2 * share * _spread(H_i, H)


def second_moment_radius(hessians: Tensor, lr: float, *, batch_size: int = 1, replacement: bool = False) -> float:
    """Spectral radius of ``second_moment_operator``: SGD is mean-square stable exactly when it is at most 1.

    E|x_t|^2 grows or shrinks like radius^t; at radius 1 it stays bounded, since the operator is symmetric. A
    direction that is flat for every example makes the radius at least 1, so an over-parameterised minimum is
    stable when it equals 1. Arguments and errors as there.
    """
    operator = second_moment_operator(hessians, lr, batch_size=batch_size, replacement=replacement)
    return float(torch.linalg.eigvalsh(operator).abs().max())


def sufficient_factor(hessians: Tensor, lr: float, *, batch_size: int = 1, replacement: bool = False) -> float:
    """lambda_max{(I - lr H)^2 + lr^2 (n - B) / (B (n - 1)) Sigma}, Sigma = mean_i H_i^2 - H^2.

    The largest factor by which one step can multiply E|x|^2. At most 1 is *sufficient* for stability. It is
    not necessary, since the worst displacement of one step need not be that of the next; so the slides'
    corollaries of this condition (with a^2 and s^2 the largest eigenvalues of H^2 and Sigma) do not bind a
    stable minimum, except a <= 2 / lr. ``second_moment_radius`` is exact. Wu's slides, "The Selection
    Diagram", last display.
    """
    H_i, H, share = _hessians(hessians, batch_size, replacement)
    step = torch.eye(len(H), dtype=H.dtype, device=H.device) - positive("lr", lr) * H
    Sigma = (H_i @ H_i).mean(0) - H @ H
    return float(torch.linalg.eigvalsh(step @ step + lr**2 * share * Sigma)[-1])


def interpolating_sharpness(jacobian: Tensor) -> tuple[float, float]:
    """Sharpness a = lambda_max(H) and non-uniformity s = sqrt(lambda_max(Sigma)) at an interpolating minimum.

    For scalar regression with half squared error, H_i = J_i J_i^T there, so H = J^T J / n and Sigma = (1/n) sum_i
    |J_i|^2 J_i J_i^T - H^2. Both live in the span of the n rows of J: no matrix is larger than n x n. Wu's
    slides, "The Selection Diagram", last display.

    Args:
        jacobian: J, gradients of the outputs, shape (n, d).
    """
    n = len(jacobian)
    left, singular, _ = torch.linalg.svd(jacobian, full_matrices=False)
    rows = left * singular  # the rows of J in an orthonormal basis of their span
    Sigma = rows.T @ (jacobian.square().sum(1)[:, None] * rows) / n - torch.diag(singular**4) / n**2
    # Sigma is positive semi-definite; for identical rows it is zero up to rounding
    return (singular[0] ** 2 / n).item(), torch.linalg.eigvalsh(Sigma)[-1].clamp(min=0).sqrt().item()


# --- where SGD comes to rest: gradients that do not vanish at the minimum -----------------------------------


def sgd_covariance(
    hessians: Tensor, gradients: Tensor, lr: float, *, batch_size: int = 1, replacement: bool = False
) -> Tensor:
    """Covariance S, shape (d, d), that SGD keeps around the minimum of quadratic examples, exactly:

        H S + S H - lr H S H = lr share (C + mean_i H_i S H_i - H S H),

    with share = (n - B) / (B (n - 1)) and C = mean_i g_i g_i^T. Where all H_i are H this is, in the eigenbasis of H,
    S_ij = lr share C_ij / (h_i + h_j - lr h_i h_j).

    Args:
        hessians: H_i of every example, symmetric, shape (n, d, d).
        gradients: g_i of every example at the minimum, shape (n, d), of mean zero.
        replacement: whether a batch may hold an example twice.

    Raises:
        ValueError: as ``second_moment_operator``; if the gradients do not fit, are not finite or have a mean; if a
            direction is flat, so that nothing brings SGD back along it; or if SGD does not come to rest, because the
            spectral radius of the operator is not below 1.
    """
    H_i, H, share = _hessians(hessians, batch_size, replacement)
    operator = second_moment_operator(hessians, lr, batch_size=batch_size, replacement=replacement)
    C = _noise(gradients, H_i)
    _curved(H)
    if torch.linalg.eigvalsh(operator).abs().max() >= 1:
        raise ValueError(f"SGD does not come to rest at lr = {lr} and batch_size = {batch_size}; take a smaller lr")
    stay = torch.eye(len(operator), dtype=operator.dtype, device=operator.device) - operator
    kept: Tensor = torch.linalg.solve(stay, lr**2 * share * C.flatten())
    return kept.reshape(C.shape)


def diffusion_covariance(
    hessians: Tensor, gradients: Tensor, lr: float, *, batch_size: int = 1, replacement: bool = False
) -> Tensor:
    """The same of the diffusion that stands for SGD, with drift -H x and noise sqrt(lr share) Sigma(x)^{1/2}:

        H S + S H = lr share (C + mean_i H_i S H_i - H S H),

    without the term lr H S H. It knows lr and, with replacement, B by their ratio alone. Arguments and errors as in
    ``sgd_covariance``; the diffusion has no edge at 2 / lr, and comes to rest unless its noise is too uneven.
    """
    H_i, H, share = _hessians(hessians, batch_size, replacement)
    C, eye = _noise(gradients, H_i), torch.eye(len(H), dtype=H.dtype, device=H.device)
    _curved(H)
    fall = torch.kron(H, eye) + torch.kron(eye, H) - positive("lr", lr) * share * _spread(H_i, H)
    if torch.linalg.eigvalsh(fall)[0] <= 0:
        raise ValueError(f"the diffusion does not come to rest at lr = {lr}, batch_size = {batch_size}: take less lr")
    kept: Tensor = torch.linalg.solve(fall, lr * share * C.flatten())
    return kept.reshape(C.shape)


def _noise(gradients: Tensor, hessians: Tensor) -> Tensor:
    """C = mean_i g_i g_i^T of gradients that fit the Hessians and have mean zero, to the rounding of their sum."""
    if gradients.shape != hessians.shape[:2]:
        raise ValueError(f"gradients must be of shape {tuple(hessians.shape[:2])}, got {tuple(gradients.shape)}")
    if not torch.isfinite(gradients).all():
        raise ValueError("gradients must be finite")
    off, size = gradients.mean(0).abs().max(), gradients.abs().max()
    if off > max(1e-9, 16 * torch.finfo(gradients.dtype).eps) * size:
        raise ValueError("gradients must have mean zero: give those at the minimum of the mean loss")
    return gradients.T @ gradients / len(gradients)


def _curved(H: Tensor) -> None:
    """Refuse a mean Hessian with a direction that is flat or bends down: along it no learning rate comes to rest."""
    h = torch.linalg.eigvalsh(H)
    if h[0] <= 16 * len(H) * torch.finfo(H.dtype).eps * h[-1].abs():
        raise ValueError("a direction of H is not curved upwards, and nothing rests along it: project on the span of H")


def _spread(H_i: Tensor, H: Tensor) -> Tensor:
    """Matrix (d^2, d^2) of M -> mean_i H_i M H_i - H M H, in the index order of torch.kron."""
    d = len(H)
    if d > OPERATOR_LIMIT:
        raise ValueError(f"the second-moment operator needs d^4 = {d**4} numbers; keep d at {OPERATOR_LIMIT} or below")
    return torch.einsum("iab,icd->acbd", H_i, H_i).reshape(d * d, d * d) / len(H_i) - torch.kron(H, H)


def _hessians(hessians: Tensor, batch_size: int, replacement: bool) -> tuple[Tensor, Tensor, float]:
    """The H_i, their mean, and the noise share of a batch."""
    if hessians.ndim != 3 or not torch.allclose(hessians, hessians.mT):
        raise ValueError(f"give one symmetric Hessian for each example, shape (n, d, d), got {tuple(hessians.shape)}")
    return hessians, hessians.mean(0).contiguous(), noise_share(batch_size, math.inf if replacement else len(hessians))
