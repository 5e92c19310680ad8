"""Learners of bits: every member of the family by enumeration of all supersamples, coins and answers.

An example is a bit that is 1 with probability p; a learner sees n of them and answers a bit, at random if it likes; its
loss on an example is 1 where the two differ. There are 2^(2^n) deterministic ones.
"""

from dataclasses import dataclass
from functools import cache
from itertools import product
from math import prod

import numpy as np
from scipy.special import rel_entr

from helpers._checks import real, whole
from helpers.supersample.family import bound, whole_bound

MOST_BITS = 6  # 4^n supersamples times 2^n coins
MOST_VOTES = 20


@dataclass(frozen=True)
class Exact:
    """Everything about one learner. Informations in nats; lists have an entry for each pair.

    Attributes:
        train_error, test_error: expected 0–1 errors.
        a, b: E[(1 - e_S) e_mu] and E[e_S (1 - e_mu)].
        whole: I(W; U | Z).
        weights: I(W; U_i | Z); here also that of the predictions, since the answer is the prediction.
        losses: I(L_i.; U_i | Z).
        differences: I(Delta_i; U_i | Z).
        pairs: I(L_i.; U_i).
        counted: I(Delta_i; U_i).
        mixture: information of the joint law of (Delta_i, U_i) averaged over i.
        root_weights, root_losses, root_differences: mean over pairs of E sqrt(2 I^z), the disintegrated bounds.
    """

    train_error: float
    test_error: float
    a: float
    b: float
    whole: float
    weights: tuple[float, ...]
    losses: tuple[float, ...]
    differences: tuple[float, ...]
    pairs: tuple[float, ...]
    counted: tuple[float, ...]
    mixture: float
    root_weights: float
    root_losses: float
    root_differences: float

    @property
    def gap(self) -> float:
        return self.test_error - self.train_error

    @property
    def bounds(self) -> dict[str, float]:
        """The bounds on |gap|, from the largest information to the least; the bounds themselves need not fall."""
        return {
            "I(W; U | Z)": whole_bound(self.whole, n=len(self.counted)),
            "I(W; U_i | Z)": self.root_weights,
            "I(L_i; U_i | Z)": self.root_losses,
            "I(Δ_i; U_i | Z)": self.root_differences,
            "I(Δ_i; U_i)": bound(self.counted),
        }


def majority(n: int, *, flip: float = 0.0) -> np.ndarray:
    """The majority vote of n bits (a tie answers 1 with probability 1/2), flipped with probability ``flip``: (2,) * n.

    Raises:
        ValueError: if n is no whole number from 1 to 20, or flip no probability.
    """
    flip = _probability("flip", flip)
    if whole("n", n) > MOST_VOTES:
        raise ValueError(f"n must be at most {MOST_VOTES}: the table has 2^n entries, got {n}")
    ones = np.indices((2,) * whole("n", n)).sum(0)
    vote = np.where(2 * ones == n, 0.5, 2 * ones > n)
    answers: np.ndarray = vote * (1 - flip) + (1 - vote) * flip
    return answers


def enumerated(answers: np.ndarray, p: float = 0.5) -> Exact:
    """Everything about a learner of bits, to rounding.

    Args:
        answers: P(W = 1 | S) for every sample, shape (2,) * n, n <= 6.
        p: probability that a bit is 1.

    Raises:
        ValueError: if the shape or a probability is wrong.
    """
    answers = np.asarray(answers, dtype=float)
    n = answers.ndim
    if answers.shape != (2,) * n or not 1 <= n <= MOST_BITS or not ((answers >= 0) & (answers <= 1)).all():
        raise ValueError(f"answers must hold a probability for each sample of 1 to {MOST_BITS} bits, shape (2,) * n")
    p = _probability("p", p)
    bits, coins, samples = _all(n)
    chance = np.where(bits, p, 1 - p).prod((1, 2))  # (supersamples,)
    one = answers.reshape(-1)[samples]  # (supersamples, coins)
    given = np.stack([1 - one, one], axis=2)  # P(W | Z, U)
    whole_nats = _kl(given, given.mean(1, keepdims=True)).sum(2).mean(1) @ chance
    weights = np.stack([given[:, coins[:, i] == u].mean(1) / 2 for i in range(n) for u in (0, 1)])
    weights = weights.reshape(n, 2, len(bits), 2).transpose(2, 0, 3, 1)  # P(W, U_i | Z): (supersamples, n, W, U)
    wrong = (bits[..., None] != np.arange(2)).astype(int)  # L_ij if W: (supersamples, n, j, W)
    losses = _relabelled(weights, 2 * wrong[:, :, 0] + wrong[:, :, 1], 4)
    differences = _relabelled(weights, wrong[:, :, 1] - wrong[:, :, 0] + 1, 3)
    tables = {"weights": weights, "losses": losses, "differences": differences}
    given_z = {name: _nats(table) for name, table in tables.items()}  # (supersamples, n)
    average = {name: tuple((chance @ nats).tolist()) for name, nats in given_z.items()}
    roots = {name: float(chance @ np.sqrt(2 * nats).mean(1)) for name, nats in given_z.items()}
    e_train, e_test, law = _errors(answers, p)
    mean = {name: np.tensordot(chance, table, 1) for name, table in tables.items()}
    return Exact(
        train_error=float((law * e_train).sum()),
        test_error=float((law * e_test).sum()),
        a=float((law * (1 - e_train) * e_test).sum()),
        b=float((law * e_train * (1 - e_test)).sum()),
        whole=float(whole_nats),
        pairs=tuple(_nats(mean["losses"]).tolist()),
        counted=tuple(_nats(mean["differences"]).tolist()),
        mixture=float(_nats(mean["differences"].mean(0))),
        weights=average["weights"],
        losses=average["losses"],
        differences=average["differences"],
        root_weights=roots["weights"],
        root_losses=roots["losses"],
        root_differences=roots["differences"],
    )


def _probability(name: str, value: float) -> float:
    number = real(name, value)
    if not 0 <= number <= 1:
        raise ValueError(f"{name} must be a probability, got {value}")
    return number


@cache
def _all(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All supersamples (4^n, n, 2), all coins (2^n, n), and the number of the sample that each two make."""
    bits = np.array(list(product((0, 1), repeat=2 * n))).reshape(-1, n, 2)
    coins = np.array(list(product((0, 1), repeat=n)))
    chosen = np.where(coins, bits[:, None, :, 1], bits[:, None, :, 0])
    return bits, coins, chosen @ (2 ** np.arange(n)[::-1])


def _errors(answers: np.ndarray, p: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training and population error, and probability, of every sample and answer: (2^n, 2) each."""
    n = answers.ndim
    samples = np.array(list(product((0, 1), repeat=n)))
    ones = samples.mean(1)
    chance = np.array([prod(p if bit else 1 - p for bit in sample) for sample in samples])
    one = answers.reshape(-1)
    return (
        np.stack([ones, 1 - ones], axis=1),
        np.broadcast_to([p, 1 - p], (len(samples), 2)),
        chance[:, None] * np.stack([1 - one, one], axis=1),
    )


def _relabelled(weights: np.ndarray, outcome: np.ndarray, outcomes: int) -> np.ndarray:
    """P(W, U_i | Z) as P(Q, U_i | Z), where Q is the ``outcome`` (supersamples, n, W)."""
    columns: list[np.ndarray] = [(weights * (outcome == q)[..., None]).sum(2) for q in range(outcomes)]
    return np.stack(columns, axis=2)


def _nats(table: np.ndarray) -> np.ndarray:
    """Mutual information of the last two axes."""
    independent = table.sum(-1, keepdims=True) * table.sum(-2, keepdims=True)
    nats: np.ndarray = np.maximum(_kl(table, independent).sum((-1, -2)), 0.0)
    return nats


def _kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    terms: np.ndarray = rel_entr(p, q)
    return terms
