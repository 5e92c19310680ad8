"""Sharpness, norms and error of two-layer ReLU networks on the sphere: Wu's slides, theorems 2 and 3 (Wu and Su 2023).

No biases, inputs uniform on the sphere of radius sqrt(d), G the mean of grad f grad f^T over a sample. Two parts:

- ``norms``: trace, Frobenius and spectral norm of G over the *squared* weighted norms ||theta||_{2,q}^2, q = d, sqrt(d)
  and 1, for random networks of three shapes and for the directions of a single unit that are worst on the sample. The
  theorem says that these ratios are of order one for all networks at once, if there are inputs enough.
- ``gap``: networks of several sizes of initial weights, trained to interpolate a target of values in [-1, 1]: their
  error on fresh inputs against (Tr G)^2 / n, which bounds it up to logarithms.
"""

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from helpers import relu_minima
from helpers.experiments.machinery.artefact import Json
from helpers.experiments.machinery.config import Config
from helpers.experiments.machinery.runner import Experiment
from helpers.experiments.machinery.worker import DegenerateRow
from helpers.relu_minima import TwoLayer

NORMS, GAP = "norms", "gap"
INTERPOLATES = 1e-12  # a training loss below this
NEWTON_STEPS = 60
DELTA = 0.1  # probability that the theorem's sample is a bad one


@dataclass(frozen=True)
class Sphere(Config):
    """Settings of the experiment.

    Attributes:
        inputs: d.
        width: m, hidden units of the networks whose norms are compared.
        multiples: n / d of the samples on which they are.
        searches, ascents: random starts and steps of the search for the worst directions.
        sizes: n of the samples that are interpolated.
        student: m of the networks that do.
        scales: of their initial weights, a from N(0, scale^2 / m), w from N(0, scale^2 / d).
        n_test: fresh inputs.
        lr, steps: of gradient descent on all examples, after which Gauss-Newton steps end the fit.
        seeds: each draws its own target, sample and initial weights.
    """

    memory = ("student", "sizes", "width", "inputs", "n_test")

    inputs: tuple[int, ...]
    width: int
    multiples: tuple[float, ...]
    searches: int
    ascents: int
    sizes: tuple[int, ...]
    student: int
    scales: tuple[float, ...]
    n_test: int
    lr: float
    steps: int
    seeds: tuple[int, ...]


PROFILES = {
    "smoke": Sphere(
        inputs=(4,), width=4, multiples=(1.0, 8.0), searches=3, ascents=30, sizes=(20,), student=30, scales=(1.0,),
        n_test=200, lr=0.05, steps=100, seeds=(0,),
    ),
    "laptop": Sphere(
        inputs=(5, 10, 20), width=8, multiples=(0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0), searches=10, ascents=200,
        sizes=(50, 100, 200, 400), student=200, scales=(0.1, 1.0), n_test=4000, lr=0.02, steps=1000,
        seeds=(0, 1, 2),
    ),
    "paper": Sphere(
        inputs=(5, 10, 20, 40, 80), width=50, multiples=(0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0), searches=50,
        ascents=1000, sizes=(50, 100, 200, 400, 800, 1600, 3200), student=1000, scales=(0.1, 0.3, 1.0),
        n_test=20_000, lr=0.005, steps=20_000, seeds=(0, 1, 2, 3, 4),
    ),
}  # fmt: skip


def points(config: Sphere) -> list[Json]:
    """Both parts, for each dimension and seed."""
    norms = [
        {"part": NORMS, "inputs": d, "multiple": multiple, "seed": seed}
        for seed in config.seeds
        for d in config.inputs
        for multiple in config.multiples
    ]
    gaps = [
        {"part": GAP, "inputs": d, "n": n, "scale": scale, "seed": seed}
        for seed in config.seeds
        for d in config.inputs
        for n in config.sizes
        for scale in config.scales
    ]
    return norms + gaps


def row(config: Sphere, point: Json) -> Json:
    """The row of one part; see ``norms_row`` and ``gap_row``."""
    generator = torch.Generator().manual_seed(point["seed"])
    if point["part"] == NORMS:
        return norms_row(config, point["inputs"], point["multiple"], generator)
    return gap_row(config, point["inputs"], point["n"], point["scale"], generator)


# --- norms --------------------------------------------------------------------------------------------------------


def norms_row(config: Sphere, d: int, multiple: float, generator: torch.Generator) -> Json:
    """``trace``, ``frobenius``, ``spectral``: ratios to the squared norms, a number for each network.

    The networks: weights of both layers standard Gaussian; the first layer times ten; the last times ten. Of a network
    of one unit in direction u, the trace has the ratios ``energy`` (mean relu(u . x)^2) for its first and ``active``
    (share of inputs with u . x > 0) for its last weight: lowest and highest over directions that a search finds. Those
    of all networks lie between. Both are 1/2 for infinitely many inputs. ``enough`` says whether n is at least N(d).
    """
    n = max(1, round(multiple * d))
    x = on_sphere(n, d, generator)
    a, w = (
        torch.randn(*size, generator=generator, dtype=torch.float64) for size in ((config.width,), (config.width, d))
    )
    scaled = [ratios(TwoLayer(last * a, first * w), x) for first, last in ((1.0, 1.0), (10.0, 1.0), (1.0, 10.0))]
    energies, shares = extremes(x, config.searches, config.ascents, generator)
    return {
        "status": "ok",
        "n": n,
        "enough": n >= needed_inputs(d, DELTA),
        **{name: [one[name] for one in scaled] for name in scaled[0]},
        "energy": energies,
        "active": shares,
    }


def needed_inputs(d: int, delta: float) -> int:
    """N(d, delta): the least n >= d with d log(n / delta) / n <= 1, from which on theorem 2 speaks of all networks."""
    n = d
    while d * log(n / delta) > n:
        n += 1
    return n


def on_sphere(n: int, d: int, generator: torch.Generator) -> Tensor:
    """Inputs uniform on the sphere of radius sqrt(d), shape (n, d), float64."""
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    inputs: Tensor = d**0.5 * x / x.norm(dim=1, keepdim=True)
    return inputs


def two_layer_jacobian(net: TwoLayer, x: Tensor) -> Tensor:
    """Gradients of f(x_i) in (a, w), shape (n, m (1 + d))."""
    active = net.activations(x)
    inner = ((active > 0) * net.a)[:, :, None] * x[:, None, :]
    return torch.cat([active, inner.flatten(1)], dim=1)


def ratios(net: TwoLayer, x: Tensor) -> dict[str, float]:
    """Trace, Frobenius and spectral norm of G over ||theta||_{2,q}^2 with q = d, sqrt(d), 1."""
    J, d = two_layer_jacobian(net, x), x.shape[1]
    gram = J @ J.T / len(x) if len(x) < J.shape[1] else J.T @ J / len(x)
    eigenvalues = torch.linalg.eigvalsh(gram)
    sizes = {
        "trace": (eigenvalues.sum(), d), "frobenius": (eigenvalues.norm(), d**0.5), "spectral": (eigenvalues[-1], 1.0),
    }  # fmt: skip
    return {name: size.item() / relu_minima.weighted_norm(net, q) ** 2 for name, (size, q) in sizes.items()}


def extremes(x: Tensor, searches: int, steps: int, generator: torch.Generator) -> tuple[list[float], list[float]]:
    """Lowest and highest mean relu(u . x)^2 over unit vectors u that a search finds, and the same of share(u . x > 0).

    From random starts u moves on the sphere along the gradient of the first, and along that of a smooth form of the
    second, the mean of sigmoid(4 u . x); down and up.

    Args:
        x: shape (n, d).
    """
    starts = torch.randn(searches, x.shape[1], generator=generator, dtype=torch.float64)
    ends = []
    for slope in (lambda t: 2 * torch.relu(t), lambda t: 4 * torch.sigmoid(4 * t) * torch.sigmoid(-4 * t)):
        for pace in (-0.2, 0.2):
            u = starts / starts.norm(dim=1, keepdim=True)
            for _ in range(steps):
                u = u + pace * slope(u @ x.T) @ x / len(x)
                u = u / u.norm(dim=1, keepdim=True)
            ends.append(u)
    along = torch.cat(ends) @ x.T
    energy, active = torch.relu(along).square().mean(1), (along > 0).double().mean(1)
    return [energy.min().item(), energy.max().item()], [active.min().item(), active.max().item()]


# --- interpolation ------------------------------------------------------------------------------------------------


def target(d: int, generator: torch.Generator) -> TwoLayer:
    """Two units of opposite signs and random directions, with values in [-1, 1] on the sphere of radius sqrt(d)."""
    u = torch.randn(2, d, generator=generator, dtype=torch.float64)
    u = u / u.norm(dim=1, keepdim=True)
    return TwoLayer(torch.tensor([1.0, -1.0], dtype=torch.float64) / d**0.5, u)


def gap_row(config: Sphere, d: int, n: int, scale: float, generator: torch.Generator) -> Json:
    """Interpolate n values of the target, and compare the error with sharpness and path norm.

    ``error``: mean squared error on fresh inputs. ``trace``: Tr G on the sample; ``sphere_trace``: on the population.
    ``descended``: the training loss where gradient descent handed over.

    Raises:
        DegenerateRow: if the network does not come to interpolate.
    """
    truth, m = target(d, generator), config.student
    x, fresh = on_sphere(n, d, generator), on_sphere(config.n_test, d, generator)
    a, w = (torch.randn(*size, generator=generator, dtype=torch.float64) for size in ((m,), (m, d)))
    net = TwoLayer(scale * a / m**0.5, scale * w / d**0.5)
    net = descended(net, x, truth(x), config.lr, config.steps)
    before = (net(x) - truth(x)).square().mean().item() / 2
    net = interpolating(net, x, truth(x))
    loss = (net(x) - truth(x)).square().mean().item() / 2
    if not loss < INTERPOLATES:
        raise DegenerateRow(f"the network did not come to interpolate: its training loss is {loss:.1g}")
    return {
        "status": "ok",
        "descended": before,
        "train_loss": loss,
        "error": (net(fresh) - truth(fresh)).square().mean().item(),
        "trace": relu_minima.gradient_trace(net, x),
        "sphere_trace": relu_minima.sphere_trace(net),
        "path_norm": relu_minima.path_norm(net),
    }


def descended(net: TwoLayer, x: Tensor, y: Tensor, lr: float, steps: int) -> TwoLayer:
    """The network after gradient descent on half the mean squared error."""
    a, w = net.a, net.w
    for _ in range(steps):
        active = torch.relu(x @ w.T)
        error = (active @ a - y) / len(y)
        inner = (active > 0) * error[:, None] * a
        a, w = a - lr * active.T @ error, w - lr * inner.T @ x
    return TwoLayer(a, w)


def interpolating(net: TwoLayer, x: Tensor, y: Tensor) -> TwoLayer:
    """The network after Gauss-Newton steps of least length, each halved until it lowers the loss."""
    m, d = net.w.shape
    for _ in range(NEWTON_STEPS):
        error = net(x) - y
        if error.square().mean() / 2 < INTERPOLATES:
            break
        J = two_layer_jacobian(net, x)
        step = J.T @ torch.linalg.lstsq(J @ J.T, error[:, None], driver="gelsd").solution[:, 0]
        for halving in range(20):
            part = 0.5**halving * step
            moved = TwoLayer(net.a - part[:m], net.w - part[m:].view(m, d))
            if (moved(x) - y).square().mean() < error.square().mean():
                break
        net = moved
    return net


EXPERIMENT = Experiment(
    name="sphere",
    summary="sharpness against norms, and error against sharpness, of two-layer ReLU networks on the sphere",
    profiles=PROFILES,
    points=points,
    row=row,
    edition=lambda config: "synthetic",
)
