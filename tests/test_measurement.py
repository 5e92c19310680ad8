"""What stands behind every row: means over runs, the noise beside the weights, and what speaks against a number."""

from math import sqrt

import pytest
import torch

from helpers import wang_mao
from helpers.curvature import Estimate
from helpers.measurement import Traces, error_over_runs, noise_to_weight, warnings


def test_a_mean_over_runs_has_the_error_and_the_freedom_of_a_mean():
    estimates = [Estimate(1.0, 0.3, 5, "hutchinson", freedom=4), Estimate(3.0, 0.4, 9, "hutchinson", freedom=8)]
    mean = Traces(tuple(estimates), (Estimate(0.0, 0.0, 1, "exact"),) * 2).mean_training
    assert mean.value == 2.0
    assert mean.standard_error == pytest.approx(0.5 / 2)
    assert mean.freedom == pytest.approx((0.09 + 0.16) ** 2 / (0.09**2 / 4 + 0.16**2 / 8))


def test_the_noise_of_a_run_grows_with_the_root_of_its_steps():
    W = torch.tensor([[3.0, 4.0], [0.0, 1.0]], dtype=torch.float64)
    assert noise_to_weight(0.1, 9, W) == pytest.approx(0.1 * 3 * sqrt(2) / 3)


def test_a_trace_term_that_is_not_known_speaks_against_the_bound():
    """None stands in a row for what is no finite number."""
    point = {"noise_to_weight": 0.1, "value": 1.0, "flatness": 0.5, "trace_error": 0.4, "trace_term": None}
    assert warnings(point) == ["trace error above half the trace term"]
    assert warnings(point | {"trace_term": 1.0}) == []


def test_a_bound_without_flatness_has_the_error_of_its_trajectory_alone():
    flat = wang_mao.Isotropic(value=0.4, A=0.04, B=0.0, sigma=0.1, trajectory=0.4, flatness=0.0)
    squares = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    assert error_over_runs(flat, torch.zeros(3).double(), squares) == pytest.approx(0.2 * 0.5 / sqrt(3))
