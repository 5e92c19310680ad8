"""Chapter 9: how many directions are sharp? Soft rank and Takeuchi's information criterion.

For a model fitted by maximum likelihood with the penalty (lam/2) ||w||^2 on n examples, let F be its Fisher
information (for cross-entropy and squared error: the Gauss-Newton matrix of the mean loss,
``curvature.gauss_newton``) and C_g = (1/n) sum_i g_i g_i^T the second moment of the per-example gradients
(``flatness.empirical_fisher``). To leading order in 1/n the expected gap between test and training loss is

    Tr((F + lam I)^{-1} C_g) / n        (regularised Takeuchi criterion, TIC),

and when the model is calibrated, C_g = F, this is the soft rank of F over n:

    rank_lam(F) = Tr F (F + lam I)^{-1} = sum_j e_j / (e_j + lam),

the number of directions in which the loss is sharper than lam. Rescaling a network makes curvature as large as
one likes, but a direction counts at most once. The source leaves out the division by n; ``predict_gap`` makes it.

The second half holds cheaper substitutes for the exact F: its diagonal, its diagonal blocks, Kronecker factors.
By concavity of e / (e + lam), diagonal >= block-diagonal >= exact: dropping correlations over-estimates.

Source: Shoham, Mor-Yosef and Avron, "Flatness After All?"; trace ratio: Thomas et al. (2020).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from helpers._checks import non_negative, positive, whole
from helpers._tensors import floats_of, symmetric
from helpers.curvature.batches import batches
from helpers.curvature.contracts import twice_differentiable
from helpers.curvature.precision import precise
from helpers.data import Split
from helpers.losses import Loss
from helpers.models import outputs, trainable

# --- the measures -------------------------------------------------------------------------------------------


def soft_rank(eigenvalues: Any, lam: float) -> float:
    """sum_j e_j / (e_j + lam): between 0 and the number of eigenvalues; falls as lam grows.

    Args:
        eigenvalues: of a positive semi-definite matrix, shape (d,): a tensor, an array or a list. Rounding below zero
            is accepted as long as it is negligible beside lam.
        lam: above zero.

    Raises:
        ValueError: if lam is not positive, an eigenvalue is not finite, or one is negative: the sum then has a pole at
            e = -lam, and is not a rank. Take the Gauss-Newton or Fisher matrix, not a Hessian away from a minimum.
    """
    lam, eigenvalues = positive("lam", lam), floats_of("eigenvalues", eigenvalues)
    if eigenvalues.ndim != 1 or len(eigenvalues) == 0:
        raise ValueError(f"give the eigenvalues as one vector (d,), got shape {tuple(eigenvalues.shape)}")
    lowest, largest = eigenvalues.min().item(), eigenvalues.abs().max().item()
    rounding = 10 * len(eigenvalues) * torch.finfo(eigenvalues.dtype).eps * largest
    if not lowest >= -rounding:
        raise ValueError(
            f"the matrix is indefinite, with an eigenvalue {lowest:.3g}: e / (e + lam) has a pole at e = -lam; "
            "use the Gauss-Newton or Fisher matrix instead of the Hessian"
        )
    if lowest < -1e-3 * lam:
        raise ValueError(f"lam = {lam:.3g} is below the rounding of the eigenvalues ({lowest:.3g}); use a larger lam")
    return float((eigenvalues / (eigenvalues + lam)).sum().item())


def tic(F: Any, C: Any, lam: float = 0.0) -> float:
    """Tr((F + lam I)^{-1} C): Takeuchi's criterion for lam = 0, its regularised form above.

    Args:
        F: Fisher information or Gauss-Newton matrix, positive semi-definite, shape (d, d).
        C: second moment of the per-example gradients, shape (d, d). On the sample that an over-parameterised model
            was fitted to, gradients are near zero and this criterion near zero with them, whatever the gap.

    Raises:
        ValueError: if lam is negative, shapes differ, a matrix is not symmetric, or F + lam I is not positive definite.
    """
    lam = non_negative("lam", lam)
    F, C = _alike(F, C)
    factor, failed = torch.linalg.cholesky_ex(F + lam * torch.eye(len(F), dtype=F.dtype, device=F.device))
    if failed:
        raise ValueError(
            f"F + lam I is not positive definite at lam = {lam:.3g}; raise lam, or check that F is semi-definite"
        )
    return float(torch.cholesky_solve(C, factor).trace().item())


def trace_ratio(F: Any, C: Any) -> float:
    """Tr C / Tr F (Thomas et al. 2020): 1 for a calibrated model, so it lacks the rank, and under-estimates.

    Raises:
        ValueError: if shapes differ or Tr F is not positive.
    """
    F, C = _alike(F, C)
    return float(C.trace().item()) / positive("the trace of F", F.trace().item())


def _alike(F: Any, C: Any) -> tuple[Tensor, Tensor]:
    """Both as symmetric tensors of one shape (d, d)."""
    F, C = symmetric("F", F), symmetric("C", C)
    if F.shape != C.shape:
        raise ValueError(f"F and C must be square and alike, got shapes {tuple(F.shape)} and {tuple(C.shape)}")
    return F, C


@dataclass(frozen=True)
class GapPrediction:
    """Predictions of the expected gap (test minus training loss), all divided by n.

    Attributes:
        soft_rank: rank_lam(F) / n, for a calibrated model.
        tic: Tr((F + lam I)^{-1} C) / n, whether calibrated or not.
        diagonal: soft rank of the diagonal of F over n, never below ``soft_rank``.
        trace_ratio: (Tr C / Tr F) / n.
    """

    soft_rank: float
    tic: float
    diagonal: float
    trace_ratio: float


def predict_gap(F: Any, C: Any, lam: float, *, n: int) -> GapPrediction:
    """The four predictions from F and C, shape (d, d), for a model fitted to n examples.

    F and C may be measured on other data than the n examples of the fit; held-out data is where C is trustworthy.

    Raises:
        ValueError: as ``soft_rank`` and ``tic``, and if n is not a positive whole number.
    """
    n, (F, C) = whole("n", n), _alike(F, C)
    return GapPrediction(
        soft_rank=soft_rank(torch.linalg.eigvalsh(F), lam) / n,
        tic=tic(F, C, lam) / n,
        diagonal=diagonal_soft_rank(F, lam) / n,
        trace_ratio=trace_ratio(F, C) / n,
    )


# --- cheaper than exact ---------------------------------------------------------------------------------------


def diagonal_soft_rank(F: Any, lam: float) -> float:
    """Soft rank of the diagonal of F: an upper bound on that of F. Errors as ``soft_rank`` and ``tic``."""
    return soft_rank(symmetric("F", F).diagonal(), lam)


def block_soft_rank(F: Any, lam: float, sizes: Sequence[int]) -> float:
    """Soft rank of the diagonal blocks of F: between the exact one and that of the diagonal.

    Args:
        sizes: of the blocks, in the order of the weights; ``layer_sizes`` gives one block a layer.

    Raises:
        ValueError: as ``soft_rank``, and if the sizes do not add up to d.
    """
    F, sizes = symmetric("F", F), [whole("every entry of sizes", size) for size in sizes]
    if sum(sizes) != len(F):
        raise ValueError(f"the blocks add up to {sum(sizes)} weights, F has {len(F)}")
    ends = torch.tensor(sizes).cumsum(0).tolist()
    blocks = [F[end - size : end, end - size : end] for end, size in zip(ends, sizes, strict=True)]
    return sum(soft_rank(torch.linalg.eigvalsh(block), lam) for block in blocks)


def layer_sizes(model: nn.Module) -> list[int]:
    """Number of trainable weights that each module holds itself (weight and bias together), in order."""
    counts = [sum(p.numel() for p in m.parameters(recurse=False) if p.requires_grad) for m in model.modules()]
    return [size for size in counts if size]


@precise
def kronecker_factors(model: nn.Module, loss: Loss, split: Any) -> list[tuple[Tensor, Tensor]]:
    """KFAC: for each linear layer z = W a + b the factors A = mean_i a_i a_i^T (a with a 1 appended if there is a
    bias) and B = mean_i J_i^T Lambda_i J_i, J_i = d outputs / d z_i, Lambda_i the Hessian of the loss in the outputs.

    Exact for a single layer under squared error; else it takes inputs and output sensitivities for independent.

    Args:
        split: a ``data.Split`` or what ``data.as_split`` takes.

    Raises:
        ValueError: if model, loss or sample cannot be measured (``curvature.contracts``); if a trainable weight is not
            in an nn.Linear, half of a layer is frozen, or one is used twice or on sequences.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.Linear) and any(p.requires_grad for p in m.parameters())]
    held = sum(p.numel() for layer in layers for p in layer.parameters() if p.requires_grad)
    if held != sum(p.numel() for p in trainable(model)):
        raise ValueError("Kronecker factors are for networks whose trainable weights are all in nn.Linear layers")
    if any(not p.requires_grad for layer in layers for p in layer.parameters()):
        raise ValueError("Kronecker factors need weight and bias of a layer to be trainable both, or frozen both")
    split = twice_differentiable(model, loss, split)
    seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def record(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if layer in seen or output.ndim != 2:
            raise ValueError("Kronecker factors need every linear layer to run once an example, on vectors")
        seen[layer] = (inputs[0].detach(), output)

    hooks = [layer.register_forward_hook(record) for layer in layers]
    sums: list[tuple[Tensor, Tensor]] = []
    try:
        for batch in batches(model, split):
            seen.clear()
            z = outputs(model, batch.inputs)
            new = _batch_factors([seen[layer] for layer in layers], layers, z, loss, batch)
            sums = [(A + a, B + b) for (A, B), (a, b) in zip(sums, new, strict=True)] if sums else new
    finally:
        for hook in hooks:
            hook.remove()
    return [(A / len(split), B / len(split)) for A, B in sums]


def _batch_factors(
    recorded: list[tuple[Tensor, Tensor]], layers: list[nn.Linear], z: Tensor, loss: Loss, batch: Split
) -> list[tuple[Tensor, Tensor]]:
    """The factors of a batch, summed over its examples."""
    rows = z.reshape(len(batch), -1)

    def one(output: Tensor, target: Tensor) -> Tensor:
        return loss(output[None], target[None])[0]

    Lambda = torch.func.vmap(torch.func.hessian(one))(rows.detach(), batch.targets)
    # one backward pass for each output gives the rows of all J_i, since examples do not mix
    per_output = [
        torch.autograd.grad(column.sum(), [left for _, left in recorded], retain_graph=True)
        for column in rows.unbind(1)
    ]
    factors = []
    for layer, (a, _), J in zip(layers, recorded, zip(*per_output, strict=True), strict=True):
        if layer.bias is not None:
            a = torch.cat([a, torch.ones_like(a[:, :1])], dim=1)
        J_i = torch.stack(J, dim=1)
        factors.append((a.T @ a, (J_i.mT @ Lambda @ J_i).sum(0)))
    return factors
