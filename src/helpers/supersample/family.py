"""The family of supersample bounds, for a loss with values in [0, 1], and the theorem that counts its last member.

Pair i holds the examples Z_i0 and Z_i1; the fair coin U_i says which was trained on. With L_ij the loss of the trained
network on Z_ij and Delta_i = L_i1 - L_i0, the gap is the mean of E (-1)^{U_i} Delta_i, and

    |gen| <= sqrt((2/n) I(W; U | Z)),      |gen| <= (1/n) sum_i sqrt(2 I_i),

    I_i = I(W; U_i | Z),  I(f_W(Z_i.); U_i | Z),  I(L_i.; U_i | Z),  I(Delta_i; U_i | Z),  I(Delta_i; U_i):

each at most the one before it. Sources: Steinke & Zakynthinou (2020); Haghifam et al. (2020); Harutyunyan et al.
(2021); Hellström & Durisi (2022), pair by pair; Wang & Mao (2023). The count, and the constants of
``fast_rate_bound``, are this book's. A loss with values in [0, u] is u times one with values in [0, 1].
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import expm1, fsum, log, log1p, nan, sqrt
from typing import Any

import torch
from scipy.optimize import brentq, minimize_scalar
from scipy.special import rel_entr
from torch import Tensor

from helpers._checks import non_negative, non_negatives, real, whole
from helpers._tensors import numbers_of

LOG_2 = log(2)
ROUNDING = 1e-9  # of an error that is a mean


def whole_bound(information: float, *, n: int) -> float:
    """sqrt(2 I(W; U | Z) / n): Steinke & Zakynthinou (2020). At most sqrt(2 log 2) = 1.18.

    Args:
        information: I(W; U | Z) in nats, at most n log 2.
        n: pairs.

    Raises:
        ValueError: if the information is negative or above n log 2, or n is not a whole number from 1.
    """
    n = whole("n", n)
    return sqrt(2 * _of_coins("information", information, n) / n)


def bound(informations: Iterable[float]) -> float:
    """(1/n) sum_i sqrt(2 I_i) for any member I_i of the family: Haghifam et al. (2020); Wang & Mao (2023).

    Args:
        informations: I_i in nats for each pair, (n,), each at most log 2; of an ``Information`` its ``per_example``.

    Raises:
        ValueError: if this is no row of numbers, there is no pair, or an information is negative or above log 2.
    """
    shape = getattr(informations, "shape", None)
    if (
        not isinstance(informations, Iterable)
        or isinstance(informations, str)
        or (shape is not None and len(shape) != 1)
    ):
        raise ValueError(
            f"informations must hold one number for each pair, got a {type(informations).__name__}"
            + (f" of shape {tuple(shape)}" if shape is not None else "")
            + ("; give its per_example" if hasattr(informations, "per_example") else "")
        )
    values = [_of_coins("every entry of informations", nats, 1) for nats in non_negatives("informations", informations)]
    return fsum(sqrt(2 * nats) for nats in values) / len(values)


def _of_coins(name: str, nats: float, coins: int) -> float:
    """Information about that many fair coins; rounding in float32 may exceed the most there is by a millionth."""
    number = non_negative(name, nats)
    if number > coins * LOG_2 * (1 + 1e-6):
        most = "one fair coin holds" if coins == 1 else f"{coins} fair coins hold"
        raise ValueError(f"{name} is {number} nats, but {most} {coins * LOG_2:.6g}; check the units")
    return number


# --- Counting --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Counted:
    """I(Delta_i; U_i) of the 0–1 loss, from training and test error.

    Attributes:
        value: the bound sqrt(2 I).
        information: I in nats.
        gap: a - b, which is test error minus training error.
        a: E[(1 - e_S) e_mu]: the pair's training example right, its ghost wrong.
        b: E[e_S (1 - e_mu)]: the reverse.
        standard_error: of ``value``, over runs by the jackknife; NaN for one run, and where leaving out any one of them
            gives the same.
    """

    value: float
    information: float
    gap: float
    a: float
    b: float
    standard_error: float


def counted(train_errors: Any, test_errors: Any) -> Counted:
    """The member of least information for the 0–1 loss: (a + b) [log 2 - h(a / (a + b))] nats, h binary entropy.

    Swapping the columns of a pair and flipping its coin leaves the sample as it is. So given |Delta_i| = 1 the coin
    and the sign of Delta_i are symmetric, and the pair is right with probability a / (a + b). A ghost is independent
    of the weights, which makes a and b products of the two errors. For a learner that treats its examples differently
    the formula is the information of the *mixture* over pairs, which bounds the gap just as well.

    Args:
        train_errors: 0–1 training error of each run, (k,), in [0, 1]; rounding may leave that by a billionth.
        test_errors: 0–1 error of the same runs on examples that they were not trained on, (k,).

    Raises:
        ValueError: if these are no rows of numbers, their lengths differ, there is no run, or an error lies outside
            [0, 1].
    """
    train, test = _errors("train_errors", train_errors), _errors("test_errors", test_errors)
    if len(train) != len(test):
        raise ValueError(f"give each run one training and one test error, got {len(train)} and {len(test)}")
    wrong_ghost, wrong_own = (1 - train) * test, train * (1 - test)
    a, b = wrong_ghost.mean().item(), wrong_own.mean().item()
    k = len(train)
    if k == 1:
        error = nan
    else:
        without = [sqrt(2 * _counted_nats(*pair)) for pair in _leave_one_out(wrong_ghost, wrong_own)]
        spread = torch.tensor(without, dtype=torch.float64).std(correction=0).item()
        error = spread * sqrt(k - 1) if spread > 1e-12 * max(without) else nan
    nats = _counted_nats(a, b)
    return Counted(sqrt(2 * nats), nats, a - b, a, b, error)


def _leave_one_out(*columns: Tensor) -> list[tuple[float, ...]]:
    means = [((column.sum() - column) / (len(column) - 1)).tolist() for column in columns]
    return list(zip(*means, strict=True))


def _counted_nats(a: float, b: float) -> float:
    """KL from (a, b) to ((a + b) / 2, (a + b) / 2), in the form that does not cancel where a is near b."""
    return max(float(rel_entr(a, (a + b) / 2) + rel_entr(b, (a + b) / 2)), 0.0)


def _errors(name: str, errors: Any) -> Tensor:
    refusal = f"{name} must hold one 0–1 error in [0, 1] for each run, shape (k,)"
    try:
        values = numbers_of(name, errors)
    except ValueError as error:
        raise ValueError(f"{refusal}; {error}") from error
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"{refusal}; got {values.dtype} of shape {tuple(values.shape)}")
    values = values.double()
    if not bool(((values >= -ROUNDING) & (values <= 1 + ROUNDING)).all()):
        raise ValueError(f"{refusal}; got values from {values.min().item():.4g} to {values.max().item():.4g}")
    return values.clamp(0, 1)  # takes off what is rounding, and no more


# --- Beyond the root -------------------------------------------------------------------------------------------------


def binary_kl_bound(training_risk: float, information: float) -> float:
    """The largest test risk L with d(L_S || (L_S + L) / 2) <= I, d the binary relative entropy; 1 where none is.

    Under a coin that knows nothing the training loss of a pair has mean (L_S + L) / 2; data processing to a biased
    bit, and joint convexity over pairs. Source: Hellström & Durisi (2022).

    Args:
        training_risk: E L_S(W), of a loss in [0, 1].
        information: mean over pairs of I(L_i.; U_i), or of any larger member of the family, in nats.

    Raises:
        ValueError: if the risk is not in [0, 1] or the information negative or above log 2.
    """
    risk, nats = _risk(training_risk), _of_coins("information", information, 1)

    def excess(test: float) -> float:
        middle = (risk + test) / 2
        return float(rel_entr(risk, middle) + rel_entr(1 - risk, 1 - middle)) - nats

    return 1.0 if risk == 1 or excess(1.0) <= 0 else float(brentq(excess, risk, 1.0, xtol=1e-14))


def fast_rate_bound(training_risk: float, information: float) -> float:
    """min over rho in (0, log 2) of [I - L_S log(2 - e^rho)] / rho, a bound on the test risk, at most 1.

    Donsker-Varadhan with rho (ghost) + log(2 - e^rho) (own example): its exponential has mean at most 1 when the coin
    is tossed anew, at the corners of [0, 1]^2 and by convexity everywhere. In the manner of Hellström & Durisi (2022)
    and Wang & Mao (2023), with the best constants. With I(L_i.; U_i) of the 0–1 loss it is an equality
    where e_S e_mu = 0 almost surely (a pair is never wrong on both sides, as a ghost is independent of W) and a >= b.

    Args, raises: as ``binary_kl_bound``.
    """
    risk, nats = _risk(training_risk), _of_coins("information", information, 1)
    if risk == 0:
        return min(interpolating_risk(nats), 1.0)
    if nats == 0:
        return risk  # the limit at rho = 0, which no search reaches

    def at(rho: float) -> float:
        return (nats - risk * log1p(-expm1(rho))) / rho

    best = minimize_scalar(at, bounds=(1e-9, LOG_2 * (1 - 1e-12)), method="bounded", options={"xatol": 1e-12})
    return min(float(best.fun), 1.0)


def interpolating_risk(information: float) -> float:
    """I / log 2: the test risk of a learner without training error is at most this; for the 0–1 loss it *is* this.

    Args:
        information: mean over pairs of I(L_i.; U_i) in nats; of I(Delta_i; U_i) for the equality.

    Raises:
        ValueError: if the information is negative or above log 2.
    """
    return _of_coins("information", information, 1) / LOG_2


def _risk(value: float) -> float:
    number = real("training_risk", value)
    if not 0 <= number <= 1:
        raise ValueError(f"training_risk must lie in [0, 1], got {number}; divide the loss by its clip")
    return number
