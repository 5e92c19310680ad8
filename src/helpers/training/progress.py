"""A training between two epochs: what the next epoch depends on, and what the epochs so far have recorded."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from helpers._precision import full_precision
from helpers.data.inputs import each, length, tensors
from helpers.training.container import CheckpointError
from helpers.training.lockstep import Lockstep
from helpers.training.randomness import Randomness, generator_of
from helpers.training.steppers import stepper_for

Augment = Callable[[Any, torch.Generator], Any]


class Diverged(RuntimeError):
    """A run reached weights or a loss that are not finite; the message says which run and when."""


class Progress:
    """Advances k runs epoch by epoch.

    Args:
        lockstep: the runs.
        random: what the training draws from the generators that the process shares.
        seed: of the orders of visits and of the augmentation.
        augment: as in ``train_ensemble``.

    Attributes:
        dispersion: shape (epochs so far, batches), float64: of every step, as in ``Lockstep``.
        losses: shape (epochs so far, k): mean training loss over each epoch's steps.
    """

    def __init__(self, lockstep: Lockstep, random: Randomness, *, seed: int, augment: Augment | None) -> None:
        self.lockstep, self.random, self.augment = lockstep, random, augment
        device = lockstep.weights.device
        self.generators = [generator_of(run, seed, device) for run in range(len(lockstep.models))]
        self.originals = lockstep.inputs
        if augment is not None:
            lockstep.inputs = [each(torch.clone, inputs) for inputs in self.originals]
        self.step = stepper_for(lockstep)
        self.dispersion = torch.zeros(0, lockstep.batches, dtype=torch.float64)
        self.losses = torch.zeros(0, len(lockstep.models), dtype=lockstep.losses.dtype)

    @property
    def epochs(self) -> int:
        """Epochs so far."""
        return len(self.losses)

    def advance(self, rate: float) -> None:
        """One epoch of all runs.

        Raises:
            Diverged: if a loss or a weight stops being finite.
        """
        runs = self.lockstep
        with self.random.turn(), _settled(runs.weights.device):
            orders = [torch.randperm(length(s), generator=g, device=g.device) for s, g in self._samples()]
            if self.augment is not None:
                for buffers, (sample, generator) in zip(runs.inputs, self._samples(), strict=True):
                    _fill(buffers, self.augment(sample, generator))
            runs.begin_epoch(orders, rate)
            for _ in range(runs.batches):
                self.step()
        self.dispersion = torch.cat([self.dispersion, runs.dispersion.cpu().double()[None]])
        self.losses = torch.cat([self.losses, (runs.losses / runs.batches).cpu()[None]])
        self._refuse_divergence()

    def reached(self, loss: float | None) -> bool:
        """Whether the last epoch's mean loss over runs is at most this."""
        return loss is not None and self.epochs > 0 and bool(self.losses[-1].mean() <= loss)

    def _samples(self) -> list[tuple[Any, torch.Generator]]:
        return list(zip(self.originals, self.generators, strict=True))

    def _refuse_divergence(self) -> None:
        finite = torch.isfinite(self.lockstep.weights).all(1).cpu() & torch.isfinite(self.losses[-1])
        if not finite.all():
            runs = (~finite).nonzero().flatten().tolist()
            raise Diverged(
                f"runs {runs} diverged in epoch {self.epochs}: a loss or weight is not finite; lower the learning rate"
            )

    def state(self) -> dict[str, Tensor]:
        """All that decides how the training goes on, and its record so far."""
        runs = self.lockstep
        return {
            "weights": runs.weights,
            "velocity": runs.velocity,
            "dispersion": self.dispersion,
            "losses": self.losses,
            **{f"orders.{run}": generator.get_state() for run, generator in enumerate(self.generators)},
            **{f"shared.{name}": state for name, state in self.random.states.items()},
            **self._buffers(),
        }

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from a ``state``, of the same training.

        Raises:
            CheckpointError: if a generator of this process has no state in it: then its draws would be others.
        """
        if lacking := [name for name in self.random.states if f"shared.{name}" not in state]:
            raise CheckpointError(
                f"the checkpoint has no state for the generator of {', '.join(lacking)}, which was not in use then; "
                "go on in a process that uses the same devices, or delete the checkpoint to train anew"
            )
        self.lockstep.weights.copy_(state["weights"])
        self.lockstep.velocity.copy_(state["velocity"])
        for name, buffer in self._buffers().items():
            buffer.copy_(state[name])
        for run, generator in enumerate(self.generators):
            generator.set_state(state[f"orders.{run}"])
        self.random.states = {name: state[f"shared.{name}"] for name in self.random.states}
        self.dispersion, self.losses = state["dispersion"], state["losses"]

    def _buffers(self) -> dict[str, Tensor]:
        named = ((run, *entry) for run, model in enumerate(self.lockstep.models) for entry in model.named_buffers())
        return {f"buffers.{run}.{name}": buffer for run, name, buffer in named}


def _fill(buffers: Any, made: Any) -> None:
    """Augmented inputs into the tensors that the steps read."""
    for buffer, values in zip(tensors(buffers), tensors(made), strict=True):
        if values.shape != buffer.shape:
            raise ValueError(
                f"augment must keep the shape of the inputs, {tuple(buffer.shape)}, got {tuple(values.shape)}"
            )
        buffer.copy_(values)


@contextmanager
def _settled(device: torch.device) -> Iterator[None]:
    """Gradients on, autocast off and float32 in full, whatever the caller has.

    On CUDA the fastest convolutions are looked up once.
    """
    cudnn = torch.backends.cudnn
    with ExitStack() as settings:
        settings.enter_context(torch.enable_grad())
        settings.enter_context(torch.autocast(device.type, enabled=False))
        if device.type == "cuda":
            # Not by cudnn.flags, which reads switches of TF32 that PyTorch refuses to read once a newer one was set.
            settings.callback(setattr, cudnn, "benchmark", cudnn.benchmark)
            cudnn.benchmark = not cudnn.deterministic
        settings.enter_context(full_precision())
        yield
