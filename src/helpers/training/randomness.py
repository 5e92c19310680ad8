"""Same seed, same numbers: a training draws from generators of its own, whatever else the process does.

Initialisation and ``nn.Dropout`` draw from generators that all threads of a process share. So a training takes turns.
For the time of a turn the shared generators stand where this training left them, and no other training runs; at the
end of the turn, however it ends, they stand again where the caller had them. Code in other threads that draws from
the shared generators without taking turns is the one thing that can still disturb it.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from helpers._generators import place, shared_generators, states, unchanged

_TURN = threading.RLock()  # one for the process, as the generators are; a thread may train within its own training


class Randomness:
    """What one training draws from the shared generators.

    Args:
        seed: where the generators stand at the first turn: as after ``torch.manual_seed(seed)``.
        device: an accelerator whose generators are covered beside the processor's; those of CUDA always are, once it
            is in use.

    Attributes:
        states: the generators' states between two turns, by device.

    Raises:
        ValueError: if there is no such device.
    """

    def __init__(self, seed: int, device: torch.device | str | None = None) -> None:
        try:
            torch.empty(0, device=device)
        except (RuntimeError, TypeError, AssertionError) as error:  # by the kind of device
            raise ValueError(
                f"device must be one that PyTorch finds here, such as 'cpu' or None, got {device!r} "
                f"({str(error).splitlines()[0]})"
            ) from error
        self.generators = shared_generators(device)
        self.states = {
            name: torch.Generator(generator.device).manual_seed(seed).get_state()
            for name, generator in self.generators.items()
        }

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Draw on from where the last turn ended."""
        with self.aside():
            yield
            self.states = states(self.generators)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Draw as in a turn, and forget it: the next turn goes on from where the last one ended."""
        with _TURN, unchanged(self.generators):
            place(self.generators, self.states)
            yield


@contextmanager
def seeded(seed: int, device: torch.device | str | None = None) -> Iterator[None]:
    """What is drawn inside is fixed by the seed, in any thread; the caller's generators stay where they were.

    A training elsewhere in the process waits meanwhile, and this for it.
    """
    with Randomness(seed, device).turn():
        yield


def generator_of(run: int, seed: int, device: torch.device) -> torch.Generator:
    """The generator of one run's orders and augmentation, which nobody else draws from."""
    return torch.Generator(device).manual_seed(1_000_003 * seed + run)
