"""Chapter 10: can every term be exact? Linear regression on Gaussian data, where it can.

y = x . w* + s e with x ~ N(0, Sigma) and e ~ N(0, 1). With the half squared error the population risk is
(w - w*)^T Sigma (w - w*) / 2 + s^2 / 2, its gradient Sigma (w - w*), its Hessian Sigma.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from helpers._generators import generator_from
from helpers.data import Split

EDITION = "linear-Gaussian"


@dataclass(frozen=True)
class LinearGaussian:
    """The distribution of the examples; float64.

    Attributes:
        covariance: Sigma, shape (d, d), symmetric positive semi-definite.
        weights: w*, shape (d,).
        noise: s, standard deviation of the label noise.
    """

    covariance: Tensor
    weights: Tensor
    noise: float

    @property
    def _root(self) -> Tensor:
        eigenvalues, vectors = torch.linalg.eigh(self.covariance)
        root: Tensor = (vectors * eigenvalues.clamp(min=0).sqrt()) @ vectors.T
        return root

    def sample(self, n: int, *, seed: int) -> Split:
        """n independent examples."""
        generator = generator_from(seed)
        d = len(self.weights)
        x = torch.randn(n, d, generator=generator, dtype=torch.float64) @ self._root
        y = x @ self.weights + self.noise * torch.randn(n, generator=generator, dtype=torch.float64)
        return Split(x, y, 0, EDITION)

    def population(self) -> Split:
        """2d examples whose mean half squared error *is* the population risk, for every w.

        The inputs sqrt(d) Sigma^{1/2} e_j have second moment Sigma; each comes with the labels x . w* + s and
        x . w* - s, of variance s^2. So gradient, Hessian and risk over these examples are the population's.
        """
        d = len(self.weights)
        x = (d**0.5 * self._root).repeat(2, 1)
        noise = self.noise * torch.cat([torch.ones(d), -torch.ones(d)]).double()
        return Split(x, x @ self.weights + noise, 0, f"{EDITION}, exact population")


def gradient_descent(split: Split, initial: Tensor, *, lr: float, steps: int) -> nn.Module:
    """The linear model after ``steps`` full-batch steps on the half squared error, from ``initial`` (d,)."""
    X, y, w = split.inputs, split.targets, initial.clone()
    for _ in range(steps):
        w = w - lr * X.T @ (X @ w - y) / len(y)
    model = nn.Linear(len(w), 1, bias=False, dtype=w.dtype)
    with torch.no_grad():
        model.weight.copy_(w[None])
    return model.eval()
