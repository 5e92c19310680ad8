"""The laboratory's Python side: its element, its data, what it refuses."""

import inspect
import json
import re
from typing import Any

import pytest
import torch

from helpers import data, losses, models, omniscient, training, widgets
from helpers.experiments.trends import warnings
from helpers.widgets.laboratory import Roles, measure, packed_digits, replay, roles
from helpers.widgets.laboratory.element import KEYS
from helpers.widgets.laboratory.scripts import ENGINE, NAMES


@pytest.mark.parametrize("make", [widgets.Laboratory, widgets.Train])
def test_element_carries_its_scripts_a_table_and_strict_json(make: Any) -> None:
    element = make(batch_size=5, lr=0.2)
    assert repr(element) == f"{make.__name__}(batch_size=5, lr=0.2)"
    state = {key: value for key, value in element.get_state().items() if key in ("settings", "results")}
    assert element.refused == ""
    assert json.loads(json.dumps(state, allow_nan=False)) == {"settings": {"batch_size": 5, "lr": 0.2}, "results": {}}
    bundle, _ = element._repr_mimebundle_()
    assert "<td>5</td>" in bundle["text/html"]
    script = str(element._esm)
    assert script.count("export default") == 1
    assert not any(line.startswith("import") for line in script.splitlines())
    assert ENGINE in script


def test_a_setting_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError, match="no setting 'batchsize'; it has world, batch_size"):
        widgets.Laboratory(batchsize=5)


def test_settings_and_their_defaults_are_those_of_replay() -> None:
    parameters = inspect.signature(replay).parameters
    assert set(parameters) == set(KEYS)
    (text,) = re.findall(r"const DEFAULTS = \{(.*?)\};", ENGINE, re.DOTALL)
    defaults = json.loads("{" + re.sub(r"(\w+):", r'"\1":', text).strip().rstrip(",") + "}")
    assert defaults == {key: parameter.default for key, parameter in parameters.items()}


def test_what_is_handed_out_is_there() -> None:
    for name in NAMES:
        assert any(f"{word} {name}" in ENGINE for word in ("function", "function*", "const")), name


def test_the_element_answers_for_the_digits_and_for_nothing_else() -> None:
    element, sent = widgets.Laboratory(), []
    element.send = lambda content, buffers=None: sent.append(content)  # type: ignore[method-assign]
    element._answer(None, {"wanted": "digits"}, [])
    element._answer(None, {"wanted": "/etc/passwd"}, [])
    assert sent == [{"digits": packed_digits()}]


def test_an_ensemble_of_ones_own_is_shown() -> None:
    *samples, val, val2 = data.partition(data.load("digits"), [60] * 3 + [100, 100], seed=0)
    own = Roles(samples, val, val2, data.load("digits", train=False))
    run = training.train_ensemble(
        lambda: models.mlp(64, 8, 10, depth=2), samples, epochs=2, batch_size=20, lr=0.1, seed=0
    )
    element = widgets.Laboratory()
    element.show(run, own, lambdas=[1.0])
    assert element.results["source"] == "python"
    gap = omniscient.gap(run.models, samples, own.test, loss=losses.ClippedCrossEntropy.per_class(10))
    assert element.results["gap"] == {"value": gap.value, "standard_error": gap.standard_error}
    assert element.results["losses"] == pytest.approx(run.losses.mean(1).tolist())
    json.dumps(element.results, allow_nan=False)


def test_digits_leave_something_to_hold_out() -> None:
    with pytest.raises(ValueError, match="n of 300 at most"):
        roles("digits", n=330, seed=0)
    with pytest.raises(ValueError, match="no world 'mars'"):
        roles("mars", n=10, seed=0)


@pytest.mark.parametrize("world", ["digits", "moons"])
def test_roles_are_disjoint_and_repeat(world: str) -> None:
    first, again, other = (roles(world, n=40, seed=seed) for seed in (1, 1, 2))
    data.check_disjoint(*first.train, first.val, first.val2, first.test)
    assert torch.equal(first.train[2].inputs, again.train[2].inputs)
    assert not torch.equal(first.train[2].inputs, other.train[2].inputs)


def test_a_loss_to_stop_at_is_checked() -> None:
    with pytest.raises(ValueError, match="stop_loss must be 0, or a training loss in nats to stop at, not -1"):
        replay("moons", n=40, stop_loss=-1)
    with pytest.raises(ValueError, match="stop_loss must be 0 where temperature is above 0"):
        replay("moons", n=40, stop_loss=0.1, temperature=0.01)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"batch_size": 41}, "batch_size must be 1 to n = 40, not 41"),
        ({"batch_size": 0}, "batch_size must be 1 to n = 40, not 0"),
        ({"lr": -5}, "lr is out of range: -5"),
        ({"momentum": 1.0}, "momentum is out of range: 1.0"),
        ({"epochs": 0}, "epochs is out of range: 0"),
        ({"temperature": -1}, "temperature is out of range: -1"),
        ({"temperature": 0.1, "momentum": 0.5}, "momentum must be 0 where temperature is above 0"),
    ],
)
def test_nothing_is_clamped_in_silence(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replay("moons", n=40, **settings)


def test_divergence_is_an_error() -> None:
    with pytest.raises(training.Diverged, match="lower the learning rate"):
        replay("moons", n=40, lr=1e200, epochs=3, batch_size=4)


def test_the_langevin_bound_of_a_warm_run_certifies() -> None:
    done = replay("circles", n=400, batch_size=400, lr=0.5, epochs=60, temperature=0.01)
    found = done.measure(lambdas=[1.0])
    assert found["train_error"] + found["langevin"]["value"] < 0.3
    assert found["test_error"] < 0.3
    without = measure(done.run, done.roles, lambdas=[1.0])
    assert without["langevin"] is None


def test_bars_with_a_warning_say_it_and_the_clip_is_drawn() -> None:
    rows = [
        {"lam": lam, "penalty": 0.1, "trajectory": 1.0, "flatness": 0.5, "gap": 0.3, "noise_to_weight": ratio}
        for lam, ratio in ((1.0, 2.0), (10.0, 0.5))
    ]
    chart = widgets.BoundExplorer(rows, axes=("lam",), warn=warnings, caps={"clip": 27.63}).chart
    assert chart["notes"] == ["Warned: noise larger than the weights.", ""]
    assert chart["caps"] == [["clip", 27.63]]
    assert widgets.BoundExplorer(rows, axes=("lam",)).chart["notes"] == ["", ""]


def test_label_noise_is_one_law_for_all_roles() -> None:
    own = roles("moons", n=30, seed=0, label_noise=1.0)
    for split in (*own.train, own.val, own.val2, own.test):
        assert 0.1 < split.targets.double().mean().item() < 0.9
    nearest = (own.test.inputs[:, 1] < 0).long()  # the moons lie one above the other
    assert (nearest == own.test.targets).double().mean().item() == pytest.approx(0.5, abs=0.05)
