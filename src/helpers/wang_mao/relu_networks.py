"""Linear and two-layer ReLU networks, where the bound needs losses only: Wang & Mao (2022), Theorems 3 and 4.

Both networks have one output and the loss l = (y - f)^2 / 2. Gradient norm and Hessian trace are then
functions of the loss and of the number of active units, and Lemma 7 turns them into a bound.
"""

import math
from collections.abc import Iterable

from torch import Tensor

from helpers._checks import non_negative, non_negatives, per_step, whole
from helpers._tensors import floats_of
from helpers.wang_mao.isotropic import Isotropic, lemma_7


def linear_network(batch_losses: Iterable[float], lr: float | Iterable[float], *, n: int, R: float) -> Isotropic:
    """Wang & Mao (2022), Theorem 3: the model f(x) = w . x, with ||x|| = 1.

    gen <~ 3 (sum_t (R^2 lr_t^2 T / 4n) E l(W_{t-1}, Z))^{1/3}.

    For l = (y - f)^2 / 2 the gradient has ||grad l||^2 = 2 l and the Hessian trace 1, so Lemma 7 needs losses
    only. The expectation is over examples *of the batch*: from the second epoch on that is training loss, not
    population loss. The source assumes silently that R exists; the squared loss has none on unbounded
    weights.

    Args:
        batch_losses: E l(W_{t-1}, Z) over the batch before each of the T steps.
        lr: learning rate, or one for each step.
        n: examples.
        R: sub-Gaussian constant that you are able to justify.

    Raises:
        ValueError: if there is no step, a loss is negative, the lengths differ, or lr, n or R is not
            positive.
    """
    losses = non_negatives("batch_losses", batch_losses)
    rates = per_step("lr", lr, len(losses))
    moment = math.fsum(2 * rate**2 * loss for rate, loss in zip(rates, losses, strict=True))
    return lemma_7(moment, 1.0, n=n, steps=len(losses), R=R)


def two_layer_relu(
    active_losses: Iterable[float],
    active_final: float,
    lr: float | Iterable[float],
    *,
    width: int,
    n: int,
    R: float,
) -> Isotropic:
    """Wang & Mao (2022), Theorem 4: f(x) = m^{-1/2} sum_r a_r relu(w_r . x), with ||x|| = 1.

    The signs a_r = +-1 are fixed and the rows w_r trained.

    gen <~ 3 (E[sum_r I_r,T] sum_t (R^2 lr_t^2 T / (4 n m^2)) E[sum_r I_r,t l(W_{t-1}, Z)])^{1/3}, with I_r =
    1 where w_r . x >= 0 (``active_units``). For l = (y - f)^2 / 2, ||grad l||^2 = (2 l / m) sum_r I_r and the
    Hessian has trace sum_r I_r / m where it exists. The appendix of the source prints 4 n m: the two factors
    1/m, from the gradient and from the trace, make it 4 n m^2. The kinks of ReLU are invisible to this
    Hessian, which is one more reason (besides those of ``closed_form``) to read the result as an
    approximation.

    Args:
        active_losses: E[sum_r I_r,t l(W_{t-1}, Z)] over the batch before each of the T steps.
        active_final: E[sum_r I_r,T] over the training sample at W_T.
        lr: learning rate, or one for each step.
        width: m, the number of hidden units.
        n: examples.
        R: sub-Gaussian constant that you are able to justify.

    Raises:
        ValueError: if there is no step, an entry is negative, more than m units are active, the lengths
            differ, or lr, width, n or R is not positive.
    """
    losses, width = non_negatives("active_losses", active_losses), whole("width", width)
    rates = per_step("lr", lr, len(losses))
    if non_negative("active_final", active_final) > width:
        raise ValueError(f"active_final counts active units, at most width = {width}, got {active_final}")
    moment = math.fsum(2 * rate**2 * loss / width for rate, loss in zip(rates, losses, strict=True))
    return lemma_7(moment, active_final / width, n=n, steps=len(losses), R=R)


def active_units(hidden: Tensor, inputs: Tensor) -> Tensor:
    """sum_r I{w_r . x_i >= 0}: how many hidden units see example i, shape (n,), int64.

    Args:
        hidden: (m, inputs), rows w_r; for ``models.TwoLayerReLU`` this is ``model.hidden.weight``.
        inputs: (n, inputs), of norm at most 1 (theorem 4 is stated for norm 1; smaller inputs keep it true).

    Raises:
        ValueError: if an input has a norm above 1, or a number is not finite.
    """
    inputs, hidden = floats_of("inputs", inputs), floats_of("hidden", hidden)
    norm = float(inputs.norm(dim=1).max())
    if norm > 1 + 1e-6:
        raise ValueError(f"inputs must have norm 1, got {norm:.4g}; divide each input by its norm")
    return (inputs @ hidden.detach().T >= 0).sum(1)
