"""k eigenvectors of the Hessian at once: block Lanczos, to which repeated eigenvalues are no trouble.

A Krylov space of one vector holds one vector of each eigenspace, so an eigenvalue that is repeated counts once. From a
block of k random vectors, span{B, HB, H^2 B, ...} holds k of them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from helpers._checks import positive, whole
from helpers._generators import generator_from
from helpers.curvature.products import hessian_operator
from helpers.data import Split
from helpers.losses import Loss
from helpers.models import trainable


@dataclass(frozen=True)
class Eigenpairs:
    """The algebraically largest eigenvalues of H with orthonormal eigenvectors.

    Attributes:
        values: descending, shape (k,), float64; an eigenvalue of multiplicity m comes m times.
        vectors: shape (k, d), orthonormal rows. Of a repeated eigenvalue they are some basis of its eigenspace.
        residuals: |H v - value v|, shape (k,), float64, from a closing product each: an exact eigenvalue lies so near.
        converged: every residual is within rtol of the largest absolute Ritz value.
        products: products with H made.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    converged: bool
    products: int


def eigenvectors(
    model: nn.Module,
    loss: Loss,
    split: Split,
    *,
    count: int = 1,
    rtol: float = 1e-3,
    max_iterations: int = 100,
    seed: int = 0,
) -> Eigenpairs:
    """The ``count`` largest eigenvalues of the Hessian of the mean loss, and their eigenvectors.

    A random block of ``count`` vectors is multiplied by H and made orthogonal to all earlier ones, twice, until the
    residual of every Ritz pair is within ``rtol`` of the largest absolute Ritz value. Stored: count vectors an
    iteration.

    Args:
        max_iterations: blocks at most, of ``count`` products each; the residuals say what is left then.

    Raises:
        ValueError: if count is not between 1 and d, rtol is not positive, or a product is not finite.
    """
    positive("rtol", rtol)
    product, like = hessian_operator(model, loss, split), trainable(model)[0]
    d = sum(p.numel() for p in trainable(model))
    count = whole("count", count)
    if count > d:
        raise ValueError(f"count must lie between 1 and d = {d}, got {count}")
    start = torch.randn(count, d, dtype=torch.float64, generator=generator_from(seed)).to(like)
    basis, block = start[:0], _orthonormal(start, start[:0])
    images = start[:0]
    for _ in range(whole("max_iterations", max_iterations)):
        basis = torch.cat([basis, block])
        images = torch.cat([images, product(block.T).T])
        T = (basis @ images.T).double()
        ritz, coordinates = torch.linalg.eigh((T + T.T) / 2)
        top = coordinates[:, -count:].T.flip(0).to(like)
        vectors = top @ basis
        values = ritz[-count:].flip(0)
        residuals = (top @ images - values[:, None].to(like) * vectors).norm(dim=1)
        block = _orthonormal(images[-len(block) :], basis)
        if bool((residuals <= rtol * ritz.abs().max()).all()) or len(block) == 0:
            break
    left = (product(vectors.T).T - values[:, None].to(like) * vectors).norm(dim=1).double().cpu()
    scale = ritz.abs().max().item()
    rounding = 10 * torch.finfo(like.dtype).eps * scale
    converged = bool((left <= max(rtol * scale, rounding)).all())
    return Eigenpairs(values.cpu(), vectors, left, converged, len(basis) + count)


def _orthonormal(block: Tensor, basis: Tensor) -> Tensor:
    """An orthonormal basis of what the block (m, d) adds to an orthonormal one; fewer rows where it adds less."""
    rows: list[Tensor] = []
    tiny = 100 * torch.finfo(block.dtype).eps * block.norm()
    for row in block:
        for _ in range(2):
            for earlier in (basis, torch.stack(rows) if rows else block[:0]):
                row = row - earlier.T @ (earlier @ row)
        if row.norm() > tiny:
            row = row / row.norm()
            for earlier in (basis, torch.stack(rows) if rows else block[:0]):
                row = row - earlier.T @ (earlier @ row)
            rows.append(row / row.norm())
    return torch.stack(rows) if rows else block[:0]
