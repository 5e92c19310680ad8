"""Per-example losses, and the sub-Gaussian constant R that each of them licenses.

A bound speaks of one *evaluation* loss: its values, gradients and Hessians must all come from the same
function. A loss with values in [0, u] is u/2-sub-Gaussian (Hoeffding's lemma), for every weight vector and every
data distribution; that is where R comes from, and the only place. Training may minimise any other loss.
"""

from dataclasses import dataclass
from math import isfinite, log
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor


class Loss(Protocol):
    """What the estimators ask of a loss: per-example values, and its constant R."""

    @property
    def R(self) -> float: ...

    def __call__(self, outputs: Tensor, targets: Tensor, /) -> Tensor: ...


@runtime_checkable
class Sketchable(Protocol):
    """A loss, convex in the outputs, whose Gauss-Newton matrix has a one-backward random sketch.

    ``sketch(outputs, targets, signs)`` returns s of shape (n,) with, for independent random signs,
    ``E[grad s_i grad s_j^T] = [i == j] J_i^T (Hessian of the loss in the outputs) J_i``.
    """

    def sketch(self, outputs: Tensor, targets: Tensor, signs: Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class ClippedCrossEntropy:
    """min(cross-entropy, clip) in nats, so that values lie in [0, clip] and R = clip / 2.

    A clipped example has loss ``clip`` and zero gradient and Hessian: the clip belongs to the loss, not only to
    its printed value. Logits have shape (n, classes), targets (n,) integers; the result has shape (n,).

    Raises:
        ValueError: if the clip is not a positive finite number.

    >>> ClippedCrossEntropy.per_class(10).R          # Peng et al.: clip at 12 log 10
    13.815510557964274
    """

    clip: float

    def __post_init__(self) -> None:
        if not (isfinite(self.clip) and self.clip > 0):
            raise ValueError(
                f"the clip must be a positive finite number of nats, got {self.clip}; try 12 * log(classes)"
            )

    @classmethod
    def per_class(cls, classes: int, factor: float = 12.0) -> "ClippedCrossEntropy":
        """The clip ``factor * log(classes)``: a multiple of the loss of a uniform guess."""
        return cls(factor * log(classes))

    @property
    def R(self) -> float:
        return self.clip / 2

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        cross_entropy = F.cross_entropy(logits, targets, reduction="none")
        # torch.where, not clamp: at and above the clip the derivative is exactly zero, a NaN stays a NaN.
        return torch.where(cross_entropy >= self.clip, cross_entropy.detach().clamp(max=self.clip), cross_entropy)

    def sketch(self, logits: Tensor, targets: Tensor, signs: Tensor) -> Tensor:
        """sum_c signs_ic sqrt(p_ic) log p_ic with sqrt(p) held constant; zero where the example is clipped.

        The Hessian of cross-entropy in the logits is diag(p) - p p^T = sum_c p_c (grad log p_c)(grad log p_c)^T.
        """
        log_p = F.log_softmax(logits, dim=1)
        root_p = (0.5 * log_p.detach()).exp()
        active = -log_p.detach().gather(1, targets[:, None]).squeeze(1) < self.clip
        return (signs * root_p * log_p).sum(1) * active


@dataclass(frozen=True)
class HalfSquaredError:
    """(f(x) - y)^2 / 2 for a scalar output f(x): shapes (n,) or (n, 1) against targets (n,).

    On an unbounded weight space this loss has *no* finite sub-Gaussian constant (theorems that assume one do so
    silently); R is therefore an argument: the constant that you are able to justify, or a bookkeeping value.

    Raises:
        ValueError: if R is not a positive finite number.
    """

    R: float = 1.0

    def __post_init__(self) -> None:
        if not (isfinite(self.R) and self.R > 0):
            raise ValueError(f"R must be a positive finite number, got {self.R}")

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return 0.5 * (outputs.reshape(len(targets)) - targets).square()

    def sketch(self, outputs: Tensor, targets: Tensor, signs: Tensor) -> Tensor:
        """signs_i f(x_i): the Hessian of the loss in the output is 1."""
        return (signs * outputs.reshape(signs.shape)).sum(1)


@dataclass(frozen=True)
class ZeroOneError:
    """1 where the class of the largest logit is not the target, else 0; R = 1/2. It has no useful derivative."""

    @property
    def R(self) -> float:
        return 0.5

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        return (logits.argmax(1) != targets).to(logits.dtype)


def clipped_share(values: Tensor, loss: Loss) -> float:
    """Share of examples that cost the full clip; 0 for a loss that does not clip.

    Args:
        values: per-example losses, shape (n,).
    """
    clip = getattr(loss, "clip", None)
    return 0.0 if clip is None else (values >= clip).double().mean().item()
