"""The laboratory's engine in a browser against the package, on the same arrays and on the same seed: to 1e-8."""

import math
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks._in_browser import NAMES, BrowserError, InBrowser, executable, opened
from helpers import curvature, models
from helpers.losses import ClippedCrossEntropy
from helpers.widgets.laboratory import generator, measure, trained, worlds
from helpers.widgets.laboratory import replay as replayed
from helpers.widgets.laboratory.along import losses_along
from helpers.widgets.laboratory.scripts import ENGINE

TOLERANCE = 1e-8
CLIP = 3.0  # low, so that some examples are clipped
SMALL = {
    "world": "digits",
    "width": 8,
    "n": 60,
    "epochs": 6,
    "batch_size": 16,
    "lr": 0.2,
    "seed": 3,
}  # d = 610: dense twin
SHAPE = "const { inputs, width, classes, clip } = argument; const shape = makeShape(inputs, width, classes);"
TYPED = """
const typed = (rows) => Float64Array.from(rows);
const sampleOf = ({ x, y }) => ({ x: typed(x), y: Int32Array.from(y), n: y.length });
const finished = (work) => { for (;;) { const { value, done } = work.next(); if (done) return value; } };
"""


@pytest.fixture(scope="module", params=sorted(NAMES))
def page(request: pytest.FixtureRequest) -> Iterator[InBrowser]:
    if executable(request.param) is None:
        pytest.skip(f"no {request.param} on this machine: install it to hold the laboratory to the package in it")
    with opened(request.param) as ready:
        yield ready


def compute(page: InBrowser, body: str, argument: Any = None, engine: str = ENGINE) -> Any:
    return page.calculate(f'"use strict";\n{engine}\n{TYPED}\n{body}', argument)


def sent(split: Any) -> dict[str, list[Any]]:
    return {"x": split.inputs.flatten().tolist(), "y": split.targets.tolist()}


def agree(computed: Any, expected: Any, name: str = "", rtol: float = TOLERANCE) -> None:
    """Every number of ``expected``, in lists and mappings, is in ``computed``, to ``rtol`` of the largest beside it."""
    if isinstance(expected, dict):
        for key, value in expected.items():
            agree(computed[key], value, f"{name}.{key}", rtol)
    elif isinstance(expected, list) and expected and isinstance(expected[0], dict):
        assert len(computed) == len(expected), name
        for i, pair in enumerate(zip(computed, expected, strict=True)):
            agree(*pair, f"{name}[{i}]", rtol)
    elif expected is None or isinstance(expected, bool | str):
        assert computed == expected or (expected is None and computed in ("NaN", "Infinity")), f"{name}: {computed}"
    else:
        left, right = np.asarray(computed, dtype=float), np.asarray(expected, dtype=float)
        assert left.shape == right.shape, f"{name}: {left.shape} and {right.shape}"
        off = np.abs(left - right).max() if left.size else 0.0
        assert off <= rtol * max(np.abs(right).max(), 1e-300) + 1e-15, f"{name}: off by {off}, of {np.abs(right).max()}"


# --- Numbers and data ------------------------------------------------------------------------------------------------


def test_both_generators_are_pcg32(page: InBrowser) -> None:
    published = [0xA15C02B7, 0x7B47F409, 0xBA1D3330, 0x83D2F293, 0xBFA4784B, 0xCBED606E]  # of the reference, 42 and 54
    twin = generator.Generator(42, 54)
    assert [twin.draw() for _ in published] == published
    assert compute(page, "const next = makeGenerator(42, 54); return [1, 2, 3, 4, 5, 6].map(next);") == published


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_generators_draw_alike(page: InBrowser, seed: int) -> None:
    drawn = compute(
        page,
        """const next = makeGenerator(argument, 203);
        return { integers: Array.from({ length: 3000 }, () => next()), order: permutation(next, 257),
          normal: Array.from({ length: 500 }, () => normal(next)) };""",
        seed,
    )
    twin = generator.Generator(seed, 203)
    assert drawn["integers"] == [twin.draw() for _ in range(3000)]
    assert drawn["order"] == twin.permutation(257).tolist()
    agree(drawn["normal"], [twin.normal() for _ in range(500)], rtol=1e-14)


def test_numbers_are_uniform_and_normal() -> None:
    source = generator.Generator(5, 1)
    uniform, normal = ([draw() for _ in range(20_000)] for draw in (source.uniform, source.normal))
    assert np.mean(uniform) == pytest.approx(0.5, abs=0.01)
    assert np.var(uniform) == pytest.approx(1 / 12, abs=0.002)
    assert np.mean(normal) == pytest.approx(0, abs=0.03)
    assert np.var(normal) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("world", ["digits", "moons", "circles", "xor", "spirals"])
def test_worlds_are_the_same(page: InBrowser, world: str) -> None:
    settings = {"world": world, "n": 50, "seed": 7, "toy_noise": 0.15, "label_noise": 0.3}
    there = compute(
        page,
        """const all = argument.settings.world === "digits" ? digits(argument.text) : null;
        return roles({ ...argument.settings, k: RUNS }, all);""",
        {"settings": settings, "text": worlds.packed_digits()},
    )
    here = worlds.roles(**settings)
    for computed, split in zip(
        [*there["train"], there["val"], there["val2"], there["test"]],
        [*here.train, here.val, here.val2, here.test],
        strict=True,
    ):
        assert computed["y"] == split.targets.tolist()
        agree(computed["x"], split.inputs.flatten().tolist(), world, rtol=1e-14)


def test_digits_are_those_of_the_package() -> None:
    from helpers import data

    every = worlds.digits()
    assert torch.equal(every.targets[: worlds.POOL], data.load("digits").targets)
    torch.testing.assert_close(every.inputs[: worlds.POOL].float(), data.load("digits").inputs, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        every.inputs[worlds.POOL :].float(), data.load("digits", train=False).inputs, rtol=1e-6, atol=1e-6
    )


def test_label_noise_reaches_every_role_in_its_share() -> None:
    clean, noisy = (worlds.roles("digits", n=250, seed=0, label_noise=share) for share in (0.0, 0.5))
    for a, b in zip([*clean.train, clean.test], [*noisy.train, noisy.test], strict=True):
        changed = (a.targets != b.targets).double().mean().item()
        assert changed == pytest.approx(0.45, abs=0.1)  # a uniform label is the true one a tenth of the time


# --- Derivatives -----------------------------------------------------------------------------------------------------


def network(seed: int = 0, inputs: int = 64, width: int = 8, classes: int = 10) -> tuple[Any, Any, Tensor]:
    """A trained-looking network, a sample of which it clips a part, and a direction."""
    torch.manual_seed(seed)
    model = models.mlp(inputs, width, classes).double().eval()
    models.set_weights(model, 1.7 * models.weights(model) + 0.05 * torch.randn_like(models.weights(model)))
    return model, worlds.roles("digits", n=70, seed=seed).train[0], torch.randn_like(models.weights(model))


DERIVATIVES = f"""{SHAPE}
const [W, v, sample] = [typed(argument.W), typed(argument.v), sampleOf(argument.sample)];
return {{ gradient: curvature.gradient(shape, W, sample, clip), hvp: curvature.hvp(shape, W, sample, v, clip),
  trace: curvature.trace(shape, W, sample, clip), along: along.losses_along(shape, W, [v], sample, clip)[0],
  ...values(shape, W, sample, clip) }};"""


def derivatives(page: InBrowser, engine: str = ENGINE) -> None:
    model, sample, v = network()
    loss = ClippedCrossEntropy(CLIP)
    argument = {"inputs": 64, "width": 8, "classes": 10, "clip": CLIP, "sample": sent(sample)}
    there = compute(page, DERIVATIVES, argument | {"W": models.weights(model).tolist(), "v": v.tolist()}, engine)
    losses = curvature.values(model, loss, sample)
    assert 0.05 < (losses >= CLIP).double().mean() < 0.95
    here = {
        "losses": losses.tolist(),
        "gradient": curvature.gradient(model, loss, sample).tolist(),
        "hvp": curvature.hvp(model, loss, sample, v).tolist(),
        "trace": curvature.trace(model, loss, sample, method="exact").value,
        "along": losses_along(model, sample, loss, v).tolist(),
    }
    agree(there, here, rtol=1e-11)


def test_gradient_product_and_trace_are_those_of_the_package(page: InBrowser) -> None:
    derivatives(page)


def test_shifted_systems_and_negative_curvature(page: InBrowser) -> None:
    torch.manual_seed(1)
    Q = torch.linalg.qr(torch.randn(30, 30, dtype=torch.float64))[0]
    H = Q @ torch.diag(torch.linspace(-0.4, 5, 30, dtype=torch.float64)) @ Q.T
    rhs, shifts = torch.randn(30, dtype=torch.float64), [0.05, 0.2, 0.6, 5.0, 1e4]
    there = compute(
        page,
        """const H = argument.H.map(typed);
        const product = (v) => Float64Array.from(H, (row) => dot(row, 0, v, 0, v.length));
        return curvature.solve_shifted(product, typed(argument.rhs), argument.shifts, { rtol: 1e-12 });""",
        {"H": H.tolist(), "rhs": rhs.tolist(), "shifts": shifts},
    )
    here = curvature.solve_shifted(lambda v: H @ v, rhs, shifts, rtol=1e-12)
    assert (
        [row["negative_curvature"] for row in there]
        == here.negative_curvature.tolist()
        == [True, True, False, False, False]
    )
    assert [row["converged"] for row in there] == here.converged.tolist()
    for row, solution in zip(there[2:], here.solutions[2:], strict=True):
        agree(row["solution"], solution.tolist())


# --- Runs and bounds on arrays that are handed over ------------------------------------------------------------------

TRAIN = f"""{SHAPE}
const samples = argument.samples.map(sampleOf);
const runs = makeLockstep(shape, typed(argument.W), samples, argument.options);
for (const orders of argument.orders) epoch(runs, orders.map((order) => Int32Array.from(order)));
return {{ weights: runs.weights, dispersion: trace_covariance(runs.squares), losses: runs.losses,
  steps: runs.steps }};"""


def training(page: InBrowser, engine: str = ENGINE, **options: float) -> None:
    own = worlds.roles("digits", n=64, seed=11)
    model, *_ = network(4)
    torch.manual_seed(9)
    orders = [[torch.randperm(64) for _ in own.train] for _ in range(25)]
    options = {"batch_size": 16, "lr": 0.1, "momentum": 0.9} | options
    here = trained(model, own, orders, **options)
    argument = {
        "inputs": 64, "width": 8, "classes": 10, "clip": CLIP, "W": models.weights(model).tolist(), "options": options,
        "samples": [sent(split) for split in own.train],
        "orders": [[order.tolist() for order in row] for row in orders],
    }  # fmt: skip
    there = compute(page, TRAIN, argument, engine)
    agree(there["weights"], [models.weights(m).tolist() for m in here.run.models], "weights")
    agree(there["dispersion"], here.run.dispersion, "dispersion")
    agree(there["losses"], here.run.losses.mean(1).tolist(), "losses")
    assert there["steps"] == here.run.steps == 25 * (64 // options["batch_size"])


def test_runs_are_those_of_the_package(page: InBrowser) -> None:
    training(page)
    training(page, momentum=0.0, batch_size=20)  # a last batch that is not full


def test_training_in_lockstep_is_train_ensembles() -> None:
    from helpers.training import train_ensemble
    from helpers.training.randomness import generator_of

    own = worlds.roles("digits", n=64, seed=11)
    run = train_ensemble(
        lambda: models.mlp(64, 8, 10).double(), own.train, epochs=3, batch_size=16, lr=0.1, momentum=0.9, seed=5
    )
    sources = [generator_of(r, 5, torch.device("cpu")) for r in range(4)]
    orders = [[torch.randperm(64, generator=source) for source in sources] for _ in range(3)]
    first = models.mlp(64, 8, 10).double()
    models.set_weights(first, run.initial)
    again = trained(first, own, orders, batch_size=16, lr=0.1, momentum=0.9).run
    for a, b in zip(run.models, again.models, strict=True):
        assert torch.equal(models.weights(a), models.weights(b))
    torch.testing.assert_close(again.step_dispersion, run.step_dispersion, rtol=1e-9, atol=0)
    assert torch.equal(again.losses, run.losses)


# --- The whole, on a seed alone --------------------------------------------------------------------------------------

WHOLE = """const all = argument.text === null ? null : digits(argument.text);
const prepared = prepare({ ...DEFAULTS, ...argument.settings }, all);
const results = finished(session(prepared, { lambdas: argument.lambdas, rtol: 1e-13 }));
results.weights = prepared.runs.weights;
results.incoherence = prepared.runs.incoherence;
return results;"""
PATH = [0.1, 1.0, 10.0, 1000.0]
SETTINGS = {
    "digits": SMALL,
    "momentum": SMALL | {"momentum": 0.9, "lr": 0.03, "label_noise": 0.2},
    "clipped": SMALL | {"lr": 1.0, "momentum": 0.9},
    "moons": {"world": "moons", "width": 16, "n": 80, "epochs": 10, "batch_size": 8, "lr": 0.3, "seed": 1},
    "spirals": {"world": "spirals", "width": 20, "n": 100, "epochs": 10, "batch_size": 10, "lr": 0.3, "momentum": 0.5},
    "langevin": {"world": "circles", "width": 12, "n": 60, "epochs": 8, "batch_size": 60, "temperature": 0.01},
    "langevin in batches": SMALL | {"temperature": 1e-3, "epochs": 3},
    "stopped at a loss": SMALL | {"stop_loss": 1.2, "epochs": 60},
    "never at that loss": SMALL | {"stop_loss": 0.01, "epochs": 4},
}  # fmt: skip


@cache
def expected(name: str) -> tuple[list[Any], list[Any] | None, bool | None, dict[str, Any]]:
    """Weights, incoherence, whether the loss was reached, bounds; the last by dense solves, not the page's way."""
    done = replayed(**SETTINGS[name])
    here = done.measure(lambdas=PATH, method="exact", value_rtol=1e-9)
    for rows in (here["omniscient"], here["self_certified"]):
        for row in rows:
            for key in ("residual", "gamma", "gamma_error"):  # of the solver that was used; not measured
                row.pop(key)
    weights = [models.weights(model).tolist() for model in done.run.models]
    return weights, done.incoherence.tolist() if done.sigma else None, done.reached, here


def whole(page: InBrowser, name: str, engine: str = ENGINE) -> None:
    settings = SETTINGS[name]
    text = worlds.packed_digits() if settings["world"] == "digits" else None
    there = compute(page, WHOLE, {"settings": settings, "text": text, "lambdas": PATH}, engine)
    weights, incoherence, reached, here = expected(name)
    assert there["reached"] == reached
    agree(there["weights"], weights, "weights")
    if incoherence is not None:
        agree(there["incoherence"], incoherence, "incoherence")
    agree(there, here)


@pytest.mark.parametrize("name", SETTINGS)
def test_same_seed_same_numbers_in_page_and_package(page: InBrowser, name: str) -> None:
    whole(page, name)


def test_some_examples_of_the_clipped_setting_are() -> None:
    assert expected("clipped")[3]["closed_form_difference"]["clipped_share"] > 0


def test_training_stops_at_the_loss_and_not_before() -> None:
    assert [expected(name)[2] for name in ("digits", "stopped at a loss", "never at that loss")] == [None, True, False]
    losses = expected("stopped at a loss")[3]["losses"]
    assert losses[-1] < 1.2 <= min(losses[:-1])
    assert 1 < len(losses) < 60


def test_warnings_are_the_packages(page: InBrowser) -> None:
    from helpers.experiments.trends import warnings

    fine = {"noise_to_weight": 0.5, "clipped_share": 0.0, "converged": True, "negative_curvature": False}
    points = [fine, fine | {"noise_to_weight": 1.2}, fine | {"clipped_share": 0.06}, fine | {"converged": False}]
    points += [fine | {"negative_curvature": True}, {"noise_to_weight": 2.0}]
    assert compute(page, "return argument.map(warnings);", points) == [warnings(point) for point in points]


def test_a_diverging_run_says_so(page: InBrowser) -> None:
    settings = {"world": "moons", "n": 40, "lr": 1e200, "epochs": 5, "batch_size": 4}
    assert (
        compute(page, "return finished(session(prepare({ ...DEFAULTS, ...argument }, null)));", settings)["diverged"]
        >= 1
    )


# --- A test that cannot fail holds nothing ---------------------------------------------------------------------------

MUTANTS = {
    "gradient": ("-= 1;\n    backward(shape, W, p", "-= 0;\n    backward(shape, W, p"),
    "product": ("for (let j = 0; j < hidden; j++) Rh[j] += h[j];", ""),
    "trace": ("(1 - dot(p, 0, p, 0, classes)) * (1 +", "(1 - dot(p, 0, p, 0, classes)) * (2 +"),
    "clip": ("value >= clip) continue;\n      let variances", "value >= 2 * clip) continue;\n      let variances"),
    "momentum": ("v[j] = momentum * v[j] + g[j];", "v[j] = 0.999 * momentum * v[j] + g[j];"),
    "dispersion": ("=> sum + v, 0) / (squares.length - 1)", "=> sum + v, 0) / squares.length"),
    "error": ("bound.trajectory / 2)", "bound.trajectory)"),
    "clipped": ("clipped_both: (a + b)", "clipped_both: a"),
    "steps": ("(steps / 2) * trace)", "steps * trace)"),
    "terminal": ("/ (n * steps)), (steps / 2) * Math.abs", "/ n), (steps / 2) * Math.abs"),
    "centre": ("(weights.length - 1)));", "weights.length));"),
    "shift": ("(lam) => 2 * lam * C", "(lam) => lam * C"),
    "penalty": ("- (before.own - before.other)", "- before.own"),
    "counted": ("train_errors.map((e, i) => e * (1 - test_errors[i]))", "train_errors.slice()"),
    "gap": ("variance(gaps) / gaps.length +", "variance(gaps) +"),
    "val": ("curvature.gradient(shape, W, val, options.clip)", "curvature.gradient(shape, W, val2, options.clip)"),
    "self-certified": ("samples, nothing, null, options", "samples, nothing, samples[0], options"),
    "orders": ("makeGenerator(seed, STREAMS.orders + r)", "makeGenerator(seed, STREAMS.orders)"),
    "generator": ("(-turn & 31)", "(turn & 31)"),
    "incoherence": ("* (b / (b - 1))) ** 2", ") ** 2"),
    "langevin": ("R: 0.5 })", "R: 1 })"),
    "direction": ("u.map((v) => v / length)", "u"),
    "distance": ("w + s * u[W2 + i]", "w + u[W2 + i]"),
    "rise": ("row.map((v) => v - losses[r])", "row"),
    "clip along": ("loss < clip ? loss : clip", "loss"),
    "stop": ("runs.losses.at(-1) < settings.stop_loss", "runs.losses.at(-1) < 0.8 * settings.stop_loss"),
}  # fmt: skip
LANGEVIN = ("incoherence", "langevin")


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_engine_is_noticed(page: InBrowser, name: str) -> None:
    right, wrong = MUTANTS[name]
    assert ENGINE.count(right) == 1, "the text to break is not there, or not alone"
    broken = ENGINE.replace(right, wrong)

    def hold() -> None:
        derivatives(page, broken)
        of = {"stop": "stopped at a loss", "clipped": "clipped"} | dict.fromkeys(LANGEVIN, "langevin in batches")
        whole(page, of.get(name, "momentum"), broken)

    with pytest.raises((AssertionError, BrowserError)):
        hold()


def test_expected_numbers_are_finite() -> None:
    done = replayed(**SMALL)
    here = measure(done.run, done.roles, lambdas=[1.0])
    assert all(math.isfinite(here[key]) for key in ("dispersion", "trace", "train_loss", "test_loss"))
    assert asdict(done.roles.test)["classes"] == 10
