import json
from contextlib import suppress
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import Squares

from helpers import experiments
from helpers.experiments.machinery.config import ConfigError, parse_settings


def test_settings_are_parsed_by_type():
    text = {"count": "7", "power": "1e-3", "seeds": "3, 4", "name": "cubes", "noise": "0.5", "loud": "true"}
    config = Squares().with_settings(text)
    assert config == Squares(count=7, power=1e-3, seeds=(3, 4), name="cubes", noise=0.5, loud=True)
    assert Squares(noise=1.0).with_settings({"noise": "none"}).noise is None
    assert config.as_json()["seeds"] == [3, 4]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("count=0", "count must be finite and positive, got 0"),
        ("count=-3", "count must be finite and positive"),
        ("count=1.5", "count takes a whole number, got '1.5'"),
        ("count=1e400", "count takes a whole number"),
        ("count=" + "9" * 400, "beyond anything this code can run|finite"),
        ("power=nan", "power must be finite"),
        ("power=inf", "power must be finite"),
        ("power=two", "power takes a number, got 'two'"),
        ("seeds=", "seeds needs at least one value"),
        ("seeds=3,3", "seeds gives a value twice"),
        ("seeds=-1", "seeds must be finite and zero or more"),
        ("loud=yes", "loud takes true or false"),
        ("size=3", "there is no setting 'size'; choose from count"),
        ("count", "--set takes key=value, got 'count'"),
        ("=3", "--set takes key=value"),
    ],
)
def test_settings_that_make_no_sense_get_one_sentence(text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        Squares().with_settings(parse_settings([text]))
    assert "\n" not in str(caught.value)


def test_a_key_given_twice_is_refused():
    with pytest.raises(ConfigError, match="gives 'count' twice"):
        parse_settings(["count=1", "count=2"])


@given(key=st.text(max_size=8), value=st.text(max_size=20))
@settings(max_examples=5000)
def test_any_text_parses_or_is_refused_in_words(key, value):
    with suppress(ConfigError):
        Squares().with_settings(parse_settings([f"{key}={value}"]))


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_every_experiment_has_three_profiles_and_a_grid(name):
    experiment = experiments.find(name)
    assert set(experiment.profiles) == {"smoke", "laptop", "paper"}
    for profile in experiment.profiles:
        points = experiment.points(experiments.settings(experiment, profile))
        assert len(points) == len({tuple(sorted(point.items())) for point in points}) > 0


def test_unknown_names_list_the_known():
    with pytest.raises(ConfigError, match="choose from resnet18-grid"):
        experiments.find("resnet19")
    with pytest.raises(ConfigError, match="choose from smoke, laptop, paper"):
        experiments.settings(experiments.find("resnet18-grid"), "cluster")


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_settings_come_back_from_json(name):
    for config in experiments.find(name).profiles.values():
        assert type(config).from_json(json.loads(json.dumps(config.as_json()))) == config


@given(
    field=st.sampled_from(sorted(asdict(Squares()))),
    value=st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.text(),
        st.floats(),
        st.lists(st.floats() | st.text() | st.integers()),
    ),
)
@settings(max_examples=3000)
def test_any_json_makes_settings_of_the_right_types_or_is_refused_in_words(field, value):
    with suppress(ConfigError):
        made = Squares.from_json({**Squares().as_json(), field: value})
        usual = getattr(Squares(), field)
        if field == "noise":  # a float or none; whole numbers serve as floats
            assert made.noise is None or isinstance(made.noise, int | float)
        elif field in ("power", "pause"):
            assert isinstance(getattr(made, field), int | float)
        else:
            assert type(getattr(made, field)) is type(usual)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": True}, "count has a value of the wrong type, True"),
        ({"count": 2.0}, "count has a value of the wrong type"),
        ({"loud": 1}, "loud has a value of the wrong type"),
        ({"seeds": 3}, "seeds has a value of the wrong type"),
        ({"seeds": [0, "1"]}, "seeds has a value of the wrong type"),
        ({"size": 3}, "the settings size are missing or unknown"),
    ],
)
def test_json_of_another_form_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        Squares.from_json({**Squares().as_json(), **changes})


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_every_experiment_names_the_sizes_that_its_memory_depends_on(name):
    """Settings that it has, whole numbers that can be lowered."""
    for config in experiments.EXPERIMENTS[name].profiles.values():
        named = config.costs_memory
        assert named
        for setting in named:
            value = getattr(config, setting)
            assert all(type(item) is int for item in (value if isinstance(value, tuple) else (value,))), setting
        if "memory" in vars(type(config)):
            assert named == list(config.memory)


def test_a_number_finer_than_float64_is_one_sentence():
    config = experiments.EXPERIMENTS["cnn-clipping"].profiles["smoke"]
    with pytest.raises(ConfigError, match="lr is finer than float64 resolves: give a number above 1e-15, got 1e-300"):
        config.with_settings({"lr": "1e-300"})
