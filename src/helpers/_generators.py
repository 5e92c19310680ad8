"""The random generators that a process shares: PyTorch's own, on the processor and on accelerators in use."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from helpers._checks import seed_of


def generator_from(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of its own on that device; ValueError unless the seed is a whole number from 0 to 2^63 - 1."""
    return torch.Generator(device).manual_seed(seed_of(seed))


def run_seed(seed: int, run: int) -> int:
    """A seed for each of up to a thousand runs.

    Runs that shared their random probes would share the error of an estimate, and the mean over runs would keep it.
    """
    return (1000 * seed_of(seed) + run) % 2**63


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
