"""The exact linear instance of the tests: numbers, and the models and splits that they belong to.

``../shared/golden`` holds it beside the project; tests that need the files skip where they are not there.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helpers.data import Split
from helpers.linear_gaussian import LinearGaussian

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden"


class Linear:
    """Four linear models, their training splits, val, val2, and the exact population."""

    def __init__(self) -> None:
        if not (GOLDEN / "linear.json").is_file():
            pytest.skip("the golden files are not beside the project (../shared/golden); nothing to compare with")
        self.expected = json.loads((GOLDEN / "linear.json").read_text())
        arrays = np.load(GOLDEN / "linear.npz")
        self.arrays = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        config = self.expected["linear"]["config"]
        self.steps, self.R = config["T"], config["R"]
        self.models = [_linear(w) for w in self.arrays["W"]]
        self.train = [_split(self.arrays[f"X_{i}"], self.arrays[f"y_{i}"]) for i in range(config["k"])]
        self.val = _split(self.arrays["X_val"], self.arrays["y_val"])
        self.val2 = _split(self.arrays["X_val2"], self.arrays["y_val2"])
        self.distribution = LinearGaussian(self.arrays["Sigma"], self.arrays["w_star"], config["noise_std"])
        self.population = self.distribution.population()


def _linear(w: Tensor) -> nn.Module:
    model = nn.Linear(len(w), 1, bias=False, dtype=torch.float64)
    model.weight.data = w[None].clone()
    return model.eval()


def _split(X: Tensor, y: Tensor) -> Split:
    return Split(X, y, 0, "linear-Gaussian")
