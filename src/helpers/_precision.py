"""Float32 that means float32: accelerators and processors may round its products to 10 bits (TF32) or 8 (bfloat16)."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from threading import Lock
from typing import Any

import torch

_backends: Any = torch.backends  # PyTorch's types do not know these attributes


def _full() -> Iterator[tuple[Callable[[Any], None], Any]]:
    """Switch every operation to full float32; for each, what sets its switch and what it was."""
    for operation in (
        _backends.cuda.matmul, _backends.cudnn.conv, _backends.cudnn.rnn,
        _backends.mkldnn.matmul, _backends.mkldnn.conv, _backends.mkldnn.rnn,
    ):  # fmt: skip
        yield partial(setattr, operation, "fp32_precision"), operation.fp32_precision
        operation.fp32_precision = "ieee"


class _Blocks:
    """How many threads of this process are inside a block, and what to go back to after the last."""

    lock, inside, before = Lock(), 0, ExitStack()


@contextmanager
def full_precision() -> Iterator[None]:
    """No rounding of float32 inside the block, whatever was allowed; afterwards the caller's settings, each by itself.

    The settings are those of the process: where blocks of several threads overlap, the last to leave puts them back.
    PyTorch has older switches for the same (``allow_tf32``, ``set_float32_matmul_precision``) and refuses to read them
    once a newer one was set; so only the newer ones are read and set here.
    """
    with _Blocks.lock:
        if _Blocks.inside == 0:
            for restore, before in _full():
                _Blocks.before.callback(restore, before)
        _Blocks.inside += 1
    try:
        yield
    finally:
        with _Blocks.lock:
            _Blocks.inside -= 1
            if _Blocks.inside == 0:
                _Blocks.before.close()
