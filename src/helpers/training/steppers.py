"""Who performs a step of ``Lockstep``: call by call, or as one recorded CUDA graph.

A small network's step is hundreds of kernels of microseconds each, and starting them one by one takes longer than
running them. A CUDA graph starts them all at once. What is computed is the same.
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch

from helpers.training.lockstep import Lockstep

WARM_UP = 3  # steps before recording, in which libraries choose algorithms and allocate their workspaces

Recorder = Callable[[Callable[[], None]], Callable[[], None]]


class Stepper(Protocol):
    """Advances all runs by one step."""

    def __call__(self) -> None: ...


class EagerStepper:
    """Performs the step as it is written."""

    def __init__(self, lockstep: Lockstep) -> None:
        self.lockstep = lockstep

    def __call__(self) -> None:
        self.lockstep.step()


class GraphStepper:
    """Records the step at its first call and replays the record from then on.

    Args:
        lockstep: the runs.
        record: performs a function once and returns one that repeats it on the same memory.
    """

    def __init__(self, lockstep: Lockstep, record: Recorder) -> None:
        self.lockstep, self.record = lockstep, record
        self.replay: Callable[[], None] | None = None

    def __call__(self) -> None:
        if self.replay is None:
            self.replay = self._recorded()
        self.replay()

    def _recorded(self) -> Callable[[], None]:
        """Warm up and record; both change the runs, which are put back to where they were, to the bit."""
        state = self.lockstep.state()
        before = [tensor.clone() for tensor in state]
        replay = self.record(self.lockstep.step)
        for tensor, value in zip(state, before, strict=True):
            tensor.copy_(value)
        return replay


def cuda_graph(device: torch.device, work: Callable[[], None]) -> Callable[[], None]:
    """Warm up on a stream of its own, as recording asks for, then record: a replay is one launch."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                work()
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph):
            work()
    return graph.replay


def stepper_for(lockstep: Lockstep) -> Stepper:
    """A recorded graph on CUDA, the plain step elsewhere."""
    device = lockstep.weights.device
    return GraphStepper(lockstep, partial(cuda_graph, device)) if device.type == "cuda" else EagerStepper(lockstep)
