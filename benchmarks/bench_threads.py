"""A small training on two threads of which each waits for the other, where both have one processor.

    python benchmarks/bench_threads.py [--quick] [--out FILE]

So it is for a moment whenever other work takes one of two processors, and for long on a machine that is shared.
Threads that spin while they wait take the time that the other needs; that is how PyTorch's come, unless ``helpers`` is
imported first, which lets them sleep. One thread waits for nobody. The network is that of the recipe in the README.
Each way has a process of its own; its pool of threads is made for all processors, before the process is held to one.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _timing import RESULTS, median, origin, write

WAYS = {  # threads, and what is imported first
    "one thread": (1, "torch"),
    "two threads that sleep": (2, "helpers"),
    "two threads that spin": (2, "torch"),
}
EPOCH = """
import ctypes, os, sys, time
from importlib.util import find_spec
from pathlib import Path

if sys.argv[2] == "helpers":
    import helpers
one = min(os.sched_getaffinity(0))
os.sched_setaffinity(0, range(os.cpu_count()))
for library in Path(find_spec("torch").origin).parent.glob("lib/libgomp*"):
    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
os.sched_setaffinity(0, {one})

import torch
from helpers import data, models, training

splits = data.disjoint(data.load("digits"), 4, 200, seed=0)

def epoch():
    training.train_ensemble(lambda: models.mlp(64, 16, 10), splits, epochs=1, batch_size=20, lr=0.1, seed=0)

torch.set_num_threads(1)
epoch()
torch.set_num_threads(int(sys.argv[1]))
start = time.perf_counter()
epoch()
print(time.perf_counter() - start)
"""


def epoch_seconds(threads: int, first: str, environment: dict[str, str]) -> float:
    """Seconds of an epoch in a process of its own, where ``first`` is imported first."""
    left = {name: value for name, value in environment.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    command = [sys.executable, "-c", EPOCH, str(threads), first]
    return float(subprocess.run(command, env=left, capture_output=True, text=True, check=True).stdout)


def measured(ways: Sequence[str], repeats: int, environment: dict[str, str]) -> dict[str, Any]:
    """Medians with their standard errors; the ways take turns."""
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way in ways:
            times[way].append(epoch_seconds(*WAYS[way], environment))
    found = {way: median(values) for way, values in times.items()}
    return {
        "repeats": repeats,
        "seconds_an_epoch": {way: value for way, (value, _) in found.items()},
        "errors": {way: error for way, (_, error) in found.items()},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one turn; writes only where --out says")
    parser.add_argument("--out", type=Path, help="the file to write")
    options = parser.parse_args(arguments)
    content = {"threads": measured(list(WAYS), 1 if options.quick else 5, dict(os.environ))}
    for way, seconds in content["threads"]["seconds_an_epoch"].items():
        print(f"{way}: {seconds:.3g} seconds an epoch")
    out = options.out or (None if options.quick else RESULTS / "bench-threads.json")
    if out:
        edition = "digits (scikit-learn)"
        write(out, {"origin": origin(edition, ["torch", "numpy"]), "whole": not options.quick, **content})


if __name__ == "__main__":
    main(sys.argv[1:])
