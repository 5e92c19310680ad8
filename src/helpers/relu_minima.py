"""Chapters 6 and 9: what do flat minima of ReLU networks look like? Rescaling, norms, memorising ones.

A unit a relu(w . x + b) computes the same function as (a / t) relu(t w . x + t b) for every t > 0, yet every sharpness
measure of ``helpers.flatness`` changes with t. So flatness is not necessary for generalization. What is left
when the best t is taken is a norm (two-layer networks without bias: the path norm, which does control the gap), and
with biases not even that: among the flattest of all interpolating networks there are some that know nothing but
their training set, next to some that generalize perfectly.

Two-layer networks here are f(x) = sum_j a_j relu(w_j . x + b_j), all of a, w (and b, unless it is None) trained.
Their sharpness is Tr G, G = E grad f grad f^T, the trace of the Hessian of the half squared error at interpolation.

Source: Wu's slides, "Sharp Minima Can Generalize Well" to "Two-layer Networks With Bias"; Wu and Su (2023);
Wen, Li and Ma (2023).
"""

import math
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from helpers._checks import positive, whole

# --- rescaling changes sharpness and not the function ---------------------------------------------------------


def toy_loss(a: float, w: float) -> float:
    """L(a, w) = (a w - 1)^2 / 2, whose minima a w = 1 are one another's rescalings."""
    return 0.5 * (a * w - 1) ** 2


def toy_hessian(a: float, w: float) -> Tensor:
    """Hessian of ``toy_loss`` in the order (a, w): [[w^2, 2 a w - 1], [2 a w - 1, a^2]], float64.

    At a minimum the eigenvalues are 0 and a^2 + w^2 >= 2: a minimum can be arbitrarily sharp, not arbitrarily flat.
    """
    return torch.tensor([[w**2, 2 * a * w - 1], [2 * a * w - 1, a**2]], dtype=torch.float64)


# each of these commutes with multiplication by a positive number, channel by channel
_HOMOGENEOUS = (
    nn.ReLU, nn.LeakyReLU, nn.Identity, nn.Flatten, nn.Dropout,
    nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d,
)  # fmt: skip
_AFFINE = (nn.Linear, nn.Conv1d, nn.Conv2d)


def rescale(model: nn.Sequential, factor: float | Tensor, *, layer: int = 0) -> nn.Sequential:
    """A copy of a feed-forward ReLU network that computes the same function with other weights.

    Weight and bias of one affine layer are multiplied by the factor, the weight of the next is divided by it.

    Args:
        model: nested nn.Sequential of linear and convolutional layers with ReLU, pooling and flattening between.
        factor: positive; one number, or one for each output of the layer, shape (m,).
        layer: which affine layer to multiply, counted from 0; not the last.

    Raises:
        ValueError: if a factor is not positive, the layer does not exist, is the last or is used twice, the network
            is not a chain, or what lies between the two layers does not commute with a positive factor (tanh, ...).
    """
    twin = deepcopy(model)
    chain = _chain(twin)
    places = [i for i, module in enumerate(chain) if isinstance(module, _AFFINE)]
    if not 0 <= layer < len(places) - 1:
        raise ValueError(f"the network has {len(places)} affine layers; layer must lie in [0, {len(places) - 2}]")
    for between in chain[places[layer] + 1 : places[layer + 1]]:
        if not isinstance(between, _HOMOGENEOUS):
            raise ValueError(f"{type(between).__name__} between the layers does not commute with a positive factor")
    first, second = (module for i in places[layer : layer + 2] if isinstance(module := chain[i], _AFFINE))
    if any(chain.count(module) > 1 for module in (first, second)):
        raise ValueError("a layer that is used twice cannot be rescaled without changing the function")
    scale = torch.as_tensor(factor, dtype=first.weight.dtype, device=first.weight.device)
    if not (torch.isfinite(scale).all() and (scale > 0).all()):
        raise ValueError("every factor must be positive and finite")
    if scale.ndim and not scale.shape == (first.weight.shape[0],) == (second.weight.shape[1],):
        raise ValueError(
            f"the layers pass on {first.weight.shape[0]} and take {second.weight.shape[1]} values; "
            f"give one factor for each, got shape {tuple(scale.shape)}"
        )
    with torch.no_grad():
        first.weight.mul_(scale.reshape(-1, *[1] * (first.weight.ndim - 1)))
        if first.bias is not None:
            first.bias.mul_(scale)
        second.weight.div_(scale.reshape(1, -1, *[1] * (second.weight.ndim - 2)))
    return twin


def _chain(module: nn.Module) -> list[nn.Module]:
    """The modules that nested nn.Sequential run, in order."""
    if isinstance(module, nn.Sequential):
        return [leaf for child in module for leaf in _chain(child)]
    if next(module.children(), None) is not None:
        raise ValueError(
            f"rescaling is for nested nn.Sequential; a {type(module).__name__} may run its parts otherwise"
        )
    return [module]


# --- two-layer networks -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TwoLayer:
    """f(x) = sum_j a_j relu(w_j . x + b_j).

    Attributes:
        a: shape (m,).
        w: shape (m, d).
        b: shape (m,), or None for a network without biases.

    Raises:
        ValueError: if shapes do not match.
    """

    a: Tensor
    w: Tensor
    b: Tensor | None = None

    def __post_init__(self) -> None:
        m = len(self.a)
        if self.a.shape != (m,) or self.w.ndim != 2 or len(self.w) != m:
            raise ValueError(f"a must be (m,) and w (m, d), got {tuple(self.a.shape)} and {tuple(self.w.shape)}")
        if self.b is not None and self.b.shape != (m,):
            raise ValueError(f"b must be ({m},) or None, got {tuple(self.b.shape)}")

    def activations(self, x: Tensor) -> Tensor:
        """relu(w_j . x_i + b_j), shape (n, m), for x of shape (n, d)."""
        return torch.relu(x @ self.w.T + (0 if self.b is None else self.b))

    def __call__(self, x: Tensor) -> Tensor:
        """f(x_i), shape (n,)."""
        return self.activations(x) @ self.a

    def rescaled(self, t: Tensor) -> "TwoLayer":
        """The same function with the weights into unit j multiplied by t_j > 0, shape (m,)."""
        return TwoLayer(self.a / t, self.w * t[:, None], None if self.b is None else self.b * t)


def gradient_trace(net: TwoLayer, x: Tensor) -> float:
    """Tr G = mean_i ||grad f(x_i)||^2 on the inputs x (n, d).

    A unit contributes mean_i relu_ij^2 for a_j, and a_j^2 mean_{active} (||x_i||^2 + 1) for (w_j, b_j), the 1 only
    if there are biases.
    """
    outer, inner = _unit_traces(net, x)
    return (outer + inner).sum().item()


def flattest_rescaling(net: TwoLayer, x: Tensor) -> TwoLayer:
    """The rescaling of every unit with the smallest ``gradient_trace`` on the inputs x (n, d); f does not change.

    Unit j contributes A t^2 + B / t^2, smallest (2 sqrt(A B)) at t = (B / A)^{1/4}. Units that no input activates
    contribute nothing, and stay.

    Raises:
        ValueError: if a unit with a_j = 0 is active: its contribution falls to 0 only as t -> 0.
    """
    outer, inner = _unit_traces(net, x)
    if ((outer > 0) & (inner == 0)).any():
        raise ValueError("a unit with a_j = 0 is active on the inputs; it has no flattest rescaling, remove it")
    idle = outer == 0
    return net.rescaled(torch.where(idle, 1.0, inner / torch.where(idle, 1.0, outer)) ** 0.25)


def _unit_traces(net: TwoLayer, x: Tensor) -> tuple[Tensor, Tensor]:
    """Contribution of each a_j, and of each (w_j, b_j), to Tr G: shapes (m,)."""
    active = net.activations(x)
    lengths = x.square().sum(1) + (0 if net.b is None else 1)
    return active.square().mean(0), net.a**2 * ((active > 0) * lengths[:, None]).mean(0)


# --- without biases: norms that control the gap -----------------------------------------------------------------


def sphere_trace(net: TwoLayer) -> float:
    """Tr G for inputs uniform on the sphere of radius sqrt(d): (1/2) sum_j (||w_j||^2 + d a_j^2), exactly.

    By symmetry E relu(w . x)^2 = ||w||^2 / 2, and half of all inputs activate a unit (the slides' gamma_1 = gamma_2 =
    1/2). So Tr G = ||theta||_{2,d}^2 / 2. The slides write ||theta||_{2,q} for its own square in their Theorem 2: to
    constants, Tr G ~ ||theta||_{2,d}^2, ||G||_F ~ ||theta||_{2,sqrt(d)}^2, ||G||_2 ~ ||theta||_{2,1}^2.

    Raises:
        ValueError: if the network has biases.
    """
    _no_biases(net)
    norm = weighted_norm(net, net.w.shape[1])
    return norm * norm / 2


def weighted_norm(net: TwoLayer, q: float) -> float:
    """||theta||_{2,q} = sqrt(sum_j (||w_j||^2 + q a_j^2)); biases must be None."""
    _no_biases(net)
    return math.sqrt(net.w.square().sum().item() + positive("q", q) * net.a.square().sum().item())


def path_norm(net: TwoLayer) -> float:
    """||theta||_P = sum_j |a_j| ||w_j||: the same for all rescalings; biases must be None.

    At most ||theta||_{2,q}^2 / (2 sqrt(q)) for every q, with equality for ``balanced`` weights.
    """
    _no_biases(net)
    return float((net.a.abs() * net.w.norm(dim=1)).sum())


def balanced(net: TwoLayer, q: float) -> TwoLayer:
    """The rescaling with the smallest ||theta||_{2,q}: ||w_j|| = sqrt(q) |a_j| for every unit; biases must be None.

    With q = d it is the flattest in ``sphere_trace``.

    Raises:
        ValueError: if a unit has a_j = 0 or w_j = 0, where no rescaling reaches balance.
    """
    _no_biases(net)
    lengths, outer = net.w.norm(dim=1), net.a.abs()
    if not ((lengths > 0) & (outer > 0)).all():
        raise ValueError("a unit has a_j = 0 or w_j = 0 and computes nothing; remove it before balancing")
    return net.rescaled((positive("q", q) ** 0.5 * outer / lengths).sqrt())


def _no_biases(net: TwoLayer) -> None:
    if net.b is not None:
        raise ValueError("this holds for networks without biases; pass b=None")


# --- with biases: flattest minima that memorise, and one that does not ------------------------------------------


def memorising(x: Tensor, y: Tensor, *, radius: float) -> TwoLayer:
    """A network with one unit a training point: f(x_i) = y_i, and unit i fires within Hamming distance < radius.

    w_j = x_j / sqrt(d), b_j = -(d - 2 radius) / sqrt(d), a_j = y_j sqrt(d) / (2 radius). The slides take radius =
    d / 4, b = -sqrt(d) / 2. Such a network is not 0 off its training set, as they say, but fires on a share of
    about n exp(-d/8) of all inputs; with radius at most 1 it is 0 everywhere else, and E (f - y)^2 = 1 - n / 2^d
    exactly for targets +-1. Neither is flattest as it stands; ``flattest_rescaling`` makes both so.

    Args:
        x: entries +-1, shape (n, d).
        y: targets, shape (n,).
        radius: above 0, at most d, below the smallest distance between two of the points. An input at exactly this
            distance activates the unit with 0, up to rounding.

    Raises:
        ValueError: if an entry is not +-1, the radius is out of range, or two points are as close as the radius.
    """
    if not (x.abs() == 1).all():
        raise ValueError("memorising networks are for inputs with entries +1 and -1")
    d = x.shape[1]
    if positive("radius", radius) > d:
        raise ValueError(f"radius must be at most d = {d}, got {radius}")
    closest = smallest_distance(x)
    if closest <= radius:
        raise ValueError(f"two points differ in {closest} coordinates and would share a unit; take radius < {closest}")
    root = math.sqrt(d)
    bias = torch.full((len(x),), -(d - 2 * radius) / root, dtype=x.dtype, device=x.device)
    return TwoLayer(y * (root / (2 * radius)), x / root, bias)


def smallest_distance(x: Tensor) -> int:
    """Smallest Hamming distance between two rows of x, entries +-1, shape (n, d); d + 1 for a single row."""
    overlaps = x @ x.T
    overlaps.fill_diagonal_(-x.shape[1] - 2)
    return round((x.shape[1] - overlaps.max().item()) / 2)


def coherence(x: Tensor) -> float:
    """max_{i != j} |x_i . x_j| / (||x_i|| ||x_j||) over the rows of x, shape (n, d), n at least 2."""
    whole("the number of rows", len(x), least=2)
    unit = x / x.norm(dim=1, keepdim=True)
    return float((unit @ unit.T).abs().fill_diagonal_(0).max())


def coherence_bound(n: int, d: int, delta: float) -> float:
    """sqrt(2 log(n^2 / delta) / d): exceeds ``coherence`` of n random rows of +-1 with probability >= 1 - delta.

    Hoeffding's inequality and a union over pairs. The slides' log(n / delta) / n cannot hold: it does not know d.

    Raises:
        ValueError: if n or d is not a positive whole number, or delta not strictly between 0 and 1.
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie strictly between 0 and 1, got {delta}")
    return math.sqrt(2 * math.log(whole("n", n) ** 2 / delta) / whole("d", d))


def smallest_trace(x: Tensor, y: Tensor) -> float:
    """mean_i 2 sqrt(||x_i||^2 + 1) |y_i|: no two-layer ReLU network with biases that interpolates has a smaller Tr G.

    Cauchy-Schwarz over units. Attained when every point activates a single unit, at the flattest rescaling.
    """
    return (2 * (x.square().sum(1) + 1).sqrt() * y.abs()).mean().item()


def xor_network(d: int) -> TwoLayer:
    """Four units that compute x_1 x_2 on all of {+-1}^d: one for each sign pattern of the two coordinates.

    Every input activates exactly one unit, so at its flattest rescaling the network attains ``smallest_trace`` of any
    training set with targets x_1 x_2, like ``memorising`` networks do. Both are flattest; one generalizes.

    Raises:
        ValueError: if d is below 2.
    """
    d = whole("d", d, least=2)
    signs = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64)
    w = torch.cat([signs, torch.zeros(4, d - 2, dtype=torch.float64)], dim=1)
    return TwoLayer(signs.prod(1), w, -torch.ones(4, dtype=torch.float64))
