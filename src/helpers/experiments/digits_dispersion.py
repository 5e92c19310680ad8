"""Gradient dispersion of a wide MLP along training, under label noise: Wang & Mao (2022), figure 3 (left).

The measurements of ``double_descent`` on digits, where the network is wide, its first gradients are large, and two
disjoint samples hold nearly all the data: what the first descent needs.
"""

from helpers.experiments.double_descent import Dispersion, points, row
from helpers.experiments.machinery.runner import Experiment
from helpers.experiments.samples import edition

NOISE = (0.0, 0.2, 0.4)
PROFILES = {
    "smoke": Dispersion(
        dataset="digits", model="mlp", width=16, k=2, n=100, n_test=200, noise_levels=NOISE, seeds=(0,), epochs=4,
        batch_size=20, lr=0.1, probes=3,
    ),
    "laptop": Dispersion(
        dataset="digits", model="mlp", width=512, k=2, n=640, n_test=500, noise_levels=NOISE, seeds=(0, 1, 2),
        epochs=80, batch_size=20, lr=0.1, probes=4,
    ),
    "paper": Dispersion(
        dataset="mnist", model="mlp", width=512, k=6, n=10_000, n_test=10_000, noise_levels=NOISE, seeds=(0, 1, 2),
        epochs=200, batch_size=60, lr=0.01, probes=8,
    ),
}  # fmt: skip

EXPERIMENT = Experiment(
    name="digits-dispersion",
    summary="four gradient dispersions of a wide MLP on digits, along training, for levels of label noise",
    profiles=PROFILES,
    points=points,
    row=row,
    edition=lambda config: edition(config.dataset),
)
