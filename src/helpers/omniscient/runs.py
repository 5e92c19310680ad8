"""k runs of one algorithm, as the bounds see them: the networks, the sample of each, and the loss that judges them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf, nan
from typing import Any

import torch
from torch import Tensor, nn

from helpers.curvature import finite_splits
from helpers.data import Split
from helpers.losses import Loss
from helpers.models import weights


@dataclass(frozen=True)
class Runs:
    """k >= 2 trained networks of one architecture; each was trained on a sample of its own, of n examples.

    Attributes:
        models: k networks in evaluation mode.
        samples: their k training samples, each a ``data.Split`` or what ``data.as_split`` takes.
        loss: the evaluation loss; its constant R is ``loss.R``.
        tell: called without arguments whenever a pass over the runs is done with one of them; its answer is not read.

    Raises:
        ValueError: if models or samples are no list of such, k < 2, the numbers of models and samples differ, sizes
            differ between runs, a weight or an example is not finite, or the loss has no positive R.
    """

    models: Sequence[nn.Module]  # what hands them out one by one is read once
    samples: Sequence[Split]
    loss: Loss
    tell: Callable[[], object] = lambda: None

    def __post_init__(self) -> None:
        R = getattr(self.loss, "R", nan)
        try:
            known = 0 < float(R) < inf
        except (TypeError, ValueError):
            known = False
        if not known:
            raise ValueError(
                "loss needs its sub-Gaussian constant, a positive number loss.R, "
                f"got {getattr(self.loss, 'R', None)}; use losses.ClippedCrossEntropy"
            )
        object.__setattr__(self, "models", models_of(self.models))
        object.__setattr__(self, "samples", tuple(finite_splits(self.samples, "train")))
        k = len(self.models)
        if k < 2:
            raise ValueError(f"the bound needs k >= 2 independent runs to estimate a variance, got {k}")
        if k != len(self.samples):
            raise ValueError(f"there are {k} models but {len(self.samples)} training splits; give one split a model")
        sizes = [len(sample) for sample in self.samples]
        if len(set(sizes)) > 1:
            raise ValueError(f"the training splits hold {sizes} examples, but n is one number; cut them to one size")
        if not torch.isfinite(self.weights).all():
            raise ValueError("the weights of a run are not finite: it diverged, so there is nothing to bound")

    def __len__(self) -> int:
        return len(self.models)

    def __iter__(self) -> Iterator[tuple[nn.Module, Split]]:
        for run in zip(self.models, self.samples, strict=True):
            yield run
            self.tell()

    @property
    def names(self) -> list[str]:
        """What refusals call the samples."""
        return names_of(len(self.samples))

    @property
    def n(self) -> int:
        """Examples in each training sample."""
        return len(self.samples[0])

    @property
    def R(self) -> float:
        """Sub-Gaussian constant of the loss."""
        return float(self.loss.R)

    @cached_property
    def weights(self) -> Tensor:
        """W, shape (k, d)."""
        vectors = [weights(model) for model in self.models]
        if len({len(vector) for vector in vectors}) > 1:
            raise ValueError("the runs have different numbers of weights; give k models of one architecture")
        if len({(vector.dtype, vector.device) for vector in vectors}) > 1:
            raise ValueError("the runs have weights of different types or on different devices; convert them to one")
        return torch.stack(vectors)


def models_of(models: Any) -> tuple[nn.Module, ...]:
    """The models, whatever hands them out; ValueError if it is one model, or an entry is none."""
    one = isinstance(models, nn.Module) and not isinstance(models, nn.ModuleList)
    if one or not isinstance(models, Iterable):
        raise ValueError(f"models must be a list of the k trained models, got one {type(models).__name__}")
    result = tuple(models)
    for position, model in enumerate(result):
        if not isinstance(model, nn.Module):
            raise ValueError(f"models[{position}] must be a torch.nn.Module, got a {type(model).__name__}")
    return result


def names_of(k: int) -> list[str]:
    """What refusals call k training samples: the entries of ``train``."""
    return [f"train[{run}]" for run in range(k)]
