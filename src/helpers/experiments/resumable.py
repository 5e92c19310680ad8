"""Trainings of a row that was interrupted go on from their last whole epoch, to the same bits.

What they need for it lies beside the artefact while the row is computed (``machinery.worker.scratch``): the state
after the last epoch, the models at the stations passed so far, and, once the training is over, the run itself.
"""

from collections.abc import Callable, Collection, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from helpers.data import Split
from helpers.experiments.machinery.worker import scratch
from helpers.experiments.samples import default_device
from helpers.training import Run, load, save, seeded, train_ensemble
from helpers.training.container import read, write

Models = list[nn.Module]


def train_resumably(make_model: Callable[[], nn.Module], splits: Sequence[Split], *, seed: int, **training: Any) -> Run:
    """``train_ensemble`` on the experiments' device, that an interruption does not undo.

    Args:
        training: of ``train_ensemble``, but for what it observes.

    Raises:
        Diverged, ValueError: as ``train_ensemble``.
    """
    return train_with_stations(make_model, splits, stations=(), seed=seed, **training)[0]


def train_with_stations(
    make_model: Callable[[], nn.Module],
    splits: Sequence[Split],
    *,
    stations: Collection[int],
    seed: int,
    **training: Any,
) -> tuple[Run, dict[int, Models]]:
    """``train_resumably``, and copies of the models as they are after so many epochs, by station."""
    place, device = scratch(), default_device()
    passed: dict[int, Models] = {}

    def keep(epoch: int, current: Models) -> None:
        if epoch in stations:
            passed[epoch] = deepcopy(current)
            if place is not None:
                write(_named(current), _beside(place, f"station-{epoch}"))

    arguments = {**training, "seed": seed, "device": device, "observe": keep if stations else None}
    if place is None:
        return train_ensemble(make_model, splits, **arguments), passed
    finished = _beside(place, "run")
    if finished.exists():
        run = load(make_model, finished)
        run = Run(
            [model.to(device) for model in run.models], run.initial.to(device), run.steps, run.step_dispersion,
            run.losses, run.precision,
        )  # fmt: skip
    else:
        run = train_ensemble(make_model, splits, **arguments, checkpoint=_beside(place, "training"))
        save(run, finished)
    for epoch in set(stations) - set(passed):
        if (kept := _beside(place, f"station-{epoch}")).exists():  # stations after a stop by until_loss are not passed
            passed[epoch] = _restored(make_model, read(kept), len(splits), seed, device)
    return run, passed


def _beside(place: Path, part: str) -> Path:
    return place.with_name(f"{place.name}.{part}.safetensors")


def _named(models: Models) -> dict[str, torch.Tensor]:
    return {f"{i}.{name}": tensor for i, model in enumerate(models) for name, tensor in model.state_dict().items()}


def _restored(
    make_model: Callable[[], nn.Module], state: dict[str, torch.Tensor], k: int, seed: int, device: torch.device
) -> Models:
    with seeded(seed):
        first = make_model()
    models = []
    for i in range(k):
        model, start = deepcopy(first), f"{i}."
        model.load_state_dict({name[len(start) :]: t for name, t in state.items() if name.startswith(start)})
        models.append(model.to(device).eval())
    return models
