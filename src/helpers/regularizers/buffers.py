"""Buffers of modules, such as running statistics, put back after evaluations that should leave no trace.

An optimiser knows parameters, not modules. A hook on all forward passes meets the modules before they change their
buffers; those that hold other parameters than the optimiser's are another network, and left alone. Buffers are kept
module by module and by name, so that a buffer which ``forward`` replaces by a new tensor is put back like one that it
changes in place.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

Kept = dict[str, tuple[Tensor | None, Tensor | None]]  # name -> the buffer itself, and a copy of its values


@contextmanager
def frozen_buffers(parameters: Iterable[Tensor]) -> Iterator[None]:
    """Buffers of every module that runs inside the block, and holds no other parameters, are put back at its end."""
    with _recorded(parameters) as put_back:
        try:
            yield
        finally:
            put_back()


@contextmanager
def buffers_kept_on_error(parameters: Iterable[Tensor]) -> Iterator[None]:
    """The same, but only if the block raises."""
    with _recorded(parameters) as put_back:
        try:
            yield
        except BaseException:
            put_back()
            raise


@contextmanager
def _recorded(parameters: Iterable[Tensor]) -> Iterator[Callable[[], None]]:
    """Remember buffers as modules start to run; gives the function that puts them back."""
    before: dict[nn.Module, Kept] = {}
    known = {id(p) for p in parameters}

    def remember(module: nn.Module, _: object) -> None:
        weights = {id(p) for p in module.parameters()}
        if module not in before and (not weights or weights & known):
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
