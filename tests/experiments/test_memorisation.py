from dataclasses import replace
from functools import cache

import pytest
import torch

from helpers import supersample
from helpers.experiments import memorisation
from helpers.experiments.machinery.config import ConfigError

TINY = memorisation.PROFILES["smoke"]


@cache
def tiny_row(task):
    point = next(p for p in memorisation.points(TINY) if p["task"] == task)
    return point, memorisation.row(TINY, point)


@pytest.mark.parametrize("task", [memorisation.OVER_N, memorisation.OVER_NOISE, memorisation.IMAGES])
def test_a_row_holds_the_family_in_order(task):
    point, row = tiny_row(task)
    assert row["status"] == "ok"
    assert row["gap"] == pytest.approx(row["ghost_error"] - row["train_error"])
    for members in (row["members"], row["members_few"]):
        predictions, losses, differences = members
        assert predictions["information"] >= losses["information"] - 1e-12 >= differences["information"] - 2e-12
    if task == memorisation.OVER_N:
        assert row["members_few"][2]["baseline"] > row["members"][2]["baseline"]
    assert len(row["examples"]["memorisation"]) == 2 * point["n"]
    assert row["counted_once"]["standard_error"] is None


def test_numbers_are_those_of_the_module_on_the_networks_of_the_row():
    point, row = tiny_row(memorisation.OVER_N)
    pairs, _, test = memorisation.drawn_pairs(TINY, point)
    coins = pairs.memberships(TINY.memberships, seed=1000)
    run = memorisation._trained(TINY, point, [pairs.sample(tossed) for tossed in coins])
    wrong = torch.stack([(m(pairs.examples.inputs).argmax(1) != pairs.examples.targets).double() for m in run.models])
    found = supersample.information(pairs.differences(wrong), coins, permutations=TINY.permutations)
    assert row["members"][2]["information"] == pytest.approx(found.value)
    own = [
        (m(pairs.sample(c).inputs).argmax(1) != pairs.sample(c).targets).double().mean()
        for m, c in zip(run.models, coins, strict=True)
    ]
    fresh = [(m(test.inputs).argmax(1) != test.targets).double().mean() for m in run.models]
    assert row["train_error"] == pytest.approx(torch.stack(own).mean().item())
    assert row["counted"]["value"] == pytest.approx(supersample.counted(torch.stack(own), torch.stack(fresh)).value)


def test_label_noise_changes_labels_and_no_example():
    point, row = tiny_row(memorisation.OVER_NOISE)
    noisy, labels, _ = memorisation.drawn_pairs(TINY, point)
    clean, same, _ = memorisation.drawn_pairs(TINY, point | {"noise": 0.0})
    assert torch.equal(noisy.examples.inputs, clean.examples.inputs)
    assert torch.equal(labels, same)
    assert (noisy.examples.targets != labels).double().mean() == pytest.approx(0.27, abs=0.12)
    assert row["examples"]["target"] != row["examples"]["label"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"noise_levels": (1.5,)}, "shares from 0 to 1, got 1.5"),
        ({"few": 9}, "few must lie between 2 and the number of memberships, got 9"),
        ({"image_batch_size": 21}, "image_batch_size must be at most image_size = 20"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(TINY, **changes)


def test_the_paper_profile_runs_through_the_same_code():
    tiny = {"dataset": "digits", "image_dataset": "digits", "memberships": 3, "image_memberships": 3, "few": 2}
    tiny |= {"sizes": (10,), "noise_size": 10, "image_size": 10, "filters": 2, "epochs": 2, "image_epochs": 1}
    config = replace(memorisation.PROFILES["paper"], **tiny, image_batch_size=5, n_test=50)
    for point in memorisation.points(config)[::2][:3]:
        assert memorisation.row(config, point)["status"] == "ok"
