"""``save`` and ``load``: the weights, buffers and record of a finished run in one file."""

from collections.abc import Callable
from itertools import chain
from pathlib import Path

from torch import Tensor, nn

from helpers.models import copied
from helpers.training.container import CheckpointError, decoded, encoded, read, write
from helpers.training.ensemble import Run
from helpers.training.randomness import seeded

RECORD = ("initial", "step_dispersion", "losses")
PRECISION = "record.precision"


def save(run: Run, path: Path | str) -> None:
    """Write a run to ``path``, atomically: what was there before stays whole until the new file is.

    Raises:
        CheckpointError: if the file cannot be written, or a model keeps state that is no tensor.
    """
    tensors = {f"record.{name}": getattr(run, name) for name in RECORD}
    if run.precision is not None:
        tensors[PRECISION] = encoded(run.precision)
    for index, model in enumerate(run.models):
        tensors |= {f"models.{index}.{name}": value for name, value in _state(model).items()}
    write(tensors, Path(path))


def load(make_model: Callable[[], nn.Module], path: Path | str) -> Run:
    """Read a run that ``save`` wrote; models come back on the CPU in evaluation mode, each tensor in its own type.

    Args:
        make_model: makes a model of the kind that was trained; its weights are replaced.

    Raises:
        CheckpointError: if the file is missing, damaged, or holds models of another kind.
    """
    tensors = read(Path(path))
    if not all(f"record.{name}" in tensors for name in RECORD):
        raise CheckpointError(f"{path} is not a finished run; give a file that training.save wrote")
    with seeded(0):
        first = make_model()
    models = [_restored(first, state, path) for state in _states(tensors)]
    record = {name: tensors[f"record.{name}"] for name in RECORD}
    precision = decoded(tensors[PRECISION]) if PRECISION in tensors else None
    return Run(models, steps=len(record["step_dispersion"]), precision=precision, **record)


def _state(model: nn.Module) -> dict[str, Tensor]:
    state = model.state_dict()
    if strange := [name for name, value in state.items() if not isinstance(value, Tensor)]:
        raise CheckpointError(
            f"the model keeps extra state that is no tensor ({', '.join(strange)}), which a checkpoint cannot hold; "
            "register it as a buffer"
        )
    return state


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
    model = copied(first).cpu()
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if name in state:
            tensor.data = tensor.data.to(state[name].dtype)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{path} holds models of another kind than make_model makes; give theirs") from error
    return model.eval()
