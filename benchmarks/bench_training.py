"""k = 6 ResNet-18 on their own samples: ``train_ensemble`` beside the plain loop, the same work in one run.

The plain loop is what one would write first: for each model in turn a ``DataLoader`` with shuffling and a
``torch.optim.SGD``. Both take the same number of steps on the same images with the same settings. Repetitions
alternate, medians are compared, and the ratio of each pair gives the spread.

On a processor the network has width 8 and both sides compute in float32. On CUDA it has width 64 and both sides use
bfloat16 (autocast), so that the ratio is of the organisation alone. The time of 200 epochs on 8,333 images is
extrapolated from the steps and set against the floor: the arithmetic at the device's peak.

A second comparison on one thread of the processor asks what layout and precision give: k = 4 runs beside the barest
loop, ``model(x)`` in the default layout on rows of a tensor. No data loader is in the way there. The C library decides
how much of the memory that a step frees goes back to the system, to be fetched page by page in the next step, and the
loop pays most for that; so the comparison is made twice, in a process as it starts and in one that keeps its memory.
The floor of this comparison is the time in the convolutions and the normalisation of PyTorch, which every organisation
calls alike.

    python benchmarks/bench_training.py [--quick] [--out FILE]
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from _timing import RESULTS, interleaved, shares, write
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.utils.data import DataLoader, TensorDataset

from helpers import models
from helpers.data import Split, disjoint
from helpers.experiments.machinery.provenance import environment, peak_memory
from helpers.training import train_ensemble
from helpers.training.augment import crop_and_flip

OUT = RESULTS / "bench-training.json"
RUNS, LR, MOMENTUM = 6, 0.01, 0.9
FLOP_A_SAMPLE = 3 * 1.11e9  # forward and backward of ResNet-18, width 64, one 32 x 32 image
FULL = {"epochs": 200, "n": 8_333, "batch_size": 60}
PEAK_BF16 = {"H200": 989e12, "H100": 989e12, "A100": 312e12}  # dense, by the makers' data sheets, FLOP a second


@dataclass(frozen=True)
class Size:
    """What both sides train: ``n`` images for each of the runs."""

    width: int
    n: int
    batch_size: int
    repetitions: int
    runs: int = RUNS
    epochs: int = 1

    @property
    def steps(self) -> int:
        """Steps of the ensemble in a repetition."""
        return self.epochs * (self.n // self.batch_size)


SIZES = {
    ("cpu", True): Size(width=4, n=20, batch_size=10, repetitions=1),
    ("cpu", False): Size(width=8, n=120, batch_size=60, repetitions=7),
    ("cuda", True): Size(width=64, n=600, batch_size=60, repetitions=1),
    ("cuda", False): Size(width=64, n=8_333, batch_size=60, repetitions=5),
}
ONE_THREAD = {
    True: Size(width=4, n=20, batch_size=10, repetitions=1, runs=2),
    False: Size(width=8, n=600, batch_size=60, repetitions=7, runs=4, epochs=2),
}
NECESSARY = {  # whatever the organisation, a step calls these of PyTorch
    "convolutions": ["aten::mkldnn_convolution", "aten::_slow_conv2d_forward", "aten::convolution_backward"],
    "normalisation": ["aten::native_batch_norm", "aten::native_batch_norm_backward"],
}
MOST_KEPT = 31 * 2**20  # bytes: glibc keeps twice the largest block that was freed, up to blocks of 32 MiB


def images(n: int) -> Split:
    """n random images with random labels: the time of a step does not depend on what they show."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(n, 3, 32, 32, generator=generator)
    return Split(inputs, torch.randint(10, (n,), generator=generator), 10, "random images")


def plain_loop(
    make: Callable[[], nn.Module], splits: Sequence[Split], size: Size, device: torch.device
) -> list[nn.Module]:
    """One model after the other, each with a loader and an optimiser of its own."""
    torch.manual_seed(0)
    first = make().to(device)
    trained = []
    for split in splits:
        model = deepcopy(first).train()
        loader = DataLoader(
            TensorDataset(split.inputs, split.targets), size.batch_size, shuffle=True, drop_last=True,
            pin_memory=device.type == "cuda",
        )  # fmt: skip
        optimizer = torch.optim.SGD(model.parameters(), LR, MOMENTUM)
        for inputs, targets in loader:
            optimizer.zero_grad()
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                value = F.cross_entropy(model(inputs.to(device)), targets.to(device))
            value.backward()
            optimizer.step()
        trained.append(model)
    return trained


def ensemble(
    make: Callable[[], nn.Module], splits: Sequence[Split], size: Size, device: torch.device, **changes: Any
) -> None:
    """The same work by the package, which records the dispersion on the way."""
    train_ensemble(
        make,
        splits,
        epochs=size.epochs,
        batch_size=size.batch_size,
        lr=LR,
        momentum=MOMENTUM,
        seed=0,
        device=device,
        **changes,
    )


def side_by_side(size: Size, device: torch.device) -> dict[str, Any]:
    """Medians of both sides, and the ratio with its spread over repetitions."""
    splits = disjoint(images(size.runs * size.n), size.runs, size.n, seed=0)
    make = partial(models.resnet18, size.width)
    precision = "bf16" if device.type == "cuda" else "float32"
    times = interleaved(
        {
            "plain": lambda: plain_loop(make, splits, size, device),
            "ensemble": lambda: ensemble(make, splits, size, device, precision=precision),
            "augmented": lambda: ensemble(make, splits, size, device, precision=precision, augment=crop_and_flip),
        },
        size.repetitions,
    )
    ratios = sorted(plain / fast for plain, fast in zip(times["plain"], times["ensemble"], strict=True))
    return {
        **asdict(size),
        "steps": size.steps,
        "seconds_a_step": {name: statistics.median(values) / size.steps for name, values in times.items()},
        "ratio": statistics.median(ratios),
        "ratio_range": [ratios[0], ratios[-1]],
    }


def bare_loop(make: Callable[[], nn.Module], splits: Sequence[Split], size: Size) -> None:
    """One model after the other in PyTorch's default layout and precision, on rows of a tensor."""
    torch.manual_seed(0)
    first = make()
    for split in splits:
        model = deepcopy(first).train()
        optimizer = torch.optim.SGD(model.parameters(), LR, MOMENTUM)
        for _ in range(size.epochs):
            for rows in torch.randperm(len(split)).split(size.batch_size):
                optimizer.zero_grad()
                F.cross_entropy(model(split.inputs[rows]), split.targets[rows]).backward()
                optimizer.step()


def on_one_thread(size: Size) -> dict[str, Any]:
    """Medians of the bare loop and of ``train_ensemble``, and each ratio with its spread.

    In float32, and in bfloat16 where the processor computes in it.
    """
    device = torch.device("cpu")
    splits = disjoint(images(size.runs * size.n), size.runs, size.n, seed=0)
    make = partial(models.resnet18, size.width)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    fast = {name: partial(ensemble, make, splits, size, device, precision=name) for name in ("float32", "bf16")}
    try:
        fast["bf16"]()
    except ValueError as error:
        print(f"bf16 was not measured: {error}")
        del fast["bf16"]
    times = interleaved({"plain": lambda: bare_loop(make, splits, size), **fast}, size.repetitions)
    necessary = {name: shares(train, NECESSARY) for name, train in fast.items()}
    torch.set_num_threads(before)
    ratios = {
        name: sorted(plain / other for plain, other in zip(times["plain"], times[name], strict=True)) for name in fast
    }
    return {
        **asdict(size),
        "steps": size.steps,
        "seconds_a_step": {name: statistics.median(values) / size.steps for name, values in times.items()},
        "ratio": {name: statistics.median(values) for name, values in ratios.items()},
        "ratio_range": {name: [values[0], values[-1]] for name, values in ratios.items()},
        "share_in": necessary,
        "highest_ratio": {  # if everything else cost nothing
            name: statistics.median(ratios[name]) / sum(kinds.values()) for name, kinds in necessary.items()
        },
    }


def against_the_floor(row: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """200 epochs at the measured speed, and the share of the device's peak that this is."""
    steps = FULL["epochs"] * (FULL["n"] // FULL["batch_size"])
    floating = RUNS * steps * FULL["batch_size"] * FLOP_A_SAMPLE
    total = steps * row["seconds_a_step"]["augmented"]
    name = torch.cuda.get_device_name(device)
    peak = next((value for key, value in PEAK_BF16.items() if key in name), None)
    share = None if peak is None else floating / peak / total
    return {**FULL, "petaflop": floating / 1e15, "seconds": total, "peak_flop_a_second": peak, "share_of_peak": share}


def loop_or_vmap(repetitions: int) -> list[dict[str, Any]]:
    """Gradients of k small networks on a processor: a loop over them, and ``torch.func.vmap`` over their weights."""
    networks = {
        "MLP 64-64-10, batch 16": (partial(models.mlp, 64, 64, 10), (16, 64)),
        "MLP 64-128-128-10, batch 16": (partial(models.mlp, 64, 128, 10, depth=2), (16, 64)),
        "MLP 3072-256-256-10, batch 50": (partial(models.mlp, 3072, 256, 10, depth=2), (50, 3072)),
        "CNN with 8 filters, batch 50": (partial(models.cnn, 8), (50, 3, 32, 32)),
    }
    rows = []
    for name, (make, shape) in networks.items():
        times = interleaved(_both_ways(make, shape), repetitions)
        medians = {way: statistics.median(values) for way, values in times.items()}
        rows.append({"network": name, **medians, "loop_over_vmap": medians["loop"] / medians["vmap"]})
    return rows


def _both_ways(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> dict[str, Callable[[], object]]:
    torch.manual_seed(0)
    networks = [make() for _ in range(RUNS)]
    rows = torch.stack([models.weights(network) for network in networks])
    inputs, targets = torch.randn(RUNS, *shape), torch.randint(10, (RUNS, shape[0]))
    names = [name for name, _ in networks[0].named_parameters()]

    def loop() -> list[Any]:
        values = [F.cross_entropy(network(x), y) for network, x, y in zip(networks, inputs, targets, strict=True)]
        return [torch.autograd.grad(v, models.trainable(network)) for v, network in zip(values, networks, strict=True)]

    def loss(row: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        parameters = dict(zip(names, models.split_like(networks[0], row), strict=True))
        return F.cross_entropy(functional_call(networks[0], parameters, (x,)), y)

    together = vmap(grad(loss))
    return {"loop": loop, "vmap": lambda: together(rows, inputs, targets)}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes; the numbers mean little")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FILE")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    results: dict[str, Any] = {"one_thread": on_one_thread(ONE_THREAD[options.quick])}  # first: the memory is fresh
    _tell_precisions("a fresh process", results["one_thread"])
    torch.empty(MOST_KEPT, dtype=torch.uint8)  # and freed
    results["one_thread_memory_kept"] = on_one_thread(ONE_THREAD[options.quick])
    _tell_precisions("memory kept", results["one_thread_memory_kept"])
    results["cpu"] = side_by_side(SIZES["cpu", options.quick], torch.device("cpu"))
    _tell("processor, width {width}", results["cpu"])
    results["loop_or_vmap"] = loop_or_vmap(3 if options.quick else 15)
    for row in results["loop_or_vmap"]:
        print(f"{row['network']}: loop {1e3 * row['loop']:.2f} ms, vmap {1e3 * row['vmap']:.2f} ms")
    if torch.cuda.is_available():
        device = torch.device("cuda")
        results["cuda"] = side_by_side(SIZES["cuda", options.quick], device)
        results["cuda"]["full"] = against_the_floor(results["cuda"], device)
        _tell("CUDA, width {width}", results["cuda"])
        print("200 epochs: {seconds:.0f} s, share of the peak: {share_of_peak}".format(**results["cuda"]["full"]))
    else:
        results["cuda"] = None
        print("No CUDA device here: the comparison at width 64 and the share of the peak were not measured.")
    origin = {**environment(), "seconds": time.monotonic() - started, "peak_memory_bytes": peak_memory()}
    write(options.out, {"quick": options.quick, "provenance": origin, **results})


def _tell(where: str, row: dict[str, Any]) -> None:
    times = ", ".join(f"{name} {1e3 * value:.1f} ms" for name, value in row["seconds_a_step"].items())
    ratio = "{:.2f} ({:.2f} to {:.2f})".format(row["ratio"], *row["ratio_range"])
    print(f"{where.format(**row)}: a step of {RUNS} runs: {times}; plain / ensemble {ratio}")


def _tell_precisions(memory: str, row: dict[str, Any]) -> None:
    plain = 1e3 * row["seconds_a_step"]["plain"]
    print(f"one thread, {memory}, width {row['width']}: a step of {row['runs']} runs, plain {plain:.1f} ms")
    for name, ratio in row["ratio"].items():
        low, high = row["ratio_range"][name]
        print(
            f"  {name} {1e3 * row['seconds_a_step'][name]:.1f} ms; plain / {name} {ratio:.2f} ({low:.2f} to {high:.2f})"
        )
        kinds = ", ".join(f"{kind} {share:.0%}" for kind, share in row["share_in"][name].items())
        print(f"    of which {kinds}; were that all, plain / {name} {row['highest_ratio'][name]:.2f}")


if __name__ == "__main__":
    main()
