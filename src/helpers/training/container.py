"""Named tensors in one safetensors file, written whole or not at all, and recognised when altered.

The format holds arrays and strings and cannot run code, so a file from anywhere can be opened safely.
"""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save as serialised
from torch import Tensor

from helpers.training.files import written_whole

DIGEST = "digest"


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, of something else, or cannot be written; the message says which."""


def write(tensors: dict[str, Tensor], path: Path) -> None:
    """Write the tensors to ``path``, atomically: what was there before stays whole until the new file is.

    Raises:
        CheckpointError: if the file cannot be written.
    """
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    content = serialised({**tensors, DIGEST: digest(tensors)})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        written_whole(path, content)
    except OSError as error:
        raise CheckpointError(f"{path} could not be written ({error.strerror}); make room or choose another") from error


def read(path: Path) -> dict[str, Tensor]:
    """The tensors that ``write`` wrote, on the CPU.

    Raises:
        CheckpointError: if the file is missing, damaged, or of another origin.
    """
    try:
        tensors = parse(path.read_bytes())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist; train and save the run first") from error
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); copy it afresh or train again") from error
    if DIGEST not in tensors:
        raise CheckpointError(f"{path} is not a checkpoint of a run; give a file that training.save wrote")
    if not torch.equal(tensors.pop(DIGEST), digest(tensors)):
        raise CheckpointError(f"{path} was altered after it was written; copy it afresh or train again")
    return tensors


def digest(tensors: dict[str, Tensor]) -> Tensor:
    """SHA-256 of names, types, shapes and values, shape (32,), uint8."""
    sha = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        sha.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
        sha.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return torch.tensor(list(sha.digest()), dtype=torch.uint8)


def encoded(text: str) -> Tensor:
    """A text as a tensor of its bytes, uint8."""
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


def decoded(tensor: Tensor) -> str:
    return bytes(tensor.tolist()).decode()
