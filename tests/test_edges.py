"""What people met with other tools of the field, as small inputs with a known answer, where no other file has it."""

import gc
import math
from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from instances import CLIPPED, network, sample
from torch import nn

import helpers
from helpers import (
    curvature,
    data,
    flatness,
    models,
    neu,
    omniscient,
    pac_bayes,
    soft_rank,
    supersample,
    training,
    wang_mao,
)
from helpers.losses import ClippedCrossEntropy, HalfSquaredError
from helpers.regularizers import GMP, SAM


def regression(n=6):
    split = sample(n)
    return data.Split(split.inputs, torch.linspace(-1, 1, n).double(), 0, "regression")


def square(outputs, targets):
    return (outputs.flatten() - targets) ** 2


# --- The loss ---------------------------------------------------------------------------------------------------------


def test_one_weight_and_three_examples():
    """X = 1, 2, 3, w = 1, target 0: gradient and Hessian 2 mean x^2 = 28/3; a loss that averages is refused."""
    model = nn.Linear(1, 1, bias=False).double().eval()
    models.set_weights(model, torch.ones(1).double())
    split = data.Split(torch.tensor([[1.0], [2.0], [3.0]]).double(), torch.zeros(3).double(), 0, "three")
    assert curvature.gradient(model, square, split).item() == pytest.approx(28 / 3)
    assert curvature.hessian(model, square, split).item() == pytest.approx(28 / 3)
    assert curvature.trace(model, square, split, method="hutchinson").value == pytest.approx(28 / 3)
    for quantity in (curvature.gradient, curvature.hessian, curvature.trace):
        with pytest.raises(ValueError, match="one value an example"):
            quantity(model, lambda z, y: square(z, y).mean(), split)
    with pytest.raises(ValueError, match="one value an example"):
        curvature.gradient(network(), nn.CrossEntropyLoss(), sample())


@pytest.mark.parametrize("stray", [-1, 3, 9])
@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss])
def test_a_target_that_names_no_class_is_refused_whichever_loss_is_given(loss, stray):
    split = sample()
    targets = torch.where(torch.arange(len(split)) == 5, stray, split.targets)
    for quantity in (curvature.values, curvature.gradient):
        with pytest.raises(ValueError, match=f"targets hold the class {stray}, .* classes 0 to 2"):
            quantity(network(), loss(reduction="none"), (split.inputs, targets))
    with pytest.raises(RuntimeError, match="mine"):  # any other failure keeps its words
        curvature.values(network(), broken_loss, split)


def broken_loss(outputs, targets):
    raise RuntimeError("mine")


def bounded(**changes):
    ensemble = [network(seed=0), network(seed=1)]
    *train, val, val2 = (sample(20, seed=seed) for seed in range(4))
    arguments = {"models": ensemble, "train": train, "val": val, "val2": val2, "loss": CLIPPED, "lambdas": [1.0, 10.0]}
    return omniscient.estimate(**arguments | changes)


def test_a_loss_without_its_constant_is_refused_before_anything_is_computed(monkeypatch):
    monkeypatch.setattr(curvature, "trace", None)
    with pytest.raises(ValueError, match=r"\bR\b"):
        bounded(loss=lambda z, y: F.cross_entropy(z, y, reduction="none"))


def test_lambdas_may_be_a_number_or_come_one_by_one():
    expected = bounded()
    assert [row.value for row in bounded(lambdas=(lam for lam in (1.0, 10.0)))] == [row.value for row in expected]
    (row,) = bounded(lambdas=10.0)
    assert row.value == pytest.approx(expected[1].value, rel=1e-6)


@pytest.mark.parametrize("role", ["val", "val2", "train"])
def test_a_sample_with_a_hole_is_refused_in_a_sentence(role):
    broken = sample(20, seed=9)
    inputs = broken.inputs.clone()
    inputs[3, 2] = math.nan
    broken = data.Split(inputs, broken.targets, 3, "broken")
    with pytest.raises(ValueError, match="inputs that are not finite; leave those examples out"):
        bounded(**{role: [sample(20, seed=0), broken] if role == "train" else broken})


@pytest.mark.parametrize("quantity", [curvature.hessian, curvature.trace])
def test_curvature_that_overflows_is_refused_and_not_nan_with_an_error_of_zero(quantity):
    model = network()
    models.set_weights(model, 1e200 * models.weights(model))
    with pytest.raises(ValueError, match="not finite"):
        quantity(model, HalfSquaredError(), data.Split(sample().inputs, torch.zeros(23, 3).double(), 0, "zero"))


# --- Runs and samples -------------------------------------------------------------------------------------------------


def test_one_run_gives_no_bound_of_zero():
    run = training.train_ensemble(
        lambda: models.mlp(5, 4, 3).double(), [sample(20)], epochs=2, batch_size=5, lr=0.1, seed=0
    )
    assert math.isnan(run.dispersion)
    with pytest.raises(ValueError, match="dispersion must be a finite number"):
        wang_mao.closed_form(run.dispersion, 1.0, n=20, steps=run.steps, R=1.0)
    with pytest.raises(ValueError, match=r"k >= 2"):
        omniscient.estimate(run.models, [sample(20)], sample(9, seed=1), sample(9, seed=2), loss=CLIPPED, lambdas=[1.0])


def test_samples_of_unequal_size_are_not_cut_in_silence():
    with pytest.raises(ValueError, match=r"20.*30|30.*20|one size"):
        training.train_ensemble(
            lambda: models.mlp(5, 4, 3).double(),
            [sample(20), sample(30, seed=1)],
            epochs=1,
            batch_size=5,
            lr=0.1,
            seed=0,
        )


@pytest.mark.parametrize(
    ("split", "share", "message"),
    [
        (regression(), 0.5, "no class an example"),
        (
            data.Split(torch.zeros(3, 4), torch.zeros(3, 4, dtype=torch.int64), 5, "sequences"),
            0.5,
            "no class an example",
        ),
        (sample(), math.nan, r"must lie in \[0, 1\]"),
        (sample(), 1.1, r"must lie in \[0, 1\]"),
        (sample(20), 0.01, "is no example"),
    ],
)
def test_label_noise_that_cannot_be_meant_is_refused(split, share, message):
    with pytest.raises(ValueError, match=message):
        data.with_label_noise(split, share, seed=0)


def test_label_noise_says_its_share_and_changes_other_examples_than_a_partition_takes():
    noisy = data.with_label_noise(sample(1000), 0.005, seed=0)
    assert noisy.edition.endswith(", 0.5% of the labels random")
    changed = (data.with_label_noise(sample(1000), 0.2, seed=0).targets != sample(1000).targets).nonzero().flatten()
    first = data.partition(sample(1000), [200], seed=0)[0].indices
    assert len(set(changed.tolist()) & set(first.tolist())) < 0.5 * len(changed)


# --- Models -----------------------------------------------------------------------------------------------------------


def lazy_weights():
    return nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.Linear(4, 3))


def lazy_statistics():
    return nn.Sequential(nn.Linear(5, 4), nn.LazyBatchNorm1d(affine=False), nn.Linear(4, 3))


@pytest.mark.parametrize("make_model", [lazy_weights, lazy_statistics])
def test_lazy_layers_are_refused_until_they_have_weights(make_model):
    train, (val, val2, test) = [sample(seed=0), sample(seed=1)], (sample(seed=seed) for seed in (2, 3, 4))
    networks, words = (
        [make_model().eval(), make_model().eval()],
        r"^the model has lazy layers, .*call it on a few",
    )
    uses = {
        "training": lambda: training.train_ensemble(make_model, train, epochs=1, batch_size=2, lr=0.1, seed=0),
        "gradient": lambda: curvature.gradient(networks[0], CLIPPED, train[0]),
        "trace": lambda: curvature.trace(networks[0], CLIPPED, train[0]),
        "bounds": lambda: helpers.bounds(
            training.Run(networks, torch.zeros(1), 1, torch.ones(1), torch.ones(1, 2)), val, val2, test, train=train
        ),
    }
    for use in uses.values():
        with pytest.raises(ValueError, match=words):
            use()

    def called():
        model = make_model()
        model(sample().inputs.float())
        return model

    d = sum(p.numel() for p in called().parameters())
    assert curvature.gradient(called().eval(), CLIPPED, sample()).shape == (d,)
    assert training.train_ensemble(called, train, epochs=1, batch_size=2, lr=0.1, seed=0).initial.shape == (d,)


@pytest.mark.parametrize("method", ["exact", "gauss-newton", "hutchinson"])
def test_all_but_one_tensor_may_be_frozen(method):
    model, split = network(), sample()
    H = curvature.hessian(model, CLIPPED, split)
    for name, p in model.named_parameters():
        p.requires_grad_(name == "3.weight")
    block = H[24:36, 24:36]
    torch.testing.assert_close(curvature.hessian(model, CLIPPED, split), block)
    found = curvature.trace(model, CLIPPED, split, method=method, rtol=1e-3, most_probes=200)
    assert found.value == pytest.approx(block.trace().item(), abs=5 * found.standard_error + 1e-9)


def test_a_hundred_and_fifty_products_keep_no_tensor():
    model, split = network(nn.Tanh), sample()
    H, v = curvature.hessian_operator(model, CLIPPED, split), torch.ones(39).double()

    def alive():
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    H(v)
    before = alive()
    for _ in range(150):
        H(v)
    assert alive() <= before + 2
    assert all(p.grad is None for p in model.parameters())


def test_measures_of_flatness_do_not_depend_on_what_surrounds_them():
    model, split = network(), sample()
    inside = flatness.keskar(model, CLIPPED, split)
    with torch.no_grad():
        assert flatness.keskar(model, CLIPPED, split).value == inside.value > 0


# --- Numbers that are no numbers --------------------------------------------------------------------------------------

SEEDED = {
    "disjoint": lambda seed: data.disjoint(sample(), 2, 5, seed=seed)[0].indices,
    "label noise": lambda seed: data.with_label_noise(sample(), 0.5, seed=seed).targets,
    "pairs": lambda seed: supersample.Supersample.draw(sample(), 5, seed=seed).memberships(4, seed=seed),
    "isotropic": lambda seed: response(flatness.isotropic_response, seed),
    "shaped": lambda seed: response(flatness.shaped_response, seed, torch.eye(MODEL_SIZE).double()),
    "worst case": lambda seed: (
        flatness.worst_case_response(network(), CLIPPED, sample(), radius=0.1, starts=1, iterations=1, seed=seed).value
    ),
    "sensitivity": lambda seed: neu.sensitivity(torch.square, torch.ones(2).double(), 0.1, draws=2, seed=seed).value,
    "eigenvectors": lambda seed: curvature.eigenvectors(network(), CLIPPED, sample(), seed=seed).vectors,
    "extreme": lambda seed: curvature.extreme_eigenvalues(network(), CLIPPED, sample(), seed=seed).largest,
    "trace": lambda seed: curvature.trace(network(), CLIPPED, sample(), method="hutchinson", seed=seed).value,
    "affine": lambda seed: curvature.is_piecewise_affine(network(), sample(), seed=seed)[0],
}
MODEL_SIZE = 39


def response(function, seed, *shape):
    return function(network(), CLIPPED, sample(), *shape, radius=0.1, draws=2, seed=seed).value


@pytest.mark.parametrize("name", SEEDED)
def test_a_seed_is_a_whole_number_of_any_kind(name):
    def numbers(result):
        results = result if isinstance(result, list) else [result]
        return [x.tolist() if isinstance(x, torch.Tensor) else x for x in results]

    expected = numbers(SEEDED[name](3))
    for seed in (np.int64(3), 3.0, torch.tensor(3)):
        assert numbers(SEEDED[name](seed)) == expected
    for wrong in (None, "a", 2.5, -1, 2**64, torch.tensor([1, 2])):
        with pytest.raises(ValueError, match=r"seed must be .*(whole number|a number|below 2\^63)"):
            SEEDED[name](wrong)


def test_seeds_are_told_apart_to_the_last_digit():
    low, high = (curvature.trace(network(), CLIPPED, sample(), method="hutchinson", seed=2**53 + i) for i in (0, 1))
    assert low.value != high.value


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: data.disjoint(sample(), 2, 2.5, seed=0), "n must be a whole number"),
        (lambda: data.disjoint(sample(), "2", 5, seed=0), "k must be a number"),
        (lambda: data.partition(sample(), "12", seed=0), "sizes must hold numbers"),
        (lambda: data.partition(sample(), [3, None], seed=0), "every entry of sizes must be a number"),
        (lambda: curvature.eigenvectors(network(), CLIPPED, sample(), count=1.5), "count must be a whole number"),
        (lambda: wang_mao.closed_form(1.0, 1.0, n=10**400, steps=1, R=1.0), "n must be a number below"),
        (lambda: wang_mao.closed_form(np.complex64(1), 1.0, n=1, steps=1, R=1.0), "must be a number, got"),
        (lambda: omniscient.majorise_minimise_lambda(-1.0), "M must be positive"),
        (lambda: supersample.fast_rate_bound(None, 0.1), "training_risk must be a number"),
        (lambda: supersample.fast_rate_bound("0.1", 0.1), "training_risk must be a number"),
        (lambda: supersample.information([["a", "b"], ["b", "a"]], [[0, 1], [1, 0]]), "give each outcome a code"),
        (lambda: soft_rank.soft_rank(["a"], 0.5), "eigenvalues must hold numbers"),
        (lambda: soft_rank.tic(np.eye(2) * 1j, np.eye(2), 0.1), "F must hold real numbers"),
        (lambda: curvature.hvp(network(), CLIPPED, sample(), torch.full((39,), float("nan")).double()), "v holds"),
        (lambda: curvature.hvp(network(), CLIPPED, sample(), torch.ones(39).double().to_sparse()), "dense tensor"),
    ],
)
def test_what_is_no_number_is_refused_by_name(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize("lam", ["1", ["1"], 10**400])
def test_a_trade_off_is_a_number(lam):
    splits = [sample(8, seed=seed) for seed in range(4)]
    with pytest.raises(ValueError, match="lambdas must be a positive number or several"):
        omniscient.estimate([network(), network(seed=1)], splits[:2], *splits[2:], loss=CLIPPED, lambdas=lam)


def test_whole_numbers_of_any_kind_count_examples():
    splits = [data.disjoint(sample(), k, n, seed=1) for k, n in ((2, 5), (2.0, 5.0), (np.int64(2), torch.tensor(5)))]
    assert all(torch.equal(a.indices, b.indices) for other in splits[1:] for a, b in zip(splits[0], other, strict=True))


def test_ranks_of_arrays_and_lists_are_those_of_tensors():
    F, C = np.diag([1.0, 2.0]), np.diag([3.0, 1.0])
    tensors = torch.tensor(F), torch.tensor(C)
    assert soft_rank.soft_rank([1, 2], 0.5) == pytest.approx(1 / 1.5 + 2 / 2.5)
    assert soft_rank.soft_rank(np.array([1.0, 2.0]), 0.5) == soft_rank.soft_rank(torch.tensor([1.0, 2.0]).double(), 0.5)
    assert soft_rank.tic(F, C, 0.1) == soft_rank.tic(*tensors, 0.1)
    assert soft_rank.predict_gap(F, C, 0.1, n=5) == soft_rank.predict_gap(*tensors, 0.1, n=5)


def test_complex_weights_are_told_what_helps():
    class Complex(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(5, 3, dtype=torch.complex128))

        def forward(self, x):
            return (x.to(self.w.dtype) @ self.w).abs()

    with pytest.raises(ValueError, match=r"needs real weights.*view_as_complex"):
        curvature.gradient(Complex().eval(), CLIPPED, sample())


# --- Shared examples --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "numbers",
    [
        1.7e9 + torch.arange(20).double(),  # float32 tells them apart no more: time stamps, identities
        2**25 + torch.arange(20),
        torch.stack([1e8 + torch.arange(20).double(), torch.ones(20)], dim=1),
    ],
    ids=["time stamps", "identities", "two columns"],
)
def test_examples_are_compared_in_the_precision_that_they_have(numbers):
    half = len(numbers) // 2
    rows = numbers if numbers.ndim == 2 else numbers[:, None]
    first, second = ((part, torch.zeros(half).long()) for part in (rows[:half], rows[half:]))
    with pytest.raises(ValueError, match="share 10 examples"):
        data.check_disjoint(first, first)
    data.check_disjoint(first, second)
    mixed = (torch.cat([rows[:1], rows[half + 1 :]]), torch.zeros(half).long())
    with pytest.raises(ValueError, match="share 1 examples"):
        data.check_disjoint(first, mixed)


def test_a_copy_in_another_precision_and_a_signed_zero_are_seen():
    x = torch.randn(10, 3, generator=torch.Generator().manual_seed(0)).double()
    x[:, 0] = 0.0
    y = torch.zeros(10).long()
    with pytest.raises(ValueError, match="share 10 examples"):
        data.check_disjoint((x, y), (x.float(), y))
    with pytest.raises(ValueError, match="share 10 examples"):
        data.check_disjoint((x, y), (torch.where(x == 0, -0.0, x), y))
    several = ({"a": x, "b": y}, y)
    with pytest.raises(ValueError, match="share 10 examples"):
        data.check_disjoint(several, several)
    data.check_disjoint(several, ({"a": x, "b": y + 1}, y))


# --- Optimisers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wrapper", "settings"), [(SAM, {}), (GMP, {"sigma": 0.01})])
def test_accumulation_and_clipping_inside_the_closure(wrapper, settings):
    """Two halves of a batch, accumulated and clipped, step as the whole batch, clipped."""
    split, stepped = sample(20), []
    for halves in ([slice(0, 20)], [slice(0, 10), slice(10, 20)]):
        model = network(seed=4).train()
        torch.manual_seed(0)
        optimizer = wrapper(model.parameters(), torch.optim.SGD, lr=0.1, **settings)

        def closure(model=model, optimizer=optimizer, halves=halves):
            optimizer.zero_grad()
            losses = [F.cross_entropy(model(split.inputs[h]), split.targets[h]) / len(halves) for h in halves]
            for loss in losses:
                loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            return sum(losses)

        for _ in range(3):
            optimizer.step(closure)
        stepped.append(models.weights(model))
    torch.testing.assert_close(*stepped, rtol=1e-10, atol=1e-12)


# --- Bounds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kl", [0.0, 1e-12, 1.0, 1e3, 1e6, 1e9])
def test_pac_bayes_bounds_hold_for_any_divergence(kl):
    """McAllester by its formula, Maurer never above it, nor above the range of the loss."""
    n, delta = 1000, 0.05
    slow = math.sqrt((kl + math.log(2 * math.sqrt(n) / delta)) / (2 * n))
    found = pac_bayes.mcallester(0.1, kl, n=n, delta=delta)
    assert found >= 0.1
    assert found == pytest.approx(0.1 + slow, rel=1e-9)
    assert pac_bayes.maurer(0.1, kl, n=n, delta=delta) <= min(found, 1.0) + 1e-12


def test_a_fully_clipped_model_costs_its_clip_and_has_no_curvature():
    tight = ClippedCrossEntropy(1e-6)
    values = curvature.values(network(), tight, sample())
    assert (values == 1e-6).all()
    assert curvature.trace(network(), tight, sample(), method="hutchinson").value == 0


# --- What a user has in hand ------------------------------------------------------------------------------------------


def loader(split, **settings):
    held = torch.utils.data.TensorDataset(split.inputs, split.targets)
    return torch.utils.data.DataLoader(held, **{"batch_size": 5} | settings)


def test_held_out_data_may_come_in_any_form():
    val, val2 = sample(20, seed=2), sample(20, seed=3)
    expected = [row.value for row in bounded()]
    for form in (loader, lambda s: (s.inputs, s.targets), lambda s: list(zip(s.inputs, s.targets, strict=True))):
        assert [row.value for row in bounded(val=form(val), val2=form(val2))] == expected
    ensemble, train = [network(seed=0), network(seed=1)], [sample(20, seed=0), sample(20, seed=1)]
    still = torch.zeros(2, len(models.weights(ensemble[0]))).double()
    exact = omniscient.evaluate(ensemble, train, val2, still, loss=CLIPPED).value
    assert omniscient.evaluate(ensemble, [loader(s) for s in train], loader(val2), still, loss=CLIPPED).value == exact
    assert omniscient.gap(ensemble, train, loader(val2), loss=CLIPPED) == omniscient.gap(
        ensemble, train, val2, loss=CLIPPED
    )
    with pytest.raises(ValueError, match="2 models but 1 training"):
        omniscient.gap(ensemble, train[:1], val2, loss=CLIPPED)


@pytest.mark.parametrize("name", ["val", "val2", "train"])
def test_a_split_that_is_not_finite_is_named(name):
    broken = sample(20, seed=5)
    broken.inputs[3] = math.nan
    given = {name: [sample(20, seed=0), broken] if name == "train" else broken}
    with pytest.raises(ValueError, match=r"train\[1\] holds inputs" if name == "train" else f"^{name} holds inputs"):
        bounded(**given)


def test_numbers_of_other_libraries_are_numbers():
    import numpy as np

    expected = bounded(lambdas=10.0)[0].value
    for lam in (torch.tensor(10.0), np.array(10.0), np.float64(10.0), [torch.tensor(10.0)]):
        assert bounded(lambdas=lam)[0].value == expected

    class Measured(ClippedCrossEntropy):
        R = torch.tensor(CLIPPED.R)

    assert bounded(lambdas=10.0, loss=Measured(CLIPPED.clip))[0].value == pytest.approx(expected)
    for lambdas in (None, "0.1", [1.0, None], torch.tensor(-1.0)):
        with pytest.raises(ValueError, match="lambdas must be"):
            bounded(lambdas=lambdas)
    for text in ("12", b"12"):
        with pytest.raises(ValueError, match=r"lambdas must be a positive number or several, got b?'12'"):
            bounded(lambdas=text)
        with pytest.raises(ValueError, match=r"lr must hold numbers, got the text b?'12'"):
            neu.bound([1.0, 1.0], [1.0, 1.0], text, 1.0, n=4, R=1.0)
    for method in ("exact", "krylov"):
        with pytest.raises(ValueError, match=r"within the range of torch\.float32.*lower a lambda that is huge"):
            bounded(models=[network().float(), network(seed=1).float()], lambdas=1e300, method=method)
    model, split = network(), sample()
    assert curvature.trace(model, CLIPPED, split, seed=np.int64(3), method="hutchinson") == curvature.trace(
        model, CLIPPED, split, seed=3, method="hutchinson"
    )
    run = training.train_ensemble(
        network, [sample(20)], epochs=np.int64(1), batch_size=np.int64(5), lr=0.1, seed=np.int64(2)
    )
    assert run.steps == 4


@pytest.mark.parametrize("own", [None, torch.Generator().manual_seed(4)])
def test_reading_a_loader_leaves_the_callers_generators(own):
    shuffled, model = loader(sample(20), shuffle=True, generator=own), network()
    state, held = torch.get_rng_state(), None if own is None else own.get_state()
    curvature.gradient(model, CLIPPED, shuffled)
    assert torch.equal(torch.get_rng_state(), state)
    assert own is None or torch.equal(own.get_state(), held)


def test_a_loader_that_drops_examples_is_refused():
    split = sample(12)
    batches = torch.utils.data.BatchSampler(range(12), 5, drop_last=True)

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(zip(split.inputs, split.targets, strict=True))

    held = torch.utils.data.TensorDataset(split.inputs, split.targets)
    for dropping in (
        loader(split, drop_last=True),
        torch.utils.data.DataLoader(held, batch_sampler=batches),
        torch.utils.data.DataLoader(Stream(), batch_size=5, drop_last=True),
    ):
        with pytest.raises(ValueError, match="drop_last=False"):
            data.as_split(dropping)
    assert len(data.as_split(loader(split, batch_size=4, drop_last=True))) == 12


def test_weight_normalisation_in_its_old_form_is_trained():
    def make():
        with pytest.warns(FutureWarning):
            return nn.Sequential(nn.utils.weight_norm(nn.Linear(5, 4)), nn.Tanh(), nn.Linear(4, 3)).double()

    run = training.train_ensemble(make, [sample(20), sample(20, seed=1)], epochs=2, batch_size=5, lr=0.1, seed=0)
    assert run.losses[-1].mean() < run.losses[0].mean()


# --- Optimisers -------------------------------------------------------------------------------------------------------


def test_sam_takes_its_base_by_name_and_a_radius_a_group():
    def made(build):
        torch.manual_seed(0)
        model = nn.Linear(2, 1)
        optimizer = build(model)

        def closure():
            loss = model(torch.tensor([[1.0, 2.0]])).square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        return models.weights(model)

    expected = made(lambda m: SAM(torch.optim.SGD(m.parameters(), lr=0.1), rho=0.3))
    for build in (
        lambda m: SAM(m.parameters(), base_optimizer=torch.optim.SGD, rho=0.3, lr=0.1),
        lambda m: SAM(m.parameters(), torch.optim.SGD, rho=0.3, lr=0.1),
        lambda m: SAM(base_optimizer=torch.optim.SGD(m.parameters(), lr=0.1), rho=0.3),
        lambda m: SAM([{"params": list(m.parameters()), "rho": 0.3}], torch.optim.SGD, lr=0.1),
    ):
        assert torch.equal(made(build), expected)
    assert not torch.equal(made(lambda m: SAM(m.parameters(), torch.optim.SGD, lr=0.1)), expected)
    with pytest.raises(ValueError, match="SAM goes around an optimiser"):
        SAM(nn.Linear(2, 1).parameters(), lr=0.1)


@pytest.mark.parametrize(("slope", "dtype"), [(1e-25, torch.float32), (1e25, torch.float32), (6e3, torch.float16)])
def test_sam_moves_by_its_radius_however_large_the_gradient(slope, dtype):
    p = nn.Parameter(torch.zeros(300, dtype=dtype))
    seen = []

    def closure():
        seen.append(p.detach().clone())
        p.grad = torch.full_like(p, slope)
        return 0.0

    SAM(torch.optim.SGD([p], lr=0.0), rho=1.0).step(closure)
    assert len(seen) == 2
    assert (seen[1] - seen[0]).float().norm().item() == pytest.approx(1.0, rel=1e-2)


def test_another_network_may_run_between_the_halves_of_a_step():
    model, other = nn.Linear(2, 1), nn.BatchNorm1d(2)
    optimizer = SAM(model.parameters(), torch.optim.SGD, lr=0.1)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.first_step(zero_grad=True)
    other(torch.randn(4, 2))
    with pytest.raises(ValueError, match="call second_step"):
        deepcopy(optimizer)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.second_step()
    assert other.num_batches_tracked.item() == 1
