"""Float32 that means float32: accelerators and processors may round its products to 10 bits (TF32) or 8 (bfloat16)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_backends: Any = torch.backends  # PyTorch's types do not know these attributes
_OPERATIONS = (
    _backends.cuda.matmul, _backends.cudnn.conv, _backends.cudnn.rnn,
    _backends.mkldnn.matmul, _backends.mkldnn.conv, _backends.mkldnn.rnn,
)  # fmt: skip


@contextmanager
def full_precision() -> Iterator[None]:
    """No rounding of float32 inside the block, whatever was allowed; afterwards the caller's settings, each by itself.

    PyTorch has older switches for the same (``allow_tf32``, ``set_float32_matmul_precision``) and refuses to read them
    once a newer one was set; so only the newer ones are read and set here.
    """
    before = [operation.fp32_precision for operation in _OPERATIONS]
    try:
        for operation in _OPERATIONS:
            operation.fp32_precision = "ieee"
        yield
    finally:
        for operation, precision in zip(_OPERATIONS, before, strict=True):
            operation.fp32_precision = precision
