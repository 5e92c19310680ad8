"""Chapter 7: why, and how fast, does SGD leave sharp minima? Alignment of gradient noise with curvature.

Scalar regression, L(w) = (1/2n) sum_i e_i^2 with residuals e_i = f(x_i; w) - y_i. With J the Jacobian of the
outputs, shape (n, d), the Gauss-Newton matrix is G = J^T J / n (equal to the Hessian where all residuals
vanish), and the noise of a one-example gradient has covariance Sigma = (1/n) sum_i e_i^2 J_i J_i^T - grad L
grad L^T. Near interpolation that noise is strong where curvature is strong; how much so is

    alpha = Tr(Sigma G) / (||Sigma||_F ||G||_F),   beta = ||Sigma||_F / (2 L ||G||_F),   mu = alpha beta.

If mu >= mu_0 > 0 everywhere, SGD linearised at an interpolating minimum can stay there only if ||H||_F <=
(1/lr) sqrt(B / mu_0); at a sharper one its mean loss grows by a factor of at least gamma_0 a step. Batches of
B are drawn with replacement. Everything below is computed from the n x n matrix K = J J^T, so d may be large.

Source: Wu's slides, "A Stability Perspective", eq. 7-9 and Theorems 3 and 4; Wu, Wang and Su (2022).
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn

from helpers import curvature
from helpers._checks import non_negative, positive, whole
from helpers._generators import generator_from
from helpers._tensors import floats_of, symmetric
from helpers.flatness import WeightedOutput


@dataclass(frozen=True)
class Alignment:
    """How gradient noise lines up with curvature.

    Attributes:
        alpha: cosine between noise covariance and G: direction.
        beta: size of the noise over what the loss and G predict: magnitude.
        mu: alpha beta = Tr(Sigma G) / (2 L ||G||_F^2); 1 where residuals decouple from gradients.
    """

    alpha: float
    beta: float
    mu: float


def alignment(Sigma: Tensor, G: Tensor, loss: float) -> Alignment:
    """Alignment of noise covariance Sigma (d, d) with G (d, d) at mean half squared error ``loss``: eq. 7-9.

    Raises:
        ValueError: if a matrix is not symmetric or has another size, the loss is not positive, or a matrix is zero,
            where alignment has no meaning.
    """
    Sigma, G = symmetric("Sigma", Sigma), symmetric("G", G)
    if Sigma.shape != G.shape:
        raise ValueError(f"Sigma and G must be alike, got shapes {tuple(Sigma.shape)} and {tuple(G.shape)}")
    noise, sharpness = Sigma.norm().item(), G.norm().item()
    return _alignment(torch.sum(Sigma * G).item(), noise, sharpness, loss)


def regression_alignment(jacobian: Tensor, residuals: Tensor) -> Alignment:
    """Alignment in scalar regression from the Jacobian J (n, d) of the outputs and the residuals e (n,).

    With C the matrix of centred gradients e_i J_i - grad L, Sigma = C^T C / n, so Tr(Sigma G) =
    ||C J^T||_F^2 / n^2 and ||Sigma||_F = ||C C^T||_F / n; both come from K = J J^T, without forming C.

    Raises:
        ValueError: as ``alignment``, and if these are not (n, d) and (n,).
    """
    jacobian, residuals = _jacobian(jacobian), floats_of("residuals", residuals)
    n = len(jacobian)
    if residuals.shape != (n,):
        shape = tuple(residuals.shape)
        raise ValueError(f"the Jacobian has {n} rows for residuals of shape {shape}; give one row an example")
    K = jacobian @ jacobian.T
    CJ = residuals[:, None] * K
    CJ = CJ - CJ.mean(0)
    CC = CJ * residuals
    CC = CC - CC.mean(1, keepdim=True)
    overlap, noise = CJ.square().sum().item() / n**2, CC.norm().item() / n
    return _alignment(overlap, noise, K.norm().item() / n, residuals.square().mean().item() / 2)


def model_alignment(model: nn.Module, split: Any) -> Alignment:
    """Alignment of a network with one output under squared error, at its weights; stores the Jacobian (n, d).

    Args:
        split: a ``data.Split`` or what ``data.as_split`` takes.

    Raises:
        ValueError: as ``alignment``, and if there is not one output and one target an example.
    """
    split = curvature.finite_split(split, "split")
    if split.targets.numel() != len(split):
        raise ValueError(f"alignment needs one target an example; the targets have shape {tuple(split.targets.shape)}")
    plain = replace(split, targets=torch.ones(len(split)))
    jacobian = curvature.per_example_gradients(model, WeightedOutput(), plain)
    outputs = curvature.values(model, WeightedOutput(), plain)
    return regression_alignment(jacobian, outputs - split.targets.reshape(outputs.shape).to(outputs))


def _alignment(overlap: float, noise: float, sharpness: float, loss: float) -> Alignment:
    if not (noise > 0 and sharpness > 0 and loss > 0):
        raise ValueError(
            "alignment needs a positive loss, gradient noise and curvature; at an exact interpolation there is no noise"
        )
    alpha, beta = overlap / (noise * sharpness), noise / (2 * loss * sharpness)
    return Alignment(alpha, beta, alpha * beta)


def smallest_alignment(jacobian: Tensor) -> float:
    """mu_0: the smallest mu over *all* displacements of linearised regression, exactly.

    With residuals e = J x, mu = e^T (n diag(K^2) - K^2) e / (Tr(K^2) e^T e) is a Rayleigh quotient, and mu_0
    its smallest eigenvalue on the range of J. It lies below the value 1 of decoupled residuals, often far
    below, and is 0 if some displacement gives every example the same gradient.

    Args:
        jacobian: J at the minimum, shape (n, d).

    Raises:
        ValueError: if this is no matrix of finite numbers, or all of it is zero.
    """
    jacobian = _not_flat(jacobian)
    n = len(jacobian)
    K2 = (jacobian @ jacobian.T) @ (jacobian @ jacobian.T)
    left, singular, _ = torch.linalg.svd(jacobian, full_matrices=False)
    reachable = left[:, singular > singular[0] * max(jacobian.shape) * torch.finfo(jacobian.dtype).eps]
    quadratic = reachable.T @ (n * torch.diag(K2.diagonal()) - K2) @ reachable
    return float(torch.linalg.eigvalsh(quadratic)[0] / K2.trace())


def uniformity(jacobian: Tensor) -> float:
    """gamma = min_i ||J_i||_G^2 / mean_i ||J_i||_G^2: at most the mu of gradients that are not centred.

    Slides, "Why is the alignment satisfied?": uniform gradients suffice, uniform residuals are not needed.
    """
    jacobian = _not_flat(jacobian)
    strengths = (jacobian @ jacobian.T).square().sum(1)
    return (strengths.min() / strengths.mean()).item()


# --- what alignment implies ---------------------------------------------------------------------------------


def frobenius_bound(lr: float, *, batch_size: int, mu0: float) -> float:
    """(1/lr) sqrt(B / mu_0): no minimum with a larger ||H||_F is stable for linearised SGD (Theorem 3).

    A necessary condition, whatever n and d. It controls more than 2 / lr of gradient descent, which bounds
    the largest eigenvalue only.
    """
    return math.sqrt(whole("batch_size", batch_size) / positive("mu0", mu0)) / positive("lr", lr)


def isotropic_trace_bound(lr: float, *, batch_size: int, d: int) -> float:
    """sqrt(d B) / lr: the bound on Tr H if noise of the same total variance, 2 L Tr G, were isotropic.

    It grows with d, so alignment is what makes ``frobenius_bound`` independent of size.
    """
    return math.sqrt(whole("d", d) * whole("batch_size", batch_size)) / positive("lr", lr)


def escape_rate(frobenius: float, lr: float, *, batch_size: int, mu0: float) -> float:
    """gamma_0 = lr^2 mu_0 ||H||_F^2 / B, with E L_{t+1} >= gamma_0 E L_t: above 1, SGD escapes (Theorem 4).

    From E L_{t+1} >= (lr^2 / 2B) E Tr(H Sigma); one display of the slides lacks the 1/2, their proof has it.
    """
    lr, mu0, B = positive("lr", lr), non_negative("mu0", mu0), whole("batch_size", batch_size)
    return lr**2 * mu0 * non_negative("frobenius", frobenius) ** 2 / B


# --- escape, exactly and by simulation ----------------------------------------------------------------------


def expected_losses(jacobian: Tensor, start: Tensor, *, lr: float, batch_size: int, steps: int) -> Tensor:
    """E L_t of linearised SGD for t = 0, ..., steps, exactly; shape (steps + 1,).

    The residuals follow e <- e - (lr/B) K sum_{j in batch} e_j u_j, u_j the unit vectors, so M = E[e e^T]
    follows M <- (I - lr K/n) M (I - lr K/n) + (lr^2/B) K (diag(M) / n - M / n^2) K, and L = Tr M / 2n.

    Args:
        jacobian: J at the minimum, shape (n, d).
        start: displacement from the minimum, shape (d,).

    Raises:
        ValueError: if J or the start is not finite or of another shape, lr is not positive, or a size is not a positive
            whole number.
    """
    jacobian, start = _with_start(jacobian, start)
    n, B, lr = len(jacobian), whole("batch_size", batch_size), positive("lr", lr)
    K = jacobian @ jacobian.T
    drift = torch.eye(n, dtype=K.dtype, device=K.device) - lr * K / n
    M = torch.outer(jacobian @ start, jacobian @ start)
    losses = [M.trace() / (2 * n)]
    for _ in range(whole("steps", steps)):
        noise = torch.diag(M.diagonal()) / n - M / n**2
        M = drift @ M @ drift + lr**2 / B * K @ noise @ K
        losses.append(M.trace() / (2 * n))
    return torch.stack(losses)


def growth_factor(jacobian: Tensor, *, lr: float, batch_size: int) -> float:
    """Factor by which E L_t of linearised SGD grows a step in the long run: stable exactly when it is at most 1.

    The spectral radius of N -> E[(I - lr H_batch) N (I - lr H_batch)] on the span of the rows of J; what is flat for
    every example plays no part. Batches with replacement. The operator is self-adjoint and keeps semi-definite
    matrices so, hence its radius is its largest eigenvalue, found by Lanczos. It is what ``expected_losses`` tends to,
    and what ``escape_rate`` bounds from below (Theorem 4).

    Args:
        jacobian: J at the minimum, shape (n, d); work grows like rank(J)^3 a product.

    Raises:
        ValueError: if J is not finite, or all of it is zero; if lr is not positive, or the batch size is not a positive
            whole number.
    """
    jacobian = _not_flat(jacobian)
    n, lr, share = len(jacobian), positive("lr", lr), 1 / whole("batch_size", batch_size)
    left, singular, _ = torch.linalg.svd(jacobian.detach().double().cpu(), full_matrices=False)
    kept = singular > singular[0] * max(jacobian.shape) * torch.finfo(torch.float64).eps
    rows = left[:, kept] * singular[kept]
    H = singular[kept] ** 2 / n
    rank = len(H)
    drift = torch.outer(1 - lr * H, 1 - lr * H)

    def step(flat: np.ndarray) -> np.ndarray:
        N = torch.from_numpy(flat.reshape(rank, rank))
        seen = ((rows @ N) * rows).sum(1) / n
        noise = rows.T @ (seen[:, None] * rows) - H[:, None] * N * H
        after: np.ndarray = (drift * N + lr**2 * share * noise).numpy().reshape(-1)
        return after

    if rank == 1:
        return float(step(np.ones(1))[0])
    operator = LinearOperator((rank**2, rank**2), matvec=step, dtype=np.float64)
    start = np.eye(rank).reshape(-1)
    return float(eigsh(operator, k=1, which="LA", v0=start, tol=1e-8, return_eigenvectors=False)[0])


def gaussian_growth_factor(curvatures: Tensor, variances: Tensor, *, lr: float, batch_size: int) -> float:
    """The same for gradient descent with added noise of covariance (2 L / B) V, V diagonal in the basis of H.

    With m_j = E h_j x_j^2, so that 2 E L = sum_j m_j, a step gives m_j <- (1 - lr h_j)^2 m_j + lr^2 h_j v_j / B sum m.
    V = H is the geometry-aware noise of the slides, V = Tr(H) / d the isotropic noise of the same total variance.

    Args:
        curvatures: h_j, eigenvalues of H, shape (d,), zeros included or left out alike.
        variances: v_j, shape (d,).

    Raises:
        ValueError: if the shapes differ, a variance is negative, lr is not positive, or the batch size is not a
            positive whole number.
    """
    h, v = floats_of("curvatures", curvatures).double(), floats_of("variances", variances).double()
    if bool((v < 0).any()):
        raise ValueError(f"variances must not be negative, got {v.min().item():.3g}")
    if h.shape != v.shape or h.ndim != 1:
        raise ValueError(f"give one variance for each curvature, got shapes {tuple(h.shape)} and {tuple(v.shape)}")
    lr, B = positive("lr", lr), whole("batch_size", batch_size)
    entering = lr**2 * h * v / B
    matrix = torch.diag((1 - lr * h) ** 2) + entering[:, None]
    return float(torch.linalg.eigvals(matrix).abs().max())


@dataclass(frozen=True)
class Escape:
    """Losses along independent paths of linearised SGD.

    Attributes:
        losses: shape (steps + 1, paths).
    """

    losses: Tensor

    @property
    def mean(self) -> Tensor:
        """Mean loss after t steps, shape (steps + 1,)."""
        return self.losses.mean(1)

    @property
    def standard_error(self) -> Tensor:
        """Of the mean, shape (steps + 1,). Losses on escape are heavy-tailed: trust it early on only."""
        return self.losses.std(1) / math.sqrt(self.losses.shape[1])


def escape(jacobian: Tensor, start: Tensor, *, lr: float, batch_size: int, steps: int, paths: int, seed: int) -> Escape:
    """Many paths of linearised SGD from one displacement, all at once. Arguments as ``expected_losses``.

    Raises:
        ValueError: as there, with fewer than 2 paths, and if a path overflows.
    """
    jacobian, start = _with_start(jacobian, start)
    n, B, paths = len(jacobian), whole("batch_size", batch_size), whole("paths", paths, least=2)
    step = positive("lr", lr) / B * (jacobian @ jacobian.T)
    generator = generator_from(seed, jacobian.device)
    residuals = (jacobian @ start).repeat(paths, 1)
    losses = [residuals.square().mean(1) / 2]
    for _ in range(whole("steps", steps)):
        drawn = torch.randint(n, (paths, B), generator=generator, device=jacobian.device)
        batch = torch.zeros_like(residuals).scatter_add_(1, drawn, residuals.gather(1, drawn))
        residuals = residuals - batch @ step
        losses.append(residuals.square().mean(1) / 2)
    if not torch.isfinite(losses[-1]).all():
        raise ValueError(f"a path overflowed within {steps} steps; start closer to the minimum or take fewer steps")
    return Escape(torch.stack(losses))


# --- what enters --------------------------------------------------------------------------------------------


def _jacobian(values: Any) -> Tensor:
    jacobian = floats_of("jacobian", values)
    if jacobian.ndim != 2 or jacobian.numel() == 0:
        raise ValueError(f"jacobian must have shape (n, d), got {tuple(jacobian.shape)}")
    return jacobian


def _not_flat(values: Any) -> Tensor:
    jacobian = _jacobian(values)
    if not bool(jacobian.any()):
        raise ValueError("jacobian is zero: the outputs do not move with the weights, and there is no curvature")
    return jacobian


def _with_start(values: Any, start: Any) -> tuple[Tensor, Tensor]:
    jacobian = _jacobian(values)
    displacement = floats_of("start", start).to(jacobian)
    if displacement.shape != jacobian.shape[1:]:
        raise ValueError(f"start must have shape ({jacobian.shape[1]},), got {tuple(displacement.shape)}")
    return jacobian, displacement
