"""A row that is killed within its training goes on from the last whole epoch, to the same bits, and tidies up."""

from dataclasses import dataclass, replace
from functools import partial

import pytest
from instances import images

from helpers import data, models
from helpers.experiments import resumable
from helpers.experiments import run as runner_run
from helpers.experiments.machinery import worker
from helpers.experiments.machinery.config import Config
from helpers.experiments.machinery.runner import Experiment
from helpers.training.progress import Progress


@dataclass(frozen=True)
class Small(Config):
    lr: float = 0.05
    seeds: tuple[int, ...] = (0, 1)


def points(config):
    return [{"seed": seed} for seed in config.seeds]


def row(config, point):
    """A network with BatchNorm and two stations, everything that a row could be made of."""
    splits = data.disjoint(images(32, size=8), 2, 16, seed=point["seed"])
    run, stations = resumable.train_with_stations(
        partial(models.resnet18, 2, 3, channels=1), splits, stations=(1, 3), epochs=3, batch_size=4, lr=config.lr,
        momentum=0.9, seed=point["seed"],
    )  # fmt: skip
    kept = {epoch: [float(models.weights(m).double().norm()) for m in networks] for epoch, networks in stations.items()}
    outputs = [m(images(5, size=8, seed=9).inputs.float()).double().sum().item() for m in (*run.models, *stations[1])]
    return {
        "weights": [models.weights(model).tolist() for model in run.models],
        "initial": run.initial.sum().item(),
        "dispersion": run.step_dispersion.tolist(),
        "losses": run.losses.tolist(),
        "precision": run.precision,
        "stations": [kept[1], kept[3]],
        "outputs": outputs,
    }


EXPERIMENT = Experiment("small", "toy", {"smoke": Small()}, points, row, lambda config: "random")


class Killed(BaseException):
    """What no code catches, as a signal."""


@pytest.fixture
def advanced(monkeypatch):
    """Counts epochs, and kills in the one asked for."""
    count, at = [], []
    advance = Progress.advance

    def counted(progress, rate):
        if len(count) in at:
            at.clear()
            raise Killed
        count.append(rate)
        return advance(progress, rate)

    monkeypatch.setattr(Progress, "advance", counted)
    return count, at


def test_a_killed_row_goes_on_to_the_same_bits(tmp_path, advanced):
    count, at = advanced
    whole = runner_run(EXPERIMENT, "smoke", Small(), out=tmp_path / "whole", quiet=True)
    assert len(count) == 6
    count.clear()
    at.append(2)  # the third epoch of the first row
    with pytest.raises(Killed):
        runner_run(EXPERIMENT, "smoke", Small(), out=tmp_path / "killed", quiet=True)
    left = sorted(path.name.rsplit(".", 2)[1] for path in (tmp_path / "killed").glob("*.safetensors"))
    assert left == ["station-1", "training"]
    resumed = runner_run(EXPERIMENT, "smoke", Small(), out=tmp_path / "killed", quiet=True)
    assert len(count) == 6
    assert resumed.rows == whole.rows
    assert not list((tmp_path / "killed").glob("*.safetensors"))


def test_a_row_that_is_killed_while_it_is_measured_does_not_train_again(tmp_path, advanced, monkeypatch):
    count, _ = advanced
    whole = row(Small(), {"seed": 0})
    count.clear()
    with monkeypatch.context() as patch:
        patch.setattr(models, "weights", lambda model: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            runner_run(EXPERIMENT, "smoke", Small(seeds=(0,)), out=tmp_path, quiet=True)
    resumed = runner_run(EXPERIMENT, "smoke", Small(seeds=(0,)), out=tmp_path, quiet=True)
    assert len(count) == 3
    assert resumed.rows[0] == {"seed": 0, **whole}


def test_what_other_settings_left_is_not_gone_on_with(tmp_path, advanced):
    count, at = advanced
    at.append(1)
    with pytest.raises(Killed):
        runner_run(EXPERIMENT, "smoke", Small(), out=tmp_path, quiet=True)
    slower = runner_run(EXPERIMENT, "smoke", replace(Small(), lr=0.01), out=tmp_path, quiet=True)
    assert len(count) == 1 + 6
    assert slower.rows[0]["weights"] == row(Small(lr=0.01), {"seed": 0})["weights"]
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_worker_without_the_folder_keeps_nothing(tmp_path):
    def place(config, point):
        return {"kept": str(worker.scratch())}

    away = worker.compute(place, Small(), {}, 1, tmp_path / "elsewhere" / "row")
    assert away.row == {"kept": "None"}
    here = worker.compute(place, Small(), {}, 1, tmp_path / "row")
    assert here.row == {"kept": str(tmp_path / "row")}
    assert worker.scratch() is None


def test_a_training_without_stations_is_the_run_itself():
    splits = data.disjoint(images(16, size=8), 2, 8, seed=0)
    make = partial(models.resnet18, 2, 3, channels=1)
    run = resumable.train_resumably(make, splits, epochs=1, batch_size=4, lr=0.05, seed=0)
    assert (len(run.models), run.steps) == (2, 2)
