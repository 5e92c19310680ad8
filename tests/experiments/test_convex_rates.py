from dataclasses import replace

import pytest

from helpers import convex as exact
from helpers.experiments import convex_rates


def test_simulation_and_closed_form_agree_and_the_bounds_are_those_of_the_module():
    config = replace(convex_rates.PROFILES["smoke"], samples=400)
    row = convex_rates.row(config, {"n": 16})
    task = exact.Construction(n=16, d=16)
    assert abs(row["simulated_gap"] - task.gap) < 4 * row["simulated_gap_standard_error"]
    assert row["xu_raginsky"] == task.xu_raginsky
    assert row["isotropic"] == task.isotropic().value
    assert row["omniscient"] == pytest.approx(task.gap)


def test_the_paper_profile_runs_through_the_same_code_with_few_samples():
    config = replace(convex_rates.PROFILES["paper"], samples=3, sizes=(16,))
    assert [point["n"] for point in convex_rates.points(config)] == [16]
    assert convex_rates.row(config, convex_rates.points(config)[0])["simulated_gap_standard_error"] > 0
