"""Buffers of modules, such as running statistics, put back after evaluations that should leave no trace.

An optimiser knows parameters, not modules. A hook on all forward passes meets the modules that own the buffers before
they change them. They are kept module by module and by name, so that a buffer which ``forward`` replaces by a new
tensor is put back like one that it changes in place.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

Kept = dict[str, tuple[Tensor | None, Tensor | None]]  # name -> the buffer itself, and a copy of its values


@contextmanager
def frozen_buffers() -> Iterator[None]:
    """Buffers of every module that runs inside the block are put back at its end."""
    with _recorded() as put_back:
        try:
            yield
        finally:
            put_back()


@contextmanager
def buffers_kept_on_error() -> Iterator[None]:
    """Buffers of every module that runs inside the block are put back if the block raises."""
    with _recorded() as put_back:
        try:
            yield
        except BaseException:
            put_back()
            raise


@contextmanager
def _recorded() -> Iterator[Callable[[], None]]:
    """Remember buffers as modules start to run; gives the function that puts them back."""
    before: dict[nn.Module, Kept] = {}

    def remember(module: nn.Module, _: object) -> None:
        if module not in before:
            for part in module.modules():
                before.setdefault(part, _copied(part))

    handle = register_module_forward_pre_hook(remember)
    try:
        yield lambda: _put_back(before)
    finally:
        handle.remove()


def _copied(module: nn.Module) -> Kept:
    return {
        name: (buffer, None if buffer is None else buffer.detach().clone()) for name, buffer in module._buffers.items()
    }


@torch.no_grad()
def _put_back(before: dict[nn.Module, Kept]) -> None:
    for module, kept in before.items():
        for name in module._buffers.keys() - kept.keys():  # registered by ``forward``
            del module._buffers[name]
        for name, (buffer, values) in kept.items():
            module._buffers[name] = buffer
            if buffer is not None and values is not None:
                buffer.copy_(values)
