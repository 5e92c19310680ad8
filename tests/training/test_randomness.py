"""Same seed, same numbers: with dropout, in threads, after errors, whatever the caller draws."""

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from instances import sample
from torch import nn

from helpers import data, models, training
from helpers.training.randomness import Randomness

SPLITS = data.disjoint(sample(90), 3, 30, seed=0)
SETTINGS = {"epochs": 3, "batch_size": 8, "lr": 0.1, "momentum": 0.9}


def make():
    return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Dropout(0.4), nn.Linear(6, 3)).double()


def train(seed=5, splits=SPLITS, **changes):
    return training.train_ensemble(make, splits, seed=seed, **SETTINGS | changes)


def bits(run):
    return torch.stack([run.initial, *map(models.weights, run.models)])


@pytest.fixture
def restless():
    """Threads that hand over as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_dropout_draws_what_the_plain_loop_draws_after_manual_seed():
    run = train(splits=SPLITS[:1])
    torch.manual_seed(5)
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9)
    generator = torch.Generator().manual_seed(1_000_003 * 5)
    for _ in range(3):
        order = torch.randperm(30, generator=generator)
        for rows in order[:24].split(8):
            optimizer.zero_grad()
            F.cross_entropy(model(SPLITS[0].inputs[rows]), SPLITS[0].targets[rows]).backward()
            optimizer.step()
    torch.testing.assert_close(models.weights(run.models[0]), models.weights(model), rtol=1e-12, atol=1e-14)


def test_dropout_is_fixed_by_the_seed_whatever_the_caller_drew():
    first = bits(train())
    torch.rand(7)
    assert torch.equal(bits(train()), first)
    assert not torch.equal(bits(train(seed=6)), first)


def test_trainings_in_four_threads_give_the_bits_of_one_after_the_other(restless):
    alone = [bits(train(seed)) for seed in range(12)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: bits(train(seed)), range(12)))
    assert [i for i, (one, other) in enumerate(zip(alone, together, strict=True)) if not torch.equal(one, other)] == []


def test_what_observe_draws_changes_neither_the_training_nor_the_caller():
    quiet = bits(train())
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    drawn = []
    noisy = bits(train(observe=lambda epoch, runs: drawn.append(torch.rand(2))))
    assert torch.equal(noisy, quiet)
    assert torch.equal(torch.rand(3), expected)
    again = []
    train(observe=lambda epoch, runs: again.append(torch.rand(2)))
    assert torch.equal(torch.stack(again), torch.stack(drawn))  # the same seed fixes what observe draws, too


def test_a_training_within_a_training_changes_neither():
    inner = []
    outer = bits(train(observe=lambda epoch, runs: inner.append(bits(train(8)))))
    assert torch.equal(outer, bits(train()))
    assert all(torch.equal(one, bits(train(8))) for one in inner)


def diverging():
    train(splits=[data.Split(s.inputs * 1e200, s.targets, 3, "wild") for s in SPLITS])


def interrupted():
    def loss(outputs, targets):
        raise KeyboardInterrupt

    train(loss=loss)


@pytest.mark.parametrize(("work", "error"), [(diverging, training.Diverged), (interrupted, KeyboardInterrupt)])
def test_an_error_leaves_the_callers_generator_where_it_was(work, error):
    before = torch.get_rng_state()
    with pytest.raises(error):
        work()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(bits(train()), bits(train()))  # and the next training its turn


def test_the_caller_may_have_switched_gradients_off():
    with torch.no_grad():
        run = train()
    assert torch.equal(bits(run), bits(train()))


def test_what_is_drawn_under_a_seed_is_fixed_in_every_thread(restless):
    def drawn(seed):
        with training.seeded(seed):
            return torch.stack([torch.rand(20) for _ in range(10)])

    before = torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(drawn, range(20)))
    assert torch.equal(torch.get_rng_state(), before)
    for seed, one in enumerate(together):
        torch.manual_seed(seed)
        assert torch.equal(one, torch.rand(200).view(10, 20))


def test_turns_go_on_where_the_last_one_ended_and_what_is_drawn_aside_is_forgotten():
    torch.manual_seed(3)
    expected = torch.rand(4)
    random = Randomness(3)
    with random.turn():
        first = torch.rand(2)
    with random.aside():
        aside = torch.rand(2)
    with random.turn():
        second = torch.rand(2)
    assert torch.equal(torch.cat([first, second]), expected)
    assert torch.equal(aside, second)
