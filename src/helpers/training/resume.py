"""A training that was interrupted goes on from its last whole epoch, and ends as if nothing had happened."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from helpers.data import Split
from helpers.data.inputs import tensors
from helpers.training.container import CheckpointError, decoded, digest, encoded, read, write

SETTINGS = "settings"
PLAIN = (bool, int, float, complex, str, bytes, torch.dtype, torch.device)  # told by their repr


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


def name_of(value: Any) -> str:
    """What a function computes, as a text that is the same in every process and differs where the results may.

    A function is told by its place, its code, its defaults and what it has closed over; an object by its type and what
    it holds.

    Raises:
        CheckpointError: if something in it cannot be compared from process to process.
    """
    if value is None or value is ... or isinstance(value, PLAIN):
        return repr(value)
    if isinstance(value, Tensor):
        return f"tensor {_hexadecimal({'values': value})}"
    if isinstance(value, tuple):
        return f"({', '.join(map(name_of, value))})"
    if isinstance(value, frozenset):  # in an order of its own in every process
        return f"{{{', '.join(sorted(map(name_of, value)))}}}"
    if isinstance(value, type | BuiltinFunctionType | ModuleType):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value.__name__)}"
    if isinstance(value, CodeType):
        return name_of((value.co_code, value.co_consts, value.co_names))
    if isinstance(value, FunctionType):
        cells = tuple(cell.cell_contents for cell in value.__closure__ or ())
        held = (value.__code__, value.__defaults__, tuple((value.__kwdefaults__ or {}).items()), cells)
        return f"{value.__module__}.{value.__qualname__} {name_of(held)}"
    if isinstance(value, MethodType):
        return f"{name_of(value.__func__)} of {name_of(value.__self__)}"
    if isinstance(value, partial):
        return f"partial {name_of((value.func, value.args, tuple(sorted(value.keywords.items()))))}"
    if isinstance(value, nn.Module):  # its repr leaves some settings out
        plain = (vars(layer).items() for layer in value.modules())
        kept = tuple(tuple(item for item in sorted(items) if not item[0].startswith("_")) for items in plain)
        return f"{name_of(type(value))} {fingerprint_of(value)} {name_of(kept)}"
    if callable(value) and hasattr(value, "__dict__"):
        return f"{name_of(type(value))} {name_of(tuple(sorted(vars(value).items())))}"
    raise CheckpointError(
        f"a function of the training holds a {type(value).__name__}, which cannot be compared from process to process; "
        "give loss= and augment= functions that hold numbers, texts, tensors and tuples, or leave checkpoint= away"
    )
