"""Who performs a step of ``Lockstep``: call by call, or as one recorded CUDA graph.

A small network's step is hundreds of kernels of microseconds each, and starting them one by one takes longer than
running them. A CUDA graph starts them all at once. What is computed is the same, and that is checked before a record
is trusted: one recorded step and one performed call by call, from the same state, must agree.
"""

import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from helpers._generators import shared_generators, unchanged
from helpers.training.lockstep import Lockstep

WARM_UP = 3  # steps before recording, in which libraries choose algorithms and allocate their workspaces
# Relative. Atomic additions in bfloat16 differ by a few thousandths, in float64 by rounding; a wrong record by more.
AGREEMENT, AGREEMENT_IN_FLOAT64 = 1e-2, 1e-7

Step = Callable[[], None]
Recorder = Callable[[Step], Step]


class Unrecordable(RuntimeError):
    """A step that cannot be recorded; the message says why."""


def stepper_for(lockstep: Lockstep) -> Step:
    """Advances all runs by one step at each call: a recorded graph on CUDA, the step as it is written elsewhere."""
    device = lockstep.weights.device
    return recorded(lockstep, partial(cuda_graph, device)) if device.type == "cuda" else lockstep.step


def recorded(lockstep: Lockstep, record: Recorder) -> Step:
    """Records the step at its first call and repeats the record from then on.

    A step that cannot be recorded, or whose record computes something else, is performed as it is written, after one
    warning that says why. Recording and checking leave the runs and the shared generators as they were, to the bit.

    Args:
        lockstep: the runs.
        record: performs a step at least once and returns a function that repeats it on the same memory.
    """
    step: Step | None = None

    def advance() -> None:
        nonlocal step
        if step is None:
            try:
                step = _checked_record(lockstep, record)
            except Unrecordable as reason:
                warnings.warn(f"{reason}; the steps are performed one by one, which is slower", stacklevel=2)
                step = lockstep.step
        step()

    return advance


def _checked_record(lockstep: Lockstep, record: Recorder) -> Step:
    """The record, if it does what the step does.

    Raises:
        Unrecordable: if recording fails, the step draws on the processor, or the two do not agree.
    """
    before = [tensor.clone() for tensor in lockstep.state()]
    generators = shared_generators(lockstep.weights.device)
    drawn = torch.default_generator.get_state()

    def outcome(step: Step) -> list[Tensor]:
        """What one step from the same state leaves behind."""
        with unchanged(generators):
            step()
        after = [tensor.clone() for tensor in [lockstep.gradients, *lockstep.state()]]
        _put_back(lockstep, before)
        return after

    with unchanged(generators):
        try:
            replay = record(lockstep.step)
        except RuntimeError as error:  # what torch raises where a step waits for the device or leaves it
            raise Unrecordable(f"the training step could not be recorded as a CUDA graph ({_cause(error)})") from error
        finally:
            _put_back(lockstep, before)
        if _drew_on_the_processor(drawn):
            raise Unrecordable(
                "the training step draws random numbers on the processor, which a CUDA graph would freeze"
            )
    apart = _distance(outcome(lockstep.step), outcome(replay))
    if not apart <= (AGREEMENT_IN_FLOAT64 if lockstep.weights.dtype == torch.float64 else AGREEMENT):
        raise Unrecordable(f"the recorded training step differs from the step itself (by {apart:.1e} of its size)")
    return replay


def _drew_on_the_processor(before: Tensor) -> bool:
    return not torch.equal(before, torch.default_generator.get_state())


def _put_back(lockstep: Lockstep, before: list[Tensor]) -> None:
    for tensor, value in zip(lockstep.state(), before, strict=True):
        tensor.copy_(value)


def _cause(error: BaseException) -> str:
    """What went wrong first: leaving a recording that failed raises an error of its own."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error).partition("\n")[0]


def _distance(ones: list[Tensor], others: list[Tensor]) -> float:
    """The largest relative difference between tensors in pairs; infinite where only one of two is a number."""
    apart = 0.0
    for one, other in zip(ones, others, strict=True):
        if not torch.equal(one.isnan(), other.isnan()):
            return torch.inf
        one, other = one.double().nan_to_num(), other.double().nan_to_num()
        if not torch.equal(one, other):
            apart = max(apart, ((one - other).norm() / one.norm()).item())
    return apart


def cuda_graph(device: torch.device, work: Step) -> Step:
    """Warm up on a stream of its own, as recording asks for, then record: a replay is one launch.

    Other threads may use the device meanwhile: only calls of this one can break the recording.
    """
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    try:
        with torch.cuda.device(device), torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                work()
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                work()
    except RuntimeError:
        _leave_capture(device)
        raise
    finally:
        torch.cuda.current_stream(device).wait_stream(stream)
    return graph.replay


def _leave_capture(device: torch.device) -> None:
    """Free the device's generator, which a recording that failed leaves in the belief that it goes on."""
    generator = torch.cuda.default_generators[device.index or 0]
    fresh = torch.Generator(device)
    fresh.set_state(generator.get_state())
    generator.graphsafe_set_state(fresh)
