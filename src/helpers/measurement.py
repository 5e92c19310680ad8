"""What every bound asks of k runs: their losses, their traces, the isotropic bounds, and what speaks against a number.

Whoever puts bounds side by side stands on this: ``comparison`` for runs of a reader's own, the experiments for the rows
of an artefact, the laboratory for the page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import hypot
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from helpers import omniscient, wang_mao
from helpers.curvature import Estimate, trace, values
from helpers.data import Split
from helpers.losses import Loss

MOST_CLIPPED = 0.05  # share of examples at W + Delta; clipped ones have no gradient, so flatness there is destruction
MOST_NOISE = 1.0  # noise over weights; beyond, the Taylor step of the flatness term is not credible
MOST_TRACE_ERROR = 0.5  # standard error of a trace term over the term


@dataclass(frozen=True)
class Roles:
    """Disjoint data for k runs.

    Attributes:
        train: k training samples of n examples.
        val, val2: held-out examples that build the omniscient perturbation, and others that evaluate it.
        test: examples that show the gap.
    """

    train: list[Split]
    val: Split
    val2: Split
    test: Split


class Recorded(Protocol):
    """What the isotropic bounds read of a ``training.Run``: steps T, dispersion, and that of each step, (T,)."""

    @property
    def steps(self) -> int: ...
    @property
    def dispersion(self) -> float: ...
    @property
    def step_dispersion(self) -> Tensor: ...


def losses_by_run(models: Sequence[nn.Module], splits: Sequence[Split], loss: Loss) -> Tensor:
    """Mean loss of each run over its split, (k,), float64."""
    return torch.stack(
        [values(model, loss, split).double().mean() for model, split in zip(models, splits, strict=True)]
    )


@dataclass(frozen=True)
class Traces:
    """Traces of the Hessian at the weights of k runs.

    Attributes:
        training: of each run's training loss.
        held_out: of the loss on the same held-out examples.
    """

    training: tuple[Estimate, ...]
    held_out: tuple[Estimate, ...]

    @classmethod
    def of(cls, runs: omniscient.Runs, held_out: Split, **probing: Any) -> "Traces":
        """Both for every run; ``probing`` goes to ``curvature.trace``."""
        training = tuple(trace(model, runs.loss, sample, **probing) for model, sample in runs)
        return cls(training, tuple(trace(model, runs.loss, held_out, **probing) for model in runs.models))

    @property
    def mean_training(self) -> Estimate:
        """Mean over runs; the error is that of the random estimators alone."""
        return _mean(self.training)

    @property
    def mean_held_out(self) -> Estimate:
        """Mean over runs; the error is that of the random estimators alone."""
        return _mean(self.held_out)


def _mean(estimates: Sequence[Estimate]) -> Estimate:
    k = len(estimates)
    error = hypot(*(one.standard_error for one in estimates)) / k
    return Estimate(sum(one.value for one in estimates) / k, error, k, estimates[0].method)


@dataclass(frozen=True)
class IsotropicBounds:
    """The bounds that know only dispersion and traces; those that take the training trace are None where it is < 0.

    Attributes:
        closed_form: Wang & Mao (2022), eq. 3, with the trace on training data, as its authors take it.
        logarithmic: eq. 2, the tighter logarithmic form with the same flatness term.
        neu: Lemma 2 of Neu et al. with constant 2, the cross-run dispersion in the place of its own, and no
            sensitivity, which would only raise it: by algebra 2^{1/3} times eq. 3.
        closed_form_difference: eq. 3 with the difference of the traces, as the theorem behind it allows.
        end_point, end_point_difference: of final weights alone (Peng et al. without a perturbation), with the size of
            the training trace, and with the difference.
    """

    closed_form: wang_mao.Isotropic | None
    logarithmic: wang_mao.Isotropic | None
    neu: wang_mao.Isotropic | None
    closed_form_difference: wang_mao.Isotropic
    end_point: wang_mao.Isotropic
    end_point_difference: wang_mao.Isotropic

    @classmethod
    def of(cls, run: Recorded, runs: omniscient.Runs, training: float, held_out: float) -> "IsotropicBounds":
        """From what the runs recorded on their way, and the mean traces on training and held-out data."""
        sizes: dict[str, Any] = {"n": runs.n, "steps": run.steps, "R": runs.R}
        difference, d = training - held_out, runs.weights.shape[1]
        closed_form = logarithmic = neu = None
        if training >= 0:
            closed_form = wang_mao.closed_form(run.dispersion, training, **sizes)
            logarithmic = wang_mao.log_form(run.step_dispersion.tolist(), training, n=runs.n, R=runs.R, d=d)
            neu = wang_mao.closed_form(2 * run.dispersion, training, **sizes)
        return cls(
            closed_form,
            logarithmic,
            neu,
            wang_mao.closed_form(run.dispersion, abs(difference), **sizes),
            wang_mao.terminal(runs.models, training, **sizes),
            wang_mao.terminal(runs.models, difference, **sizes),
        )


def noise_to_weight(sigma: float, steps: int, W: Tensor) -> float:
    """sigma sqrt(T d) over the mean length of the runs' weights ``W``, (k, d)."""
    return float(sigma * steps**0.5 * W.shape[1] ** 0.5 / W.norm(dim=1).mean().item())


def warnings(point: Mapping[str, Any]) -> list[str]:
    """What speaks against a conclusion from one bound, in words; none if it may be used.

    Args:
        point: a bound as rows hold it: of ``omniscient`` or ``self_certified``, or an isotropic one with its noise.

    Raises:
        ValueError: if the point does not say how large its noise is: then it is no such bound.
    """
    if "noise_to_weight" not in point:
        raise ValueError(f"a point needs noise_to_weight to be judged, got {', '.join(point) or 'nothing'}")
    reasons = []
    if not _at_most(point["noise_to_weight"], MOST_NOISE):
        reasons.append("noise larger than the weights")
    if "clipped_share" in point and not _at_most(point["clipped_share"], MOST_CLIPPED):
        reasons.append(f"more than {MOST_CLIPPED:.0%} of examples clipped")
    if not point.get("converged", True):
        reasons.append("solve not converged")
    if point.get("negative_curvature", False):
        reasons.append("negative curvature")
    if "trace_error" in point and not _at_most(point["trace_error"], MOST_TRACE_ERROR * abs(point["trace_term"] or 0)):
        reasons.append("trace error above half the trace term")
    return reasons


def _at_most(value: float | None, limit: float) -> bool:
    """False for a number that was not finite, which artefacts hold as null or NaN."""
    return value is not None and value <= limit
