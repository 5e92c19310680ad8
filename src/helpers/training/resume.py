"""A training that was interrupted goes on from its last whole epoch, and ends as if nothing had happened."""

import json
from collections.abc import Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from helpers.data import Split
from helpers.data.inputs import tensors
from helpers.training.container import CheckpointError, decoded, digest, encoded, read, write

SETTINGS = "settings"


class Interruptible:
    """The file in which a training keeps its state from epoch to epoch.

    Args:
        path: of the file; None for a training that keeps none.
        settings: what the numbers depend on, by name; only a training with the same ones goes on from the file.
    """

    def __init__(self, path: Path | str | None, settings: dict[str, Any]) -> None:
        self.path = None if path is None else Path(path)
        self.settings = {name: str(value) for name, value in settings.items()}

    def read(self) -> dict[str, Tensor] | None:
        """The state to go on from; None where there is none yet.

        Raises:
            CheckpointError: if the file is damaged, or of a training with other settings.
        """
        if self.path is None or not self.path.exists():
            return None
        state = read(self.path)
        if SETTINGS not in state:
            raise CheckpointError(f"{self.path} is not of a training under way; give checkpoint= a path of its own")
        written = json.loads(decoded(state.pop(SETTINGS)))
        if differing := [name for name in self.settings if written.get(name) != self.settings[name]]:
            raise CheckpointError(
                f"{self.path} is of a training with another {', '.join(differing)}; "
                "call with the same arguments, or delete it to train anew"
            )
        return state

    def write(self, state: dict[str, Tensor]) -> None:
        """Keep the state; the one before it stays whole until then."""
        if self.path is not None:
            write(state | {SETTINGS: encoded(json.dumps(self.settings))}, self.path)

    def remove(self) -> None:
        """Nothing is left to go on with."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def fingerprint_of(model: nn.Module) -> str:
    """Of a model's structure and values."""
    state: dict[str, Tensor] = dict(model.named_parameters()) | dict(model.named_buffers())
    return _hexadecimal(state | {"structure": encoded(repr(model))})


def fingerprint_of_data(splits: Sequence[Split]) -> str:
    """Of all examples, in their order."""
    parts = {
        f"{run}.{part}": tensor
        for run, split in enumerate(splits)
        for part, tensor in enumerate([split.targets, *tensors(split.inputs)])
    }
    return _hexadecimal(parts)


def _hexadecimal(parts: dict[str, Tensor]) -> str:
    return bytes(digest({name: part.detach().cpu() for name, part in parts.items()}).tolist()).hex()


def name_of(function: Any) -> str:
    """A function by its name, a dataclass by its fields: what stays the same from process to process."""
    return repr(function) if is_dataclass(function) else getattr(function, "__qualname__", type(function).__qualname__)
