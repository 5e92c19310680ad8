"""What traces, Hessian products and the whole bound cost, side by side with other ways to get them.

    python benchmarks/bench_curvature.py [--quick] [--out FILE] [--threads N]

Everything is compared in one run, on the same weights and data. Estimators of different spread are compared at equal
standard error: seconds times variance, which does not depend on the number of probes. The networks are ResNet-18 of
width 8 and 64 on CIFAR-10 (JPEG edition) where HELPERS_DATA holds it, else on digits. ``--quick`` takes seconds, runs
the same code on tiny inputs, and writes nothing unless told where.
"""

import argparse
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import curvlinops
import torch
from _published import bound as published_bound
from _published import pyhessian_batch_trace, pyhessian_loader_trace
from _timing import RESULTS, flops, interleaved, median, origin, peak_memory, seconds, write
from torch import Tensor, nn

from helpers import curvature, data, models, omniscient, training
from helpers.curvature.batches import usual_batch
from helpers.data import Split
from helpers.losses import ClippedCrossEntropy

Json = dict[str, Any]

EXACT = 1e-9  # an error below this share of the published one is rounding


@dataclass(frozen=True)
class Sizes:
    """How much to measure. ``networks``: width, examples, epochs when "early" and when "converged", probes."""

    networks: tuple[tuple[int, int, int, int, int], ...]
    batch: int  # of the libraries compared with, and of a training step
    repeats: int
    bound_n: int
    bound_epochs: int
    lambdas: tuple[float, ...]
    path: tuple[float, ...]
    growth_n: tuple[int, ...]
    growth_width: tuple[int, ...]


FULL = Sizes(
    networks=((8, 400, 1, 40, 16), (64, 32, 4, 40, 8)), batch=100, repeats=9, bound_n=80, bound_epochs=40,
    lambdas=(1.0, 1e3, 1e9),
    path=tuple(10.0 ** (-1 + i / 2.4) for i in range(25)),
    growth_n=(32, 64, 128, 256, 512), growth_width=(4, 8, 16, 32),
)  # fmt: skip
QUICK = Sizes(
    networks=((2, 8, 1, 2, 2),), batch=4, repeats=1, bound_n=8, bound_epochs=1,
    lambdas=(1.0,), path=(1.0, 1e3), growth_n=(4, 8), growth_width=(2, 3),
)  # fmt: skip


def load(quick: bool) -> Split:
    """CIFAR-10 (JPEG edition) if it is there, else digits as images."""
    if not quick:
        try:
            return data.load("cifar10-jpeg")
        except data.DataError as error:
            print(f"{error}\nUsing digits instead.")
    return data.as_images(data.load("digits"))


def trained(split: Split, width: int, epochs: int, seed: int = 0) -> nn.Module:
    """One ResNet-18 of this width after so many epochs on the split."""
    make = partial(models.resnet18, width, split.classes, channels=split.inputs.shape[1])
    batch = min(20, len(split))
    return training.train_ensemble(
        make, [split], epochs=epochs, batch_size=batch, lr=0.01, momentum=0.9, seed=seed
    ).models[0]


def forward_flops(model: nn.Module, split: Split) -> float:
    """F: operations of one example's forward pass."""
    with torch.no_grad():
        return flops(lambda: model(split.inputs[:4])) / 4


# --- Traces -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """One estimator of a trace: value, variance (and how well it is known), seconds and work of that one estimate."""

    value: float
    variance: float
    freedom: float
    seconds: float
    work: float

    @property
    def merit(self) -> float:
        """Seconds times variance: what an estimate of unit variance takes."""
        return self.seconds * self.variance


def traces(model: nn.Module, split: Split, loss: ClippedCrossEntropy, sizes: Sizes, probes: int) -> Json:
    """Every estimator of Tr H on the same weights, and what it takes to a standard error of 5%."""
    unit = forward_flops(model, split) * len(split)
    costs = {
        "PyHessian, loader": pyhessian_loader_trace(model, split, loss, sizes.batch, probes),
        "PyHessian, per batch": pyhessian_batch_trace(model, split, loss, sizes.batch, probes),
        "curvlinops": curvlinops_trace(model, split, loss, sizes.batch, probes),
        "helpers, Hutchinson": helpers_trace(model, split, loss, "hutchinson", max(probes // 4, 2)),
        "helpers, auto": helpers_trace(model, split, loss, "auto", max(probes // 2, 2)),
    }
    best = Cost(**costs["helpers, auto"])
    rows = {}
    for name, measured in costs.items():
        cost = Cost(**measured)
        to_five_percent = cost.variance / (0.05 * best.value) ** 2
        rows[name] = {
            **measured,
            "work": cost.work / unit,
            "relative_spread": cost.variance**0.5 / best.value,
            "seconds_to_5_percent": cost.seconds * to_five_percent,
            "work_to_5_percent": cost.work / unit * to_five_percent,
            "ratio": cost.merit / best.merit,
            "ratio_error": cost.merit / best.merit * (2 / cost.freedom + 2 / best.freedom) ** 0.5,
        }
    return rows


def curvlinops_trace(model: nn.Module, split: Split, loss: ClippedCrossEntropy, batch: int, probes: int) -> Json:
    """What ``curvlinops.hutchinson_trace`` computes, keeping its samples; its losses know no clip."""
    pairs = list(zip(split.inputs.split(batch), split.targets.split(batch), strict=True))
    H = curvlinops.HessianLinearOperator(
        model, nn.CrossEntropyLoss(), models.trainable(model), pairs, check_deterministic=False
    )
    samples: list[Tensor] = []

    def run(count: int = probes) -> None:
        signs = torch.randint(0, 2, (H.shape[1], count)).to(split.inputs.dtype) * 2 - 1
        samples.append((signs * (H @ signs)).sum(0).double())

    work = flops(partial(run, 1)) * probes
    samples.clear()
    elapsed = seconds(run)
    values = torch.cat(samples)
    return {
        "value": values.mean().item(),
        "variance": values.var().item() / probes,
        "freedom": probes - 1.0,
        "seconds": elapsed,
        "work": work,
    }


def helpers_trace(model: nn.Module, split: Split, loss: ClippedCrossEntropy, method: str, runs: int) -> Json:
    """The cheapest estimates that ``curvature.trace`` gives, the choice of method included; mean of several."""

    def run(seed: int = 0) -> curvature.Estimate:
        return curvature.trace(model, loss, split, method=method, tolerance=lambda value: inf, seed=seed)

    found: list[curvature.Estimate] = []
    times = [seconds(lambda seed=seed: found.append(run(seed))) for seed in range(runs)]
    values = torch.tensor([estimate.value for estimate in found], dtype=torch.float64)
    variances = torch.tensor([estimate.standard_error**2 for estimate in found], dtype=torch.float64)
    between = 2 * (variances.var() / variances.mean() ** 2 / runs).item()  # of the variance, relative and squared
    return {
        "value": values.mean().item(),
        "variance": variances.mean().item(),
        "freedom": 4 / between,
        "seconds": median(times)[0],
        "work": flops(run),
    }


# --- Products, memory, growth ----------------------------------------------------------------------------------------


def product_batch(model: nn.Module) -> int:
    """Examples that ``curvature.hvp`` takes at a time."""
    return max(usual_batch(model) // 2, 1)


def products(model: nn.Module, split: Split, loss: ClippedCrossEntropy, sizes: Sizes) -> Json:
    """A Hessian-vector product against two gradients, with the data in the same batches everywhere."""
    v = torch.randn(len(models.weights(model)), generator=torch.Generator().manual_seed(0))
    batch = product_batch(model)
    pairs = list(zip(split.inputs.split(batch), split.targets.split(batch), strict=True))
    H = curvature.hessian_operator(model, loss, split)
    other = curvlinops.HessianLinearOperator(
        model, nn.CrossEntropyLoss(), models.trainable(model), pairs, check_deterministic=False
    )
    functions: dict[str, Callable[[], Any]] = {
        "two gradients": lambda: [plain_gradient(model, loss, pairs) for _ in range(2)],
        "helpers": lambda: H(v),
        "helpers, method chosen anew": lambda: curvature.hvp(model, loss, split, v),
        "curvlinops": lambda: other @ v,
        "PyHessian": lambda: pyhessian_product(model, split, loss, v),
    }
    times = interleaved(functions, sizes.repeats)
    unit = forward_flops(model, split) * len(split)
    rows = {}
    for name, function in functions.items():
        middle, error = median(times[name])
        # turn by turn: what slows a whole turn cancels
        ratios = [mine / base for mine, base in zip(times[name], times["two gradients"], strict=True)]
        ratio, ratio_error = median(ratios)
        rows[name] = {
            "seconds": middle,
            "seconds_error": error,
            "ratio": ratio,
            "ratio_error": ratio_error,
            "work": flops(function) / unit,
        }
    model.zero_grad(set_to_none=True)
    return rows


def plain_gradient(model: nn.Module, loss: ClippedCrossEntropy, pairs: list[tuple[Tensor, Tensor]]) -> None:
    """A pass forward and back over the batches, with nothing looked after."""
    for inputs, targets in pairs:
        torch.autograd.grad(loss(model(inputs), targets).sum(), models.trainable(model))


def pyhessian_product(model: nn.Module, split: Split, loss: ClippedCrossEntropy, v: Tensor) -> None:
    from _published import pyhessian

    pyhessian(model, split, loss, product_batch(model)).dataloader_hv_product(models.split_like(model, v))


def memory(model: nn.Module, split: Split, loss: ClippedCrossEntropy, sizes: Sizes) -> Json:
    """Peak bytes of each task beside those of one SGD step with momentum at batch size 128 (or n)."""
    v = torch.randn(len(models.weights(model)), generator=torch.Generator().manual_seed(0))
    rows = split.take(torch.arange(min(128, len(split))))

    def step() -> None:
        model.train()
        optimiser = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
        loss(model(rows.inputs), rows.targets).mean().backward()
        optimiser.step()
        optimiser.zero_grad()
        model.eval()

    H = curvature.hessian_operator(model, loss, split)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tasks: dict[str, Callable[[], Any]] = {
        "training step": step,
        "gradient": lambda: curvature.gradient(model, loss, split),
        "product": lambda: H(v),
        "trace": lambda: curvature.trace(model, loss, split, tolerance=lambda value: inf),
    }
    peaks = {name: peak_memory(task) for name, task in tasks.items()}
    model.load_state_dict(state)
    return {name: {"bytes": peak, "ratio": peak / peaks["training step"]} for name, peak in peaks.items()}


def growth(pool: Split, loss: ClippedCrossEntropy, sizes: Sizes) -> Json:
    """Seconds of a gradient, a product and a trace as the sample and the network grow."""

    def point(width: int, n: int) -> Json:
        split = pool.take(torch.arange(n))
        torch.manual_seed(0)
        model = models.resnet18(width, split.classes, channels=split.inputs.shape[1]).eval()
        v = torch.randn(len(models.weights(model)))
        H = curvature.hessian_operator(model, loss, split)
        method = curvature.choose_method(model, loss, split)[0]
        tasks: dict[str, Callable[[], Any]] = {
            "gradient": lambda: curvature.gradient(model, loss, split),
            "product": lambda: H(v),
            "trace": lambda: curvature.trace(model, loss, split, method=method, tolerance=lambda value: inf),
        }
        times = interleaved(tasks, 3)
        return {"n": n, "d": len(v), "seconds": {name: median(found)[0] for name, found in times.items()}}

    middle = sizes.growth_width[1]
    return {
        "n": [point(middle, n) for n in sizes.growth_n],
        "d": [point(width, sizes.growth_n[1]) for width in sizes.growth_width],
    }


# --- The whole bound -------------------------------------------------------------------------------------------------


def whole_bound(pool: Split, loss: ClippedCrossEntropy, sizes: Sizes) -> Json:
    """The omniscient bound of two runs, for a few lambdas and for a whole path, against the published procedure.

    The published procedure pays for each lambda separately, so its path is priced at the mean of the lambdas measured.
    """
    n = sizes.bound_n
    *train, val, val2 = data.partition(pool, [n] * 4, seed=1)
    width = sizes.networks[0][0]
    ensemble = [trained(split, width, sizes.bound_epochs) for split in train]
    unit = forward_flops(ensemble[0], val)
    published = published_bound(ensemble, train, val, val2, loss, sizes.lambdas, min(60, n))
    rows: Json = {"published": published | {"work": published["work"] / unit}}
    settings = {"loss": loss, "rtol": 1e-2, "max_iterations": 40}
    for lambdas in (sizes.lambdas, sizes.path):
        run = partial(omniscient.estimate, ensemble, train, val, val2, lambdas=lambdas, **settings)
        found: list[list[omniscient.Row]] = []
        elapsed = seconds(lambda run=run, found=found: found.append(run()))
        share = len(lambdas) / len(sizes.lambdas)
        ours = {"seconds": elapsed, "work": flops(run) / unit}
        rows[f"helpers, {len(lambdas)} lambdas"] = ours | {
            "lambdas": list(lambdas),
            "trace_error": [row.trace_error for row in found[0]],
            "value": [row.value for row in found[0]],
            "residual": [row.residual for row in found[0]],
            "work_ratio": share * published["work"] / unit / ours["work"],
            "seconds_ratio": share * published["seconds"] / ours["seconds"],
        }
    return rows | {"equal_error": at_equal_error(rows, sizes)}


def at_equal_error(rows: Json, sizes: Sizes) -> Json:
    """The same ratios with the published traces given the probes that would bring them to our standard error.

    Row by row; where ours are exact, but for rounding, no number of probes would do, and as many are granted as were
    used.
    """
    published, ours = rows["published"], rows[f"helpers, {len(sizes.lambdas)} lambdas"]
    pairs = list(zip(published["trace_error"], ours["trace_error"], strict=True))
    exact = [o <= EXACT * p for p, o in pairs]
    factors = [1.0 if same else (p / o) ** 2 for same, (p, o) in zip(exact, pairs, strict=True)]
    traces = published["trace_share"]
    more = 1 - traces + traces * sum(factors) / len(factors)
    return {
        "exact_rows": sum(exact),
        "probe_factors": factors,
        "seconds_ratio": ours["seconds_ratio"] * more,
        "work_ratio": ours["work_ratio"] * more,
    }


# --- Everything ------------------------------------------------------------------------------------------------------


def measure(sizes: Sizes, pool: Split) -> Json:
    loss = ClippedCrossEntropy.per_class(pool.classes)
    networks = []
    for width, n, early, converged, probes in sizes.networks:
        split = data.partition(pool, [n], seed=0)[0]
        for state, epochs in (("early", early), ("converged", converged)):
            model = trained(split, width, epochs)
            row = {
                "width": width,
                "n": n,
                "d": len(models.weights(model)),
                "state": state,
                "loss": curvature.values(model, loss, split).mean().item(),
                "forward_flops": forward_flops(model, split),
                "traces": traces(model, split, loss, sizes, probes),
            }
            if state == "converged":
                row["products"] = products(model, split, loss, sizes)
                row["memory"] = memory(model, split, loss, sizes)
            networks.append(row)
            report(row)
    return {"networks": networks, "growth": growth(pool, loss, sizes), "bound": whole_bound(pool, loss, sizes)}


def report(row: Json) -> None:
    """One network on the screen."""
    print(f"\nResNet-18, width {row['width']}, n = {row['n']}, {row['state']} (loss {row['loss']:.3g})")
    for name, cost in row["traces"].items():
        print(
            f"  {name:24} trace {cost['value']:9.4g} +- {cost['variance'] ** 0.5:7.2g} in {cost['seconds']:7.3f} s; "
            f"to 5%: {cost['seconds_to_5_percent']:8.2f} s, {cost['work_to_5_percent']:8.1f} F an example; "
            f"ratio {cost['ratio']:6.1f} +- {cost['ratio_error']:.1f}"
        )
    for name, cost in row.get("products", {}).items():
        print(
            f"  {name:28} {cost['seconds']:7.3f} s +- {cost['seconds_error']:.3f}, {cost['work']:5.2f} F an example, "
            f"ratio {cost['ratio']:.2f} +- {cost['ratio_error']:.2f}"
        )
    for name, peak in row.get("memory", {}).items():
        print(f"  {name:24} {peak['bytes'] / 1e6:8.1f} MB, {peak['ratio']:.2f} of a training step")


def report_bound(rows: Json) -> None:
    """The bound on the screen."""
    print(f"\nThe published bound: {rows['published']['seconds']:.1f} s, {rows['published']['work']:.3g} F")
    for name, row in rows.items():
        if name not in ("published", "equal_error"):
            print(f"  {name}: {row['seconds']:.1f} s ({row['seconds_ratio']:.1f}x), {row['work']:.3g} F", end=" ")
            print(f"({row['work_ratio']:.1f}x)")
    print(f"  at equal standard error of the traces: {rows['equal_error']}")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny inputs, seconds; writes only where --out says")
    parser.add_argument("--out", type=Path, help="the file to write")
    parser.add_argument("--threads", type=int, default=1, help="of the processor (default 1)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", category=UserWarning, module="torch")
    torch.manual_seed(0)
    pool = load(options.quick)
    content = measure(QUICK if options.quick else FULL, pool)
    report_bound(content["bound"])
    libraries = ["torch", "pyhessian", "curvlinops-for-pytorch", "numpy", "scipy"]
    out = options.out or (None if options.quick else RESULTS / "bench-curvature.json")
    if out:
        write(out, {"origin": origin(pool.edition, libraries), **content})


if __name__ == "__main__":
    main(sys.argv[1:])
