"""One Krylov space, three uses: shifted systems, the edges of the spectrum, its density.

The Lanczos process turns a symmetric matrix H, known by its products, into a small tridiagonal T and an orthonormal
basis V of span{b, Hb, H^2 b, ...} with V^T H V = T. Orthogonality is enforced in full, twice: products with the
Hessian of a network cost far more than that, and without it Ritz values repeat and residuals lie.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal, solve
from torch import Tensor, nn

from helpers.curvature.batches import total
from helpers.curvature.products import hessian_operator
from helpers.data import Split
from helpers.losses import Loss
from helpers.models import trainable

Matvec = Callable[[Tensor], Tensor]
ROWS = 8  # basis vectors stored in one block


class Lanczos:
    """Orthonormal basis of the Krylov space of ``matvec`` from ``start`` (d,), grown one product at a time.

    Attributes:
        diagonal, off_diagonal: entries of T; off_diagonal[j] couples basis vectors j and j + 1.
        exhausted: the space is invariant, so T's eigenvalues are eigenvalues of H.

    Raises:
        ValueError: if the start vector is zero or a product is not finite.
    """

    def __init__(self, matvec: Matvec, start: Tensor) -> None:
        norm = start.norm()
        if not (torch.isfinite(norm) and norm > 0):
            raise ValueError("the Lanczos process needs a finite start vector that is not zero")
        self._matvec = matvec
        self._blocks: list[Tensor] = []  # (ROWS, d) each; rows still to come are zero
        self.diagonal: list[float] = []
        self.off_diagonal: list[float] = []
        self.exhausted = False
        self._append(start / norm)

    @property
    def size(self) -> int:
        """Number of products made, and the dimension of T."""
        return len(self.diagonal)

    def extend(self) -> None:
        """One more product, one more row of T."""
        vector = self._blocks[-1][self.size % ROWS]
        product = self._matvec(vector)
        self.diagonal.append(torch.dot(vector, product).item())
        for _ in range(2):  # Gram-Schmidt, twice, is orthogonal to machine precision
            for block in self._blocks:
                product = product - block.T @ (block @ product)
        coupling = product.norm().item()
        if not np.isfinite(coupling):
            raise ValueError("a Hessian-vector product is not finite; the weights or the loss diverged")
        self.off_diagonal.append(coupling)
        scale = max(map(abs, self.diagonal))
        self.exhausted = coupling <= 10 * torch.finfo(product.dtype).eps * max(scale, coupling, 1e-300) or (
            self.size == len(product)
        )
        if not self.exhausted:
            self._append(product / coupling)

    def _append(self, vector: Tensor) -> None:
        if self.size % ROWS == 0:
            self._blocks.append(vector.new_zeros(ROWS, len(vector)))
        self._blocks[-1][self.size % ROWS] = vector

    def combine(self, coefficients: np.ndarray) -> Tensor:
        """V y: coefficients (size, m) in the basis to vectors (m, d)."""
        like = self._blocks[0]
        rows = torch.as_tensor(coefficients.T, dtype=like.dtype, device=like.device).split(ROWS, dim=1)
        return total(piece @ block[: piece.shape[1]] for piece, block in zip(rows, self._blocks, strict=False))


# --- (H + c I) x = b for many c -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shifted:
    """Solutions of (H + c I) x = b, one for each shift c.

    Attributes:
        solutions: shape (shifts, d).
        residuals: ||b - (H + c I) x|| / ||b||, shape (shifts,), float64.
        converged: residual within rtol, shape (shifts,), bool.
        negative_curvature: H + c I was found indefinite, shape (shifts,), bool; the solution is then the last
            conjugate-gradient iterate before it showed (x = 0 if it showed at once).
        iterations: products with H made.
    """

    solutions: Tensor
    residuals: Tensor
    converged: Tensor
    negative_curvature: Tensor
    iterations: int


def solve_shifted(
    matvec: Matvec, rhs: Tensor, shifts: Sequence[float], *, rtol: float = 1e-6, max_iterations: int = 200
) -> Shifted:
    """Conjugate gradients for every shift at once: one product with H an iteration, whatever the number of shifts.

    All H + c I share the Krylov spaces of H. The j-th conjugate-gradient iterate is V_j y with (T_j + c I) y =
    ||b|| e_1; with the pivots p_1, p_2, ... of T + c I, its residual norm is ||b|| prod_i (t_{i+1,i} / p_i), and a
    pivot that is not positive is negative curvature. Iterates until every shift has converged or shown negative
    curvature, or the cap is reached.

    Args:
        matvec: product with a symmetric H, (d,) to (d,).
        rhs: b, shape (d,).
        shifts: the values c.
        rtol: on the residual relative to ||b||.
        max_iterations: cap on products; a shift that needs more is reported as not converged.

    Raises:
        ValueError: if there is no shift, a shift or b is not finite, or a tolerance is not positive.
    """
    if len(shifts) == 0 or not np.isfinite(shifts).all():
        raise ValueError(f"give at least one finite shift, got {list(shifts)}")
    if rtol <= 0 or max_iterations < 1:
        raise ValueError(f"rtol and max_iterations must be positive, got {rtol} and {max_iterations}")
    count = len(shifts)
    if not rhs.any():
        nothing, zero = torch.zeros(count, dtype=torch.bool), torch.zeros(count, dtype=torch.float64)
        return Shifted(rhs.new_zeros(count, len(rhs)), zero, ~nothing, nothing, 0)
    krylov = Lanczos(matvec, rhs)
    systems = [_ShiftedSystem(float(shift)) for shift in shifts]
    while krylov.size < max_iterations and not krylov.exhausted:
        krylov.extend()
        for system in systems:
            system.advance(krylov)
        if all(system.indefinite or system.residual <= rtol for system in systems):
            break
    norm = rhs.norm().item()
    coefficients = np.stack([system.coefficients(krylov) for system in systems], axis=1)
    residuals = torch.tensor([system.residual for system in systems], dtype=torch.float64)
    return Shifted(
        solutions=krylov.combine(norm * coefficients),
        residuals=residuals,
        converged=residuals <= rtol,
        negative_curvature=torch.tensor([system.indefinite for system in systems]),
        iterations=krylov.size,
    )


class _ShiftedSystem:
    """The Cholesky pivots of T + c I as T grows, and the relative residual of the iterate that they stand for."""

    def __init__(self, shift: float) -> None:
        self.shift = shift
        self.size = 0
        self.pivot = 0.0
        self.residual = 1.0
        self.indefinite = False

    def advance(self, krylov: Lanczos) -> None:
        if self.indefinite:
            return
        row = krylov.size - 1
        pivot = krylov.diagonal[row] + self.shift
        if row:
            pivot -= krylov.off_diagonal[row - 1] ** 2 / self.pivot
        if pivot <= 0:
            self.indefinite = True
            return
        self.size, self.pivot = krylov.size, pivot
        self.residual = 0.0 if krylov.exhausted else self.residual * krylov.off_diagonal[row] / pivot

    def coefficients(self, krylov: Lanczos) -> np.ndarray:
        """y with (T + c I) y = e_1 on the leading positive definite block, zero beyond it; shape (krylov.size,)."""
        y = np.zeros(krylov.size)
        if self.size:
            couplings = krylov.off_diagonal[: self.size - 1]
            T = np.diag(krylov.diagonal[: self.size]) + np.diag(couplings, 1) + np.diag(couplings, -1)
            y[: self.size] = solve(T + self.shift * np.eye(self.size), np.eye(self.size)[0], assume_a="pos")
        return y


# --- The spectrum ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Edge:
    """Both ends of a spectrum.

    Attributes:
        largest: the algebraically largest eigenvalues, descending, shape (count,), float64.
        smallest: the algebraically smallest eigenvalues, ascending, shape (count,), float64.
        largest_error, smallest_error: a bound on the distance of each to an exact eigenvalue, shape (count,).
        vector: unit eigenvector estimate that belongs to ``largest[0]``, shape (d,).
        iterations: products with H made.
        nodes, weights: all Ritz values, ascending, and their shares (sum 1), shape (iterations,), float64: a quadrature
            of the spectrum from one probe, so that d sum_j weights_j f(nodes_j) estimates Tr f(H).
    """

    largest: Tensor
    smallest: Tensor
    largest_error: Tensor
    smallest_error: Tensor
    vector: Tensor
    iterations: int
    nodes: Tensor
    weights: Tensor


def extreme_eigenvalues(
    model: nn.Module,
    loss: Loss,
    split: Split,
    *,
    count: int = 1,
    rtol: float = 1e-3,
    max_iterations: int = 100,
    seed: int = 0,
) -> Edge:
    """The ``count`` largest and smallest eigenvalues of the Hessian of the mean loss, with error bounds.

    Lanczos from a random start until every error bound |t_{m+1,m} s_m| (s_m: last entry of the Ritz vector of T) is
    within ``rtol`` of the largest absolute Ritz value, or the cap is reached; then the bounds say what is left.

    Raises:
        ValueError: if count is not between 1 and d.
    """
    krylov = Lanczos(hessian_operator(model, loss, split), _random_signs(model, seed))
    d = sum(p.numel() for p in trainable(model))
    if not 1 <= count <= d:
        raise ValueError(f"count must lie between 1 and d = {d}, got {count}")
    while True:
        krylov.extend()
        ritz, vectors, errors = _ritz(krylov)
        ends = np.r_[:count, -count:0]
        settled = krylov.size >= 2 * count and errors[ends].max() <= rtol * np.abs(ritz).max()
        if krylov.exhausted or krylov.size >= max_iterations or settled:
            break
    top, bottom = np.s_[: -count - 1 : -1], np.s_[:count]
    return Edge(
        largest=torch.from_numpy(ritz[top].copy()),
        smallest=torch.from_numpy(ritz[bottom].copy()),
        largest_error=torch.from_numpy(errors[top].copy()),
        smallest_error=torch.from_numpy(errors[bottom].copy()),
        vector=krylov.combine(vectors[:, -1:])[0],
        iterations=krylov.size,
        nodes=torch.from_numpy(ritz),
        weights=torch.from_numpy(vectors[0] ** 2),
    )


@dataclass(frozen=True)
class SpectralDensity:
    """Stochastic Lanczos quadrature of the density of eigenvalues.

    Attributes:
        nodes: Ritz values of each probe, shape (probes, iterations), float64.
        weights: their shares of the d eigenvalues, same shape; each row sums to 1.
    """

    nodes: Tensor
    weights: Tensor

    def on(self, grid: Tensor, width: float) -> tuple[Tensor, Tensor]:
        """Density on a grid (m,), smoothed by a Gaussian of standard deviation ``width``: mean and standard error."""
        bumps = torch.exp(-0.5 * ((grid[:, None, None] - self.nodes) / width) ** 2) / (width * (2 * torch.pi) ** 0.5)
        return _mean_and_error((bumps * self.weights).sum(2))

    def mean(self, function: Callable[[Tensor], Tensor]) -> tuple[float, float]:
        """(1/d) Tr function(H) and its standard error: soft rank, share of negative eigenvalues, ..."""
        value, error = _mean_and_error((function(self.nodes) * self.weights).sum(1)[None])
        return value.item(), error.item()


def spectral_density(
    model: nn.Module, loss: Loss, split: Split, *, probes: int = 8, iterations: int = 50, seed: int = 0
) -> SpectralDensity:
    """Density of the Hessian's eigenvalues from ``probes`` random starts and ``iterations`` products each.

    Raises:
        ValueError: if there are fewer than two probes (no standard error) or no iteration.
    """
    if probes < 2 or iterations < 1:
        raise ValueError(f"at least 2 probes and 1 iteration are needed, got {probes} and {iterations}")
    nodes = torch.zeros(probes, iterations, dtype=torch.float64)
    weights = torch.zeros_like(nodes)
    for probe in range(probes):
        krylov = Lanczos(hessian_operator(model, loss, split), _random_signs(model, seed + 7919 * probe))
        while krylov.size < iterations and not krylov.exhausted:
            krylov.extend()
        ritz, vectors, _ = _ritz(krylov)
        nodes[probe, : krylov.size] = torch.from_numpy(ritz)
        weights[probe, : krylov.size] = torch.from_numpy(vectors[0] ** 2)
    return SpectralDensity(nodes, weights)


def _ritz(krylov: Lanczos) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eigenvalues of T ascending, its eigenvectors as columns, and the error bound of each."""
    ritz, vectors = eigh_tridiagonal(np.asarray(krylov.diagonal), np.asarray(krylov.off_diagonal[:-1]))
    errors = np.zeros_like(ritz) if krylov.exhausted else krylov.off_diagonal[-1] * np.abs(vectors[-1])
    return ritz, vectors, errors


def _random_signs(model: nn.Module, seed: int) -> Tensor:
    """A vector of independent random signs, shape (d,)."""
    weight = trainable(model)[0]
    d = sum(p.numel() for p in trainable(model))
    signs = torch.randint(0, 2, (d,), generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return signs.to(dtype=weight.dtype, device=weight.device)


def _mean_and_error(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over the last axis and its standard error."""
    return samples.mean(-1), samples.std(-1) / samples.shape[-1] ** 0.5
