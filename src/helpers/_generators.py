"""The random generators that a process shares: PyTorch's own, on the processor and on accelerators in use."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def shared_generators(device: torch.device | str | None = None) -> dict[str, torch.Generator]:
    """The generators that modules draw from, by device: the processor's, CUDA's once it is in use, and ``device``'s."""
    kind = "cpu" if device is None else torch.device(device).type
    generators = [torch.default_generator]
    if kind == "cuda":
        torch.cuda.init()
    if torch.cuda.is_initialized():
        generators += torch.cuda.default_generators
    if kind == "mps":
        generators.append(torch.mps._get_default_mps_generator())
    return {str(generator.device): generator for generator in generators}


def states(generators: dict[str, torch.Generator]) -> dict[str, Tensor]:
    return {name: generator.get_state() for name, generator in generators.items()}


def place(generators: dict[str, torch.Generator], states: dict[str, Tensor]) -> None:
    for name, generator in generators.items():
        generator.set_state(states[name])


@contextmanager
def unchanged(generators: dict[str, torch.Generator]) -> Iterator[Callable[[], bool]]:
    """Whatever is drawn inside, the generators stand afterwards where they stood before.

    Gives a function that tells, inside, whether anything has been drawn.
    """
    before = states(generators)
    try:
        yield lambda: any(not torch.equal(state, before[name]) for name, state in states(generators).items())
    finally:
        place(generators, before)
