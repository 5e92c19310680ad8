"""One Krylov space and what it shows of the spectrum: its edges, its density. ``shifted`` solves systems in it.

The Lanczos process turns a symmetric matrix H, known by its products, into a small tridiagonal T and an orthonormal
basis V of span{b, Hb, H^2 b, ...} with V^T H V = T. Orthogonality is enforced in full, twice: products with the
Hessian of a network cost far more than that, and without it Ritz values repeat and residuals lie.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal
from torch import Tensor, nn

from helpers._checks import positive, seed_of, whole
from helpers._generators import generator_from
from helpers.curvature.batches import total
from helpers.curvature.products import hessian_operator
from helpers.data import Split
from helpers.losses import Loss
from helpers.models import trainable

Matvec = Callable[[Tensor], Tensor]
ROWS = 8  # basis vectors stored in one block


def product_of(matvec: Matvec, vector: Tensor) -> Tensor:
    """The product with a vector; ValueError if it is no vector of the same size and type."""
    product = matvec(vector)
    if not isinstance(product, Tensor) or product.shape != vector.shape or product.dtype != vector.dtype:
        kind = type(product).__name__
        got = f"{product.dtype} {tuple(product.shape)}" if isinstance(product, Tensor) else f"a {kind}"
        raise ValueError(f"matvec must give a vector of {vector.dtype} and shape {tuple(vector.shape)}, got {got}")
    return product


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
    def rounding(self) -> float:
        """Relative error that products in this precision leave, whatever the process shows."""
        return 10 * torch.finfo(self._blocks[0].dtype).eps

    @property
    def size(self) -> int:
        """Number of products made, and the dimension of T."""
        return len(self.diagonal)

    def extend(self) -> None:
        """One more product, one more row of T."""
        vector = self._blocks[-1][self.size % ROWS]
        product = product_of(self._matvec, vector)
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

    def restart(self, start: Tensor) -> None:
        """Go on from the part of ``start`` that is orthogonal to an exhausted space: T gets a block of its own."""
        for _ in range(2):
            for block in self._blocks:
                start = start - block.T @ (block @ start)
        self.off_diagonal[-1] = 0.0
        self.exhausted = False
        self._append(start / start.norm())

    def combine(self, coefficients: np.ndarray) -> Tensor:
        """V y: coefficients (size, m) in the basis to vectors (m, d)."""
        like = self._blocks[0]
        rows = torch.as_tensor(coefficients.T, dtype=like.dtype, device=like.device).split(ROWS, dim=1)
        return total(piece @ block[: piece.shape[1]] for piece, block in zip(rows, self._blocks, strict=False))


# --- The spectrum ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Edge:
    """Both ends of a spectrum.

    Attributes:
        largest: the algebraically largest eigenvalues, descending, shape (count,), float64.
        smallest: the algebraically smallest eigenvalues, ascending, shape (count,), float64.
        largest_error, smallest_error: a bound on the distance of each to an exact eigenvalue, shape (count,).
        vector: unit eigenvector estimate that belongs to ``largest[0]``, shape (d,).
        counts_copies: an eigenvalue that is repeated exactly is listed as often as it occurs (up to ``count``); if
            not, it is listed once (``eigenvectors`` finds all of them).
        iterations: products with H made.
        nodes, weights: all Ritz values, ascending, and their shares (sum 1), shape (iterations,), float64: a quadrature
            of the spectrum from one probe, so that d sum_j weights_j f(nodes_j) estimates Tr f(H).
    """

    largest: Tensor
    smallest: Tensor
    largest_error: Tensor
    smallest_error: Tensor
    vector: Tensor
    counts_copies: bool
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

    Lanczos from a normal start, which almost surely reaches every eigenspace (random signs may miss one), until every
    error bound |t_{m+1,m} s_m| (s_m: last entry of the Ritz vector of T) is within ``rtol`` of the largest absolute
    Ritz value, or the cap is reached; then the bounds say what is left.

    A Krylov space holds one vector of each eigenspace that its start reaches. Where it is exhausted, new starts
    orthogonal to it find what the first has missed and the copies of a repeated eigenvalue. Where it is not, an
    eigenvalue that is repeated exactly counts once (``Edge.counts_copies``).

    Raises:
        ValueError: if count is not between 1 and d, rtol is not positive, or max_iterations no whole number from 1.
    """
    rtol, max_iterations = positive("rtol", rtol), whole("max_iterations", max_iterations)
    product, d = hessian_operator(model, loss, split), sum(p.numel() for p in trainable(model))
    count, seed = whole("count", count), seed_of(seed)
    if not 1 <= count <= d:
        raise ValueError(f"count must lie between 1 and d = {d}, got {count}")
    krylov = Lanczos(product, _random_direction(model, seed))
    spaces = 1
    while True:
        krylov.extend()
        ritz, vectors, errors = _ritz(krylov)
        capped = krylov.size >= max(max_iterations, count)
        if spaces == 1 and not krylov.exhausted:
            ends = np.r_[:count, -count:0]
            settled = krylov.size >= 2 * count and errors[ends].max() <= rtol * np.abs(ritz).max()
        else:  # each start shows one more copy of every eigenvalue
            settled = krylov.exhausted and spaces > count
        if krylov.size == d or capped or settled:
            break
        if krylov.exhausted:
            krylov.restart(_random_direction(model, seed + krylov.size))
            spaces += 1
    top, bottom = np.s_[: -count - 1 : -1], np.s_[:count]
    return Edge(
        largest=torch.from_numpy(ritz[top].copy()),
        smallest=torch.from_numpy(ritz[bottom].copy()),
        largest_error=torch.from_numpy(errors[top].copy()),
        smallest_error=torch.from_numpy(errors[bottom].copy()),
        vector=krylov.combine(vectors[:, -1:])[0],
        counts_copies=krylov.size == d or (krylov.exhausted and spaces > count),
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
        positive("width", width)
        bumps = torch.exp(-0.5 * ((grid[:, None, None] - self.nodes) / width) ** 2) / (width * (2 * torch.pi) ** 0.5)
        return _mean_and_error((bumps * self.weights).sum(2))

    def mean(self, function: Callable[[Tensor], Tensor]) -> tuple[float, float]:
        """(1/d) Tr function(H) and its standard error: soft rank, share of negative eigenvalues, ...

        Raises:
            ValueError: if the function is not finite at a node.
        """
        if not bool(torch.isfinite(function(self.nodes)).all()):
            raise ValueError("the function is not finite at an eigenvalue estimate; shift or bound it")
        value, error = _mean_and_error((function(self.nodes) * self.weights).sum(1)[None])
        return value.item(), error.item()


def spectral_density(
    model: nn.Module, loss: Loss, split: Split, *, probes: int = 8, iterations: int = 50, seed: int = 0
) -> SpectralDensity:
    """Density of the Hessian's eigenvalues from ``probes`` random starts and ``iterations`` products each.

    Raises:
        ValueError: if there are fewer than two probes (no standard error) or no iteration.
    """
    probes, iterations = whole("probes", probes, least=2), whole("iterations", iterations)
    seed = seed_of(seed)
    nodes = torch.zeros(probes, iterations, dtype=torch.float64)
    weights = torch.zeros_like(nodes)
    for probe in range(probes):
        krylov = Lanczos(hessian_operator(model, loss, split), _random_signs(model, seed + 7919 * probe))
        while krylov.size < iterations and not krylov.exhausted:
            krylov.extend()
        ritz, vectors, _ = _ritz(krylov)
        nodes[probe] = ritz[0]  # nodes of weight zero fill the row of a space that was exhausted early
        nodes[probe, : krylov.size] = torch.from_numpy(ritz)
        weights[probe, : krylov.size] = torch.from_numpy(vectors[0] ** 2)
    return SpectralDensity(nodes, weights)


def _ritz(krylov: Lanczos) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eigenvalues of T ascending, its eigenvectors as columns, and the error bound of each."""
    ritz, vectors = eigh_tridiagonal(np.asarray(krylov.diagonal), np.asarray(krylov.off_diagonal[:-1]))
    coupling = 0.0 if krylov.exhausted else krylov.off_diagonal[-1]
    return ritz, vectors, coupling * np.abs(vectors[-1]) + krylov.rounding * np.abs(ritz).max()


def _random_signs(model: nn.Module, seed: int) -> Tensor:
    """A vector of independent random signs, shape (d,)."""
    weight = trainable(model)[0]
    d = sum(p.numel() for p in trainable(model))
    signs = torch.randint(0, 2, (d,), generator=generator_from(seed)) * 2 - 1
    return signs.to(dtype=weight.dtype, device=weight.device)


def _random_direction(model: nn.Module, seed: int) -> Tensor:
    """A Gaussian vector (d,): almost surely it is orthogonal to no eigenvector and repeats no earlier start."""
    weight, d = trainable(model)[0], sum(p.numel() for p in trainable(model))
    normal = torch.randn(d, dtype=torch.float64, generator=generator_from(seed))
    return normal.to(dtype=weight.dtype, device=weight.device)


def _mean_and_error(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over the last axis and its standard error."""
    return samples.mean(-1), samples.std(-1) / samples.shape[-1] ** 0.5
