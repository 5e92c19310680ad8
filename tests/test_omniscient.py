import pytest
import torch
from golden import Linear

from helpers import losses, omniscient


@pytest.fixture(scope="module")
def linear():
    return Linear()


@pytest.mark.parametrize("method", ["exact", "krylov"])
@pytest.mark.parametrize("part", ["exact_population", "finite_val_val2"])
def test_the_golden_linear_instance(linear, part, method):
    expected = linear.expected["linear"][part]
    val, val2 = (linear.population, linear.population) if part == "exact_population" else (linear.val, linear.val2)
    rows = omniscient.estimate(
        linear.models, linear.train, val, val2, loss=losses.HalfSquaredError(linear.R),
        lambdas=[row["lam"] for row in expected.values()], steps=linear.steps, method=method, rtol=1e-14,
    )  # fmt: skip
    for row, want in zip(rows, expected.values(), strict=True):
        for name, key in [
            ("value", "bound"), ("penalty", "penalty"), ("M", "M"), ("trace_term", "trace_term"), ("A", "A"), ("B", "B"),
            ("sigma", "sigma_star"), ("trajectory", "trajectory_at_sigma_star"), ("flatness", "flatness_at_sigma_star"),
        ]:  # fmt: skip
            assert getattr(row, name) == pytest.approx(want[key], rel=1e-8, abs=1e-12), (row.lam, name)
        assert row.delta_norm == pytest.approx(sum(want["delta_norm"]) / 4, rel=1e-9)
    print(max(r.residual for r in rows))
