"""What the benchmarks share: clocks, counts of work, peak memory, and the file that the book reads."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from helpers.experiments.machinery import storage
from helpers.experiments.machinery.provenance import commit, device_name

RESULTS = Path(__file__).resolve().parents[1] / "book" / "results"


def seconds(function: Callable[[], Any]) -> float:
    """Wall-clock seconds of one call, accelerator included."""
    start = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def interleaved(functions: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each function, called in turns so that a busy machine slows all of them alike; one warm-up each."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(repeats + 1):
        for name, function in functions.items():
            elapsed = seconds(function)
            if turn:
                times[name].append(elapsed)
    return times


def median(values: Sequence[float]) -> tuple[float, float]:
    """Median and its standard error, from the quartiles: a few slow calls on a busy machine do not spoil it."""
    tensor = torch.tensor(values, dtype=torch.float64)
    low, middle, high = tensor.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)).tolist()
    return middle, 1.25 * (high - low) / 1.35 / len(values) ** 0.5


class Operations(TorchDispatchMode):
    """Counts floating-point operations of matrix products and convolutions, by PyTorch's own formulas.

    ``FlopCounterMode`` hooks every module besides, which makes it a network that the package has not tried before.
    """

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.count += formula(*args, **kwargs, out_val=out)
        return out


def flops(function: Callable[[], Any]) -> int:
    """Floating-point operations of matrix products and convolutions in one call, once the package knows the network."""
    function()
    with Operations() as counter:
        function()
    return counter.count


def shares(function: Callable[[], Any], operations: dict[str, Sequence[str]], repeats: int = 3) -> dict[str, float]:
    """Median share of a call's time that a processor spends in groups of operations, what they call left out."""
    function()
    found: dict[str, list[float]] = {name: [] for name in operations}
    for _ in range(repeats):
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            function()
        times = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
        for name, keys in operations.items():
            found[name].append(sum(times.get(key, 0) for key in keys) / sum(times.values()))
    return {name: statistics.median(values) for name, values in found.items()}


def peak_memory(function: Callable[[], Any]) -> int:
    """Most bytes of tensors on the processor that one call holds beyond what was there before."""
    function()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    events = profiler.profiler.kineto_results.events()
    held = peak = 0
    for _, change in sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"):
        held += change
        peak = max(peak, held)
    return peak


def origin(edition: str, libraries: Sequence[str]) -> dict[str, Any]:
    """Where numbers of the processor come from: machine, versions, data, commit, day."""
    return {
        "commit": commit(),
        "cores": os.cpu_count(),
        "data": edition,
        "date": datetime.now(UTC).date().isoformat(),
        "device": device_name(accelerated=False),
        "libraries": {name: version(name) for name in libraries},
        "python": platform.python_version(),
    }


def write(path: Path, content: dict[str, Any]) -> None:
    """Write the artefact whole or not at all, with a digest that ``python -m helpers verify`` checks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    storage.write_json(path, storage.sealed(content))
    print(f"written: {path}")
