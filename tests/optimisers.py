"""Losses of two weights, and every wrapper, for the tests of the regularizers."""

import torch

from helpers.regularizers import AMP, GMP, NVRM, SAM, AbsoluteGMP, DynamicClipping, EntropySGD, LaggedClipping

H = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
START = torch.tensor([1.0, -2.0], dtype=torch.float64)

WRAPPERS = {
    "SAM": lambda base: SAM(base, rho=0.1),
    "AMP": lambda base: AMP(base, rho=0.1, rate=0.02),
    "GMP": lambda base: GMP(base, sigma=0.1, rho=0.5, draws=2, seed=3),
    "AbsoluteGMP": lambda base: AbsoluteGMP(base, sigma=0.1, rho=0.5, draws=2, seed=3),
    "NVRM": lambda base: NVRM(base, sigma=0.1, seed=3),
    "EntropySGD": lambda base: EntropySGD(base, gamma=0.5, steps=3, rate=0.02, noise=0.1, seed=3),
    "DynamicClipping": lambda base: DynamicClipping(base, alpha=0.5, start=2),
    "LaggedClipping": lambda base: LaggedClipping(base, alpha=0.5, lag=2),
}
EVALUATE_MORE = ["SAM", "AMP", "GMP", "AbsoluteGMP", "EntropySGD"]


def closure_of(w: torch.Tensor, loss):
    """The closure of loss(w); it leaves zero_grad to the optimiser, which must not add up gradients."""

    def closure() -> torch.Tensor:
        value = loss(w)
        value.backward()
        return value

    return closure


def quadratic(w: torch.Tensor) -> torch.Tensor:
    return 0.5 * w @ H @ w


def wavy(w: torch.Tensor) -> torch.Tensor:
    return (w**4).sum() + torch.sin(3 * w).sum()


def noise(seed: int, draws: int, shape=(2,), sigma: float = 0.1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([sigma * torch.randn(shape, dtype=torch.float64, generator=generator) for _ in range(draws)])


def gradient(loss, w: torch.Tensor) -> torch.Tensor:
    w = w.clone().requires_grad_()
    return torch.autograd.grad(loss(w), w)[0]
