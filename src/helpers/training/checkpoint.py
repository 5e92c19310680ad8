"""Checkpoints: the weights, buffers and record of a run in one safetensors file.

The format holds arrays and strings and cannot run code, so a file from anywhere can be opened safely.
"""

import hashlib
import os
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save as serialised
from torch import Tensor, nn

from helpers.training.ensemble import Run

DIGEST = "digest"
RECORD = ("initial", "step_dispersion", "losses")


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, not of this model, or cannot be written; the message says which."""


def save(run: Run, path: Path | str) -> None:
    """Write a run to ``path``, atomically: what was there before stays whole until the new file is.

    Raises:
        CheckpointError: if the file cannot be written.
    """
    tensors = {f"record.{name}": getattr(run, name) for name in RECORD}
    for index, model in enumerate(run.models):
        tensors |= {f"models.{index}.{name}": value for name, value in model.state_dict().items()}
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    content = serialised({**tensors, DIGEST: _digest(tensors)})
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CheckpointError(f"{path} could not be written ({error.strerror}); make room or choose another") from error


def load(make_model: Callable[[], nn.Module], path: Path | str) -> Run:
    """Read a run that ``save`` wrote; models come back on the CPU in evaluation mode.

    Args:
        make_model: makes a model of the kind that was trained; its weights are replaced.

    Raises:
        CheckpointError: if the file is missing, damaged, or holds models of another kind.
    """
    tensors = _read(Path(path))
    if DIGEST not in tensors:
        raise CheckpointError(f"{path} is not a checkpoint of a run; give a file that training.save wrote")
    if not torch.equal(tensors.pop(DIGEST), _digest(tensors)):
        raise CheckpointError(f"{path} was altered after it was written; copy it afresh or train again")
    with torch.random.fork_rng(devices=[]):
        first = make_model()
    models = [_restored(first, state, path) for state in _states(tensors)]
    record = {name: tensors[f"record.{name}"] for name in RECORD}
    return Run(models, steps=len(record["step_dispersion"]), **record)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return parse(path.read_bytes())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist; train and save the run first") from error
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); copy it afresh or train again") from error


def _digest(tensors: dict[str, Tensor]) -> Tensor:
    """SHA-256 of names, types, shapes and values, shape (32,), uint8."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return torch.tensor(list(digest.digest()), dtype=torch.uint8)


def _states(tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """The state of each model, in order, from names such as "models.0.1.weight"."""
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "models":
            index, _, entry = rest.partition(".")
            states.setdefault(int(index), {})[entry] = value
    return [states[index] for index in sorted(states)]


def _restored(first: nn.Module, state: dict[str, Tensor], path: Path | str) -> nn.Module:
    model = deepcopy(first).to(next(value.dtype for value in state.values() if value.is_floating_point()))
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{path} holds models of another kind than make_model makes; give theirs") from error
    return model.eval()
