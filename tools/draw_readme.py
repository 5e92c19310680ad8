"""Draw the picture of the README, ``book/_static/readme.svg``: the omniscient bound along lambda in an exact model.

python tools/draw_readme.py
"""

from pathlib import Path

import numpy as np
import torch

from helpers import losses, omniscient, plots
from helpers.linear_gaussian import LinearGaussian, gradient_descent

TARGET = Path(__file__).resolve().parents[1] / "book" / "_static" / "readme.svg"


def main() -> None:
    spectrum = torch.tensor([2.0, 1.0, 0.5, 0.25, 0.1], dtype=torch.float64)
    world = LinearGaussian(torch.diag(spectrum), torch.ones(5, dtype=torch.float64), noise=0.3)
    train = [world.sample(20, seed=run) for run in range(4)]
    start = torch.zeros(5, dtype=torch.float64)
    models = [gradient_descent(split, start, lr=0.2, steps=40) for split in train]
    loss, population = losses.HalfSquaredError(R=1.0), world.population()
    rows = omniscient.estimate(
        models, train, population, population, loss=loss, lambdas=np.logspace(-3, 6, 46).tolist()
    )
    gap = omniscient.gap(models, train, population, loss=loss)
    with plots.style():
        fig, ax = plots.figure()
        plots.lambda_path(ax, rows, gap.value, gap.standard_error)
        ax.set(title="A bound that falls to a hold-out estimate of the gap", ylim=(1e-3, 1))
        fig.savefig(TARGET, metadata={"Date": None})


if __name__ == "__main__":
    main()
