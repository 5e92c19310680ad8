"""What the whole bound costs beside the training that it is about, and how its parts grow.

    python benchmarks/bench_bound.py [--quick] [--scale S] [--out FILE] [--threads N]

Four runs of ResNet-18, width 8, on 8,000 images each (CIFAR-10, JPEG edition): the omniscient bound at eight lambdas
against the 30 epochs that trained the runs, in one process. Beside it: exact Gauss-Newton traces, class by class, by
the layers' rules and by one backward pass an example and class; and seconds of the bound as runs, examples, weights and
lambdas grow one at a time. ``--scale`` takes that share of the examples and epochs, ``--quick`` seconds on digits; both
write only where ``--out`` says, so that what is recorded is whole.
"""

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _timing import RESULTS, interleaved, median, origin, seconds, write
from torch import Tensor, nn

from helpers import data, models, omniscient, training
from helpers.curvature.batches import batches
from helpers.curvature.per_example import SquaredNorms, one_by_one
from helpers.data import Split
from helpers.losses import ClippedCrossEntropy

Json = dict[str, Any]
NORMS = Callable[[Split, Callable[[Tensor], list[Tensor]]], Tensor]


@dataclass(frozen=True)
class Sizes:
    """How much to measure: the base point, its neighbours along each axis, and the sample of the exact traces."""

    k: int
    n: int
    n_val: int
    width: int
    epochs: int
    batch_size: int
    lambdas: tuple[float, ...]
    iterations: int
    trace_n: int
    repeats: int
    base: tuple[int, int, int, int]  # k, n, width and number of lambdas from which one axis at a time grows
    growth: dict[str, tuple[int, ...]]


FULL = Sizes(
    k=4, n=8000, n_val=4000, width=8, epochs=30, batch_size=60, lambdas=tuple(10.0**i for i in range(-1, 7)),
    iterations=8, trace_n=256, repeats=5, base=(2, 256, 8, 2),
    growth={"k": (2, 4, 8), "n": (128, 256, 512, 1024), "width": (4, 8, 16), "lambdas": (1, 2, 4, 8, 16)},
)  # fmt: skip
QUICK = Sizes(
    k=2, n=8, n_val=8, width=2, epochs=1, batch_size=4, lambdas=(1.0, 1e3), iterations=1, trace_n=4, repeats=1,
    base=(2, 4, 2, 1), growth={"k": (2, 3), "n": (4, 8), "width": (2, 3), "lambdas": (1, 2)},
)  # fmt: skip


def scaled(sizes: Sizes, share: float) -> Sizes:
    """The same with a share of examples and epochs."""
    whole = asdict(sizes)
    smaller = {name: max(round(share * whole[name]), 2) for name in ("n", "n_val", "epochs", "trace_n")}
    return Sizes(**whole | smaller | {"batch_size": min(sizes.batch_size, smaller["n"])})


def ensemble(pool: Split, k: int, n: int, n_val: int, width: int, epochs: int, batch_size: int) -> tuple[Any, ...]:
    """k trained runs, their samples, val and val2."""
    *train, val, val2 = data.partition(pool, [n] * k + [n_val] * 2, seed=0)
    make = partial(models.resnet18, width, pool.classes, channels=pool.inputs.shape[1])
    run = training.train_ensemble(make, train, epochs=epochs, batch_size=batch_size, lr=0.01, momentum=0.9, seed=0)
    return run.models, train, val, val2


def bound_against_training(pool: Split, loss: ClippedCrossEntropy, sizes: Sizes) -> Json:
    """Seconds of the training and of the bound on what it made."""
    made: list[Any] = []
    arguments = (pool, sizes.k, sizes.n, sizes.n_val, sizes.width, sizes.epochs, sizes.batch_size)
    trained = seconds(lambda: made.append(ensemble(*arguments)))
    rows: list[omniscient.Row] = []
    bounded = seconds(lambda: rows.extend(_bound(made[0], loss, sizes.lambdas, sizes.iterations)))
    return {
        "k": sizes.k,
        "n": sizes.n,
        "epochs": sizes.epochs,
        "lambdas": list(sizes.lambdas),
        "seconds": {"training": trained, "bound": bounded},
        "ratio": bounded / trained,
        "value": [row.value for row in rows],
        "trace_error": [row.trace_error for row in rows],
        "residual": [row.residual for row in rows],
    }


def _bound(made: tuple[Any, ...], loss: ClippedCrossEntropy, lambdas: Sequence[float], most: int) -> list[Any]:
    runs, train, val, val2 = made
    settings = {"rtol": 1e-2, "max_iterations": most, "most_probes": 8}
    return omniscient.estimate(runs, train, val, val2, loss=loss, lambdas=lambdas, **settings)


def exact_traces(pool: Split, loss: ClippedCrossEntropy, sizes: Sizes) -> Json:
    """The exact Gauss-Newton trace of one network: by the layers' rules, and by a backward pass for every term."""
    split = data.partition(pool, [sizes.trace_n], seed=1)[0]
    torch.manual_seed(0)
    model = models.resnet18(sizes.width, pool.classes, channels=pool.inputs.shape[1]).eval()
    found: dict[str, float] = {}

    def by(name: str, norms: NORMS) -> None:
        total = 0.0
        for batch in batches(model, split, 32):
            total += norms(batch, partial(_each_class, loss, batch)).double().sum().item()
        found[name] = total / len(split)

    ways = {"rules": SquaredNorms(model), "a pass a term": partial(_term_by_term, model)}
    times = interleaved({name: partial(by, name, norms) for name, norms in ways.items()}, sizes.repeats)
    ratios = [slow / fast for slow, fast in zip(times["a pass a term"], times["rules"], strict=True)]
    ratio, error = median(ratios)
    torch.testing.assert_close(*map(torch.tensor, found.values()), rtol=1e-4, atol=0.0)
    middle = {name: median(values)[0] for name, values in times.items()}
    return {"n": len(split), "trace": found["rules"], "seconds": middle, "ratio": ratio, "ratio_error": error}


def _each_class(loss: ClippedCrossEntropy, batch: Split, rows: Tensor) -> list[Tensor]:
    signs = torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
    return [loss.sketch(rows, batch.targets, sign.expand(rows.shape)) for sign in signs]


def _term_by_term(model: nn.Module, batch: Split, scalars: Callable[[Tensor], list[Tensor]]) -> Tensor:
    return torch.stack([one_by_one(model, sketch) for sketch in scalars(model(batch.inputs))])


def growth(pool: Split, loss: ClippedCrossEntropy, sizes: Sizes) -> Json:
    """Seconds of the bound along each axis, the others at the base point; each point after a warm-up of its own."""
    names = ("k", "n", "width", "lambdas")
    found: Json = {}
    for axis, values in sizes.growth.items():
        found[axis] = []
        for value in values:
            k, n, width, count = (value if name == axis else b for name, b in zip(names, sizes.base, strict=True))
            made = ensemble(pool, k, n, n, width, 1, min(sizes.batch_size, n))
            lambdas = [10.0 ** (6 * i / max(count - 1, 1)) for i in range(count)]
            work = partial(_bound, made, loss, lambdas, sizes.iterations)
            times = interleaved({"bound": work}, max(sizes.repeats // 2, 1))["bound"]
            d = len(models.weights(made[0][0]))
            found[axis].append({"k": k, "n": n, "d": d, "lambdas": count, "seconds": median(times)[0]})
            print(f"  {axis} = {value}: {found[axis][-1]['seconds']:.2f} s")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny inputs, seconds; writes only where --out says")
    parser.add_argument("--scale", type=float, default=1.0, help="share of examples and epochs (default 1)")
    parser.add_argument("--out", type=Path, help="the file to write")
    parser.add_argument("--threads", type=int, default=1, help="of the processor (default 1)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", category=UserWarning, module="torch")
    pool = data.as_images(data.load("digits")) if options.quick else data.load("cifar10-jpeg")
    sizes = QUICK if options.quick else scaled(FULL, options.scale) if options.scale != 1 else FULL
    loss = ClippedCrossEntropy.per_class(pool.classes)
    content: Json = {"exact_traces": exact_traces(pool, loss, sizes)}
    print(
        "exact traces: the rules are {ratio:.1f} +- {ratio_error:.1f} times as fast".format(**content["exact_traces"])
    )
    content["growth"] = growth(pool, loss, sizes)
    content["bound"] = bound_against_training(pool, loss, sizes)
    print(
        "the bound takes {ratio:.2f} of the training's {training:.0f} s".format(
            ratio=content["bound"]["ratio"], training=content["bound"]["seconds"]["training"]
        )
    )
    whole = not options.quick and options.scale == 1
    out = options.out or (RESULTS / "bench-bound.json" if whole else None)
    if out:
        write(out, {"origin": origin(pool.edition, ["torch", "numpy", "scipy"]), "whole": whole, **content})


if __name__ == "__main__":
    main(sys.argv[1:])
