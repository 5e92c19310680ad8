"""Chapters 5 and 8: can one train for flatness? Optimisers to put around any other optimiser.

===================  =====================================================================================
``SAM``              the gradient at the worst point nearby (Foret et al. 2021; Wu's slides, eq. 1), or, adaptive,
                     at the worst by the weights' own size (Kwon et al. 2021)
``AMP``              the gradient after one ascent step, cut to a ball (Zheng et al. 2021)
``GMP``              the mean gradient at random points nearby (Wang & Mao 2022, Section 6, Algorithm 2)
``AbsoluteGMP``      the same for losses that change either way (Wang & Mao 2022, E.7, Table 3)
``NVRM``             the gradient at one random point nearby (Xie et al. 2021)
``EntropySGD``       the way to the mean of a walk nearby (Chaudhari et al. 2017)
``DynamicClipping``  clips to a running minimum of gradient norms (Wang & Mao 2022, Algorithm 1)
``LaggedClipping``   clips to the norm of some steps earlier (Wang & Mao 2022, Section 5, main text)
===================  =====================================================================================

Each wraps a *base* optimiser, shares its parameters, groups and state (so that learning-rate schedules work
on either), and changes only the gradients that the base sees: momentum and weight decay are the base's own::

    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), rho=0.05)

    def closure():                   # the same batch at every call
        optimizer.zero_grad()
        loss = criterion(model(inputs), targets)
        loss.backward()
        return loss

    optimizer.step(closure)

The same can be had in one line from parameters and the class of the base, whose options are given by name::

    optimizer = SAM(model.parameters(), torch.optim.SGD, rho=0.05, lr=0.1, momentum=0.9)

All but the clipping rules evaluate the batch elsewhere. Afterwards the weights are where they were, to the bit, and
buffers (running statistics of BatchNorm) have seen the batch once, at the unperturbed weights: buffers of
every module that runs in a further evaluation are put back. Random layers draw anew at every evaluation.
A loss or gradient that is NaN or infinite ends a step with ``NotFinite`` and leaves weights and buffers as they were.
"""

from torch import Tensor

from helpers.regularizers.clipping import DynamicClipping, LaggedClipping
from helpers.regularizers.entropy import EntropySGD
from helpers.regularizers.nearby import AMP, GMP, NVRM, SAM, AbsoluteGMP
from helpers.regularizers.wrapper import NotFinite

__all__ = [
    "AMP",
    "GMP",
    "NVRM",
    "SAM",
    "AbsoluteGMP",
    "DynamicClipping",
    "EntropySGD",
    "LaggedClipping",
    "NotFinite",
    "flooding",
    "mixup",
]


def flooding(loss: Tensor, level: float) -> Tensor:
    """|loss - level| + level: gradient ascent where a batch loss is below the level (Ishida et al. 2020)."""
    return (loss - level).abs() + level


def mixup(inputs: Tensor, targets: Tensor, *, share: float, partners: Tensor) -> tuple[Tensor, Tensor]:
    """share x_i + (1 - share) x_{partners_i}, and the same of the targets (Zhang et al. 2018).

    Args:
        inputs: shape (n, ...).
        targets: class probabilities (one-hot where the class is known), shape (n, classes).
        share: in [0, 1]; drawn from Beta(a, a) once a batch.
        partners: a permutation of the batch, shape (n,).

    Raises:
        ValueError: if the share lies outside [0, 1], or targets are class indices.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie in [0, 1], got {share}")
    if targets.ndim != 2 or not targets.is_floating_point():
        raise ValueError(
            "mixup needs class probabilities (n, classes); pass one_hot(targets, classes) as floating values"
        )
    return share * inputs + (1 - share) * inputs[partners], share * targets + (1 - share) * targets[partners]
