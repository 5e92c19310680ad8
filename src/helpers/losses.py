"""Per-example losses, and the sub-Gaussian constant R that each of them licenses.

A bound speaks of one *evaluation* loss: its values, gradients and Hessians must all come from the same
function. A loss with values in [0, u] is u/2-sub-Gaussian (Hoeffding's lemma), for every weight vector and every
data distribution; that is where R comes from, and the only place. Training may minimise any other loss.

``per_example`` is the one place where a loss is evaluated: it refuses everything but one value an example.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite, log, sqrt
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers._generators import shared_generators, unchanged

MANY = 128  # examples in a batch on which a loss is tried


class Loss(Protocol):
    """What the estimators ask of a loss: per-example values, and its constant R."""

    @property
    def R(self) -> float: ...

    def __call__(self, outputs: Tensor, targets: Tensor, /) -> Tensor: ...


@runtime_checkable
class Sketchable(Protocol):
    """A loss, convex in the outputs, whose Gauss-Newton matrix has a one-backward random sketch.

    ``sketch(outputs, targets, signs)`` returns s of shape (n,) with, for independent random signs,
    ``E[grad s_i grad s_j^T] = [i == j] J_i^T (Hessian of the loss in the outputs) J_i``. Outputs and signs come as
    rows, shape (n, outputs of an example).
    """

    def sketch(self, outputs: Tensor, targets: Tensor, signs: Tensor, /) -> Tensor: ...


@runtime_checkable
class Demanding(Protocol):
    """A loss that says what is wrong with outputs and targets before anything is computed from them."""

    def check(self, outputs: Tensor, targets: Tensor, /) -> None: ...


def check_callable(loss: object) -> None:
    """Refuse what is no function of outputs and targets: the name of a loss, or a class that was not called."""
    if isinstance(loss, type) or not callable(loss):
        what = f"the class {loss.__name__}; make an instance of it" if isinstance(loss, type) else repr(loss)[:60]
        raise ValueError(f"loss must be a function of outputs and targets, got {what}")


def per_example(loss: Callable[[Tensor, Tensor], Tensor], outputs: Tensor, targets: Tensor) -> Tensor:
    """The loss of every example, shape (n,).

    Raises:
        ValueError: if the loss returns anything else, such as the mean that ``nn.CrossEntropyLoss()`` takes, or numbers
            that are not floating; if it fails on a target that names no class of the outputs.
    """
    try:
        values = loss(outputs, targets)
    except torch.OutOfMemoryError:
        raise
    except (IndexError, RuntimeError) as error:  # as PyTorch's own losses do, each in other words
        if not targets.is_floating_point() and targets.ndim == outputs.ndim - 1:
            _check_classes(targets, outputs.shape[1])
        if "expected scalar type" not in str(error):
            raise
        raise ValueError(f"loss has tensors (class weights?) of another type than outputs: {error}") from error
    n = len(targets)
    if not isinstance(values, Tensor) or values.shape != (n,):
        shape = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else f"a {type(values).__name__}"
        raise ValueError(
            f"loss must return one value an example, shape ({n},), but returned {shape}; take no mean or sum over "
            "examples (reduction='none', losses.ClippedCrossEntropy, or losses.PerSequence for sequences)"
        )
    if not values.is_floating_point():
        raise ValueError(f"loss must return real floating numbers, but returned {values.dtype}; convert them")
    return values


def check_targets(loss: Callable[[Tensor, Tensor], Tensor], outputs: Tensor, targets: Tensor) -> None:
    """Refuse targets that the loss would misread: of no class, no distribution, or left out without a word.

    PyTorch's losses count an example whose target is ``ignore_index`` (-100 unless given) as 0, and it would stay in
    the mean over examples. A loss that takes targets for class indices shows it: it fails on the index beside.

    Args:
        outputs, targets: those of some examples, (m, ...), and of all of them, (n, ...).

    Raises:
        ValueError: in the words of the loss's own ``check``, if it has one.
    """
    if isinstance(loss, Demanding):
        loss.check(outputs, targets)
    elif isinstance(loss, nn.CrossEntropyLoss) and targets.is_floating_point():
        ClippedCrossEntropy(1.0).check(outputs, targets)
    if targets.is_floating_point() or outputs.ndim < 2:
        return
    stray = (targets < 0) | (targets >= max(outputs.shape[1:]))
    ignored = targets == getattr(loss, "ignore_index", torch.nan)
    if bool(stray.any()):
        row = int(stray.reshape(len(stray), -1).any(1).nonzero()[0])
        odd, given = stray[row : row + 1], targets[row : row + 1]
        if _takes(loss, outputs[:1], given) and not _takes(loss, outputs[:1], given + given.sign() * odd):
            ignored = ignored | stray
    if bool(ignored.any()):
        raise ValueError(
            f"targets hold {targets[ignored][0].item()}, which the loss leaves out as its ignore_index and counts as 0 "
            "in the mean over examples; leave out examples without a class"
        )


def _takes(loss: Callable[[Tensor, Tensor], Tensor], outputs: Tensor, targets: Tensor) -> bool:
    """Whether the loss finds the classes; on the processor, since an index out of range would break a GPU's process."""
    try:
        with torch.no_grad(), unchanged(shared_generators()):
            loss(outputs.detach().cpu(), targets.cpu())
    except Exception as error:  # of a loss that does not live on the processor: in whatever words
        return not isinstance(error, IndexError)
    return True


def check_separable(loss: Callable[[Tensor, Tensor], Tensor], z: Tensor, targets: Tensor) -> Tensor:
    """The examples' losses, (m,), once they are seen not to depend on the rest of the batch or on chance.

    Tried as they are, again, one by one, in reverse, and repeated to a batch of ``MANY``. ValueError if one shows that
    they do, or the loss changes what it is given.
    """
    versions = z._version, targets._version
    with unchanged(shared_generators(z.device)) as drawn:
        together = per_example(loss, z, targets)
        if versions != (z._version, targets._version):
            raise ValueError("the loss changes outputs or targets in place; let it make new tensors")
        again = per_example(loss, z, targets)
        by_chance = drawn()
    if by_chance or _differ(together, again):
        raise ValueError("the loss draws at random, so it is no function of the weights; take the randomness out of it")
    alone = torch.cat([per_example(loss, z[i : i + 1], targets[i : i + 1]) for i in range(len(z))])
    turned = per_example(loss, z.flip(0), targets.flip(0)).flip(0)
    rows = torch.arange(MANY, device=z.device) % len(z)
    among_many = per_example(loss, z[rows], targets[rows])
    if _differ(together, alone) or _differ(together, turned) or _differ(together[rows], among_many):
        raise ValueError(
            "the loss of an example depends on the rest of its batch (outputs (n, 1) against targets (n,), a division "
            f"by n, a mean, or a choice of hard examples?): outputs are {tuple(z.shape)}, targets "
            f"{tuple(targets.shape)}; let it give each example its own value"
        )
    return together


def _differ(one: Tensor, other: Tensor) -> bool:
    return bool(((one - other).abs() > one.abs().max() * torch.finfo(one.dtype).eps ** 0.5).any())


@dataclass(frozen=True)
class ClippedCrossEntropy:
    """min(cross-entropy, clip) in nats, so that values lie in [0, clip] and R = clip / 2.

    A clipped example has loss ``clip`` and zero gradient and Hessian: the clip belongs to the loss, not only to
    its printed value. Logits have shape (n, classes); targets are class indices (n,), int64, or class probabilities
    (n, classes), floating; the result has shape (n,).

    Raises:
        ValueError: if the clip is not a positive finite number; in ``check``, if logits and targets do not fit.

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
        """The clip ``factor * log(classes)``: a multiple of the loss of a uniform guess.

        Raises:
            ValueError: if there are fewer than two classes, or the factor is not positive.
        """
        if classes < 2:
            raise ValueError(f"cross-entropy needs at least two classes, got {classes}")
        return cls(factor * log(classes))

    @property
    def R(self) -> float:
        return self.clip / 2

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        cross_entropy = F.cross_entropy(logits, targets, reduction="none")
        # torch.where, not clamp: at and above the clip the derivative is exactly zero, a NaN stays a NaN.
        return torch.where(cross_entropy >= self.clip, cross_entropy.detach().clamp(max=self.clip), cross_entropy)

    def check(self, logits: Tensor, targets: Tensor) -> None:
        """Refuse logits that are not (n, classes), and targets that name no class or are no distribution."""
        if logits.ndim != 2:
            raise ValueError(
                f"cross-entropy takes logits of shape (n, classes), the model returns {tuple(logits.shape)}; "
                "wrap the loss in losses.PerSequence where an example has a target for each position"
            )
        classes = logits.shape[1]
        if targets.is_floating_point():
            sums = targets.sum(1) if targets.ndim == 2 and targets.shape[1] == classes else targets.new_zeros(1)
            if not (bool((targets >= 0).all()) and bool((sums - 1).abs().max() < 1e-4)):
                raise ValueError(
                    f"targets must be class indices (n,) of type int64 or probabilities (n, {classes}) that sum to 1, "
                    f"got {targets.dtype} of shape {tuple(targets.shape)}"
                )
            return
        if targets.ndim != 1:
            raise ValueError(f"targets must be class indices of shape (n,), got shape {tuple(targets.shape)}")
        _check_classes(targets, classes)

    def sketch(self, logits: Tensor, targets: Tensor, signs: Tensor) -> Tensor:
        """sum_c signs_ic sqrt(p_ic) log p_ic with sqrt(p) held constant; zero where the example is clipped.

        The Hessian of cross-entropy in the logits is diag(p) - p p^T = sum_c p_c (grad log p_c)(grad log p_c)^T.
        """
        log_p = F.log_softmax(logits, dim=1)
        root_p = (0.5 * log_p.detach()).exp()
        active = F.cross_entropy(logits.detach(), targets, reduction="none") < self.clip
        return (signs * root_p * log_p).sum(1) * active


@dataclass(frozen=True)
class HalfSquaredError:
    """||f(x) - y||^2 / 2: outputs (n,) or (n, 1) against targets (n,), or outputs (n, m) against targets (n, m).

    On an unbounded weight space this loss has *no* finite sub-Gaussian constant (theorems that assume one do so
    silently); R is therefore an argument: the constant that you are able to justify, or a bookkeeping value.

    Raises:
        ValueError: if R is not a positive finite number; when called, if outputs and targets differ in shape.
    """

    R: float = 1.0

    def __post_init__(self) -> None:
        if not (isfinite(self.R) and self.R > 0):
            raise ValueError(f"R must be a positive finite number, got {self.R}")

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        rows, aims = outputs.reshape(len(outputs), -1), targets.reshape(len(targets), -1)
        if rows.shape != aims.shape or (outputs.ndim > 2 and targets.ndim > 2 and outputs.shape != targets.shape):
            raise ValueError(
                f"the squared error needs a target for each output: outputs have shape {tuple(outputs.shape)}, "
                f"targets {tuple(targets.shape)}; give targets of that shape, or use another loss"
            )
        return 0.5 * (rows - aims).square().sum(1)

    def sketch(self, outputs: Tensor, targets: Tensor, signs: Tensor) -> Tensor:
        """sum_c signs_ic f_c(x_i): the Hessian of the loss in the outputs is the identity."""
        return (signs * outputs.reshape(signs.shape)).sum(1)


@dataclass(frozen=True)
class PerSequence:
    """The mean of a loss over the positions of a sequence: outputs (n, T, ...) against targets (n, T, ...) to (n,).

    ``loss`` is any loss of this module, evaluated at every position; a mean of values in [0, u] lies in [0, u], so R is
    that of ``loss``. Every position counts alike: sequences of different lengths are different examples of different
    weight, and have no place in a mean over examples.
    """

    loss: Loss

    @property
    def R(self) -> float:
        return self.loss.R

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        steps = targets.shape[:2]
        if targets.ndim < 2 or outputs.shape[:2] != steps:
            raise ValueError(
                f"a loss per sequence needs outputs (n, T, ...) and targets (n, T, ...), "
                f"got {tuple(outputs.shape)} and {tuple(targets.shape)}"
            )
        return per_example(self.loss, outputs.flatten(0, 1), targets.flatten(0, 1)).view(steps).mean(1)

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """What the loss asks, position by position."""
        if targets.ndim >= 2 and outputs.ndim >= 2:
            check_targets(self.loss, outputs.flatten(0, 1), targets.flatten(0, 1))

    def sketch(self, outputs: Tensor, targets: Tensor, signs: Tensor) -> Tensor:
        """T^{-1/2} times the sum of the positions' sketches; cross terms vanish with independent signs."""
        if not isinstance(self.loss, Sketchable):
            raise ValueError(f"{type(self.loss).__name__} has no Gauss-Newton sketch; use method='hutchinson'")
        n, T = targets.shape[:2]
        positions = (outputs.reshape(n * T, -1), targets.flatten(0, 1), signs.reshape(n * T, -1))
        sketches: Tensor = self.loss.sketch(*positions)
        return sketches.view(n, T).sum(1) / sqrt(T)


@dataclass(frozen=True)
class ZeroOneError:
    """1 where the class of the largest logit is not the target, else 0; R = 1/2. It has no useful derivative.

    Logits have shape (n, classes), targets (n,) int64. An example whose logits hold a NaN has the value NaN.
    """

    piecewise_constant = True

    @property
    def R(self) -> float:
        return 0.5

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        wrong = (logits.argmax(1) != targets).to(logits.dtype)
        return torch.where(logits.isnan().any(1), torch.nan, wrong)

    def check(self, logits: Tensor, targets: Tensor) -> None:
        """Refuse logits that are not (n, classes), and targets that name no class."""
        if logits.ndim != 2 or targets.ndim != 1 or targets.is_floating_point():
            raise ValueError(
                f"the 0–1 error takes logits (n, classes) and class indices (n,) of type int64, "
                f"got {tuple(logits.shape)} and {targets.dtype} of shape {tuple(targets.shape)}"
            )
        _check_classes(targets, logits.shape[1])


def _check_classes(targets: Tensor, classes: int) -> None:
    low, high = targets.min().item(), targets.max().item()
    if low < 0 or high >= classes:
        stray = low if low < 0 else high
        raise ValueError(
            f"targets hold the class {stray}, but the model has outputs for the classes 0 to {classes - 1}; "
            "leave out examples without a class"
        )


def clipped_share(values: Tensor, loss: Loss) -> float:
    """Share of examples that cost the full clip; 0 for a loss that does not clip.

    Args:
        values: per-example losses, shape (n,).
    """
    clip = getattr(loss, "clip", None)
    return 0.0 if clip is None else (values >= clip).double().mean().item()
