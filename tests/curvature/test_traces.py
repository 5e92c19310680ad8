import dataclasses

import numpy as np
import pytest
import torch
from instances import CLIPPED, images, network, residual_network, sample
from torch import nn

from helpers import curvature, data, models
from helpers.curvature import traces
from helpers.losses import ClippedCrossEntropy, HalfSquaredError, ZeroOneError

RELU = network(width=6), sample()
TANH = network(nn.Tanh, width=6), sample()
RESIDUAL = residual_network(), images(30)


def test_exact_is_the_trace_of_the_dense_hessian():
    model, split = TANH
    estimate = curvature.trace(model, CLIPPED, split)
    assert estimate.method == "exact"
    assert estimate.standard_error == 0
    assert estimate.value == pytest.approx(torch.trace(curvature.hessian(model, CLIPPED, split)).item(), rel=1e-12)


@pytest.mark.parametrize("model_and_split", [RELU, RESIDUAL], ids=["relu", "residual"])
@pytest.mark.parametrize("loss", [CLIPPED, ClippedCrossEntropy(1.2)], ids=["open", "clipping"])
def test_piecewise_affine_networks_have_the_gauss_newton_trace(model_and_split, loss):
    """Tr H = Tr GGN: the identity that spares the Hessian products."""
    model, split = model_and_split
    diagonal = 0.0
    w = models.weights(model)
    if len(w) <= 200:
        diagonal = torch.trace(curvature.hessian(model, loss, split)).item()
        expected = torch.trace(curvature.gauss_newton(model, loss, split)).item()
        assert diagonal == pytest.approx(expected, rel=1e-10)
    affine, reason = curvature.is_piecewise_affine(model, split)
    assert affine, reason


@pytest.mark.parametrize("method", ["gauss-newton", "hutchinson"])
def test_estimates_are_unbiased_and_their_standard_error_is_right(method, monkeypatch):
    monkeypatch.setattr(traces, "TRACE_BATCH", 10)
    model, split = RELU
    exact = curvature.trace(model, CLIPPED, split, method="exact").value
    estimates = [
        curvature.trace(model, CLIPPED, split, method=method, tolerance=lambda t: np.inf, seed=s) for s in range(200)
    ]
    values = np.array([estimate.value for estimate in estimates])
    spread = values.std(ddof=1)
    assert abs(values.mean() - exact) < 4 * spread / len(values) ** 0.5
    stated = np.sqrt(np.mean([estimate.standard_error**2 for estimate in estimates]))
    assert stated == pytest.approx(spread, rel=0.2)


def every_sign(monkeypatch, shapes):
    """Make the estimators draw every combination of signs for tensors of these shapes, one after the other."""
    sizes = [int(np.prod(shape)) for shape in shapes]
    patterns = iter(torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * sum(sizes)))
    pieces = (piece.view(shape) for p in patterns for piece, shape in zip(p.split(sizes), shapes, strict=True))
    monkeypatch.setattr(traces, "_signs", lambda shape, like, generator: next(pieces))
    return 2 ** sum(sizes)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
def test_the_mean_over_all_signs_is_the_gauss_newton_trace(activation, monkeypatch):
    """Whether or not the network is piecewise affine; to rounding, not within an error."""
    model, split = network(activation), sample(3)
    patterns = every_sign(monkeypatch, [(3, 3)])
    mean = sum(
        traces._sketches(model, CLIPPED, [(1.0, split)], None, 2).sum((1, 2)).mean().item()
        for _ in range(patterns // 2)
    )
    expected = curvature.gauss_newton(model, CLIPPED, split).trace().item()
    assert mean / (patterns // 2) == pytest.approx(expected, rel=1e-10)


def test_the_mean_over_all_signs_is_the_hessian_trace(monkeypatch):
    model, split = network(nn.Tanh, inputs=2, width=1), sample(40, inputs=2)
    d = len(models.weights(model))
    monkeypatch.setattr(traces, "TRACE_BATCH", 40)
    patterns = every_sign(monkeypatch, [(d,)])
    terms = [(1.0, split), (-0.5, sample(9, inputs=2, seed=1))]
    mean = sum(traces._hutchinson(model, CLIPPED, terms, None).sum().item() for _ in range(patterns))
    expected = sum(f * curvature.hessian(model, CLIPPED, s).trace().item() for f, s in terms)
    assert mean / patterns == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("method", ["gauss-newton", "hutchinson"])
def test_differences_are_unbiased_and_their_standard_error_is_right(method, monkeypatch):
    monkeypatch.setattr(traces, "TRACE_BATCH", 10)
    model, (left, right) = RELU[0], (sample(23), sample(17, seed=1))
    exact = curvature.trace_difference(model, CLIPPED, left, right)
    assert exact.method == "exact"
    each = [curvature.trace(model, CLIPPED, split).value for split in (left, right)]
    assert exact.value == pytest.approx(each[0] - each[1], rel=1e-12)
    found = [
        curvature.trace_difference(model, CLIPPED, left, right, method=method, tolerance=lambda t: np.inf, seed=s)
        for s in range(200)
    ]
    values = np.array([estimate.value for estimate in found])
    spread = values.std(ddof=1)
    assert abs(values.mean() - exact.value) < 4 * spread / len(values) ** 0.5
    assert np.sqrt(np.mean([e.standard_error**2 for e in found])) == pytest.approx(spread, rel=0.2)


def test_what_two_hessians_share_leaves_no_noise_in_hutchinsons_difference():
    model, split = TANH
    nothing = curvature.trace_difference(model, CLIPPED, split, split, method="hutchinson")
    assert (nothing.value, nothing.standard_error, nothing.probes) == (0, 0, traces.BELIEVED_ZERO)
    part = split.take(torch.arange(20))
    arguments = {"method": "hutchinson", "rtol": 1e-9, "most_probes": 60}
    separate = [curvature.trace(model, CLIPPED, s, seed=i, **arguments) for i, s in enumerate((split, part))]
    together = curvature.trace_difference(model, CLIPPED, split, part, **arguments)
    assert together.standard_error < 0.3 * np.hypot(*(estimate.standard_error for estimate in separate))


def test_a_difference_is_known_to_five_per_cent_unless_asked_otherwise():
    model, split = RELU
    many = split.take(torch.arange(len(split)).repeat(20))
    large = dataclasses.replace(many, inputs=many.inputs * 1.8)
    found = curvature.trace_difference(model, CLIPPED, many, large, method="gauss-newton")
    assert 0 < found.probes < traces.MOST_SAMPLES
    assert 0 < found.standard_error <= 0.05 * abs(found.value)
    once = curvature.trace_difference(model, CLIPPED, many, large, method="gauss-newton", rtol=1.0)
    assert once.probes < found.probes


@pytest.mark.parametrize("batches", [1, 3, 40])
def test_stopping_on_the_error_neither_biases_the_value_nor_flatters_the_error(batches):
    """Squares of normals, as the estimators' samples are: skewed, small values beside small spreads."""
    generator = torch.Generator().manual_seed(0)

    def sweep():
        samples = torch.randn(4, 2, batches, dtype=torch.float64, generator=generator).square().mean(0) / batches
        return samples[:, :, None]

    tolerance = 0.2 if batches < 40 else 0.1
    drawn = [traces._sample(sweep, lambda t: tolerance * abs(t), 300)[0] for _ in range(1500)]
    found = np.array([traces._summary(samples.sum(2)) for samples in drawn])
    spread = found[:, 0].std(ddof=1)
    assert abs(found[:, 0].mean() - 1) < 4 * spread / len(found) ** 0.5 + 0.1 * spread
    assert np.sqrt(np.mean(found[:, 1] ** 2)) == pytest.approx(spread, rel=0.2)
    assert spread < 1.1 * tolerance


def test_the_cap_is_kept_and_the_error_reached_is_reported():
    model, split = RELU
    estimate = curvature.trace(model, CLIPPED, split, method="hutchinson", rtol=1e-9, most_probes=6)
    assert estimate.probes == 6
    assert estimate.standard_error > 0.01 * abs(estimate.value)


@pytest.mark.parametrize("loss", [CLIPPED, ClippedCrossEntropy(1.2)], ids=["open", "clipping"])
def test_many_samples_give_way_to_the_sum_over_examples_and_classes(loss):
    model, (left, right) = RELU[0], (sample(23), sample(17, seed=1))
    summed = curvature.trace(model, loss, left, method="gauss-newton", rtol=1e-3)
    assert summed.standard_error == 0
    exact = curvature.trace(model, loss, left, method="exact").value
    assert summed.value == pytest.approx(exact, rel=1e-10)
    difference = curvature.trace_difference(model, loss, left, right, method="gauss-newton", rtol=1e-3)
    other = curvature.trace(model, loss, right, method="exact").value
    assert difference.value == pytest.approx(exact - other, rel=1e-9)


def test_the_sum_is_not_called_where_fewer_samples_are_allowed_than_it_is_worth():
    model, split = RELU
    estimate = curvature.trace(model, CLIPPED, split, method="gauss-newton", rtol=1e-3, most_probes=2)
    assert estimate.probes == 2
    assert estimate.standard_error > 0


@pytest.mark.parametrize("method", ["gauss-newton", "hutchinson"])
def test_the_error_of_one_sample_is_charged_from_above(method, monkeypatch):
    """It holds the spread of the noise, and that of the examples on top: at least the true error, on average."""
    monkeypatch.setattr(traces, "TRACE_BATCH", 10)
    model, split = RELU
    exact = curvature.trace(model, CLIPPED, split, method="exact").value
    singles = [curvature.trace(model, CLIPPED, split, method=method, most_probes=1, seed=s) for s in range(300)]
    assert {single.probes for single in singles} == {1}
    errors = np.array([single.value - exact for single in singles])
    assert abs(errors.mean()) < 4 * errors.std() / 300**0.5
    stated = np.mean([single.standard_error**2 for single in singles])
    assert stated > 0.9 * np.mean(errors**2)


def test_the_error_of_one_sample_is_that_of_its_parts():
    value, error, freedom = traces._summary(torch.tensor([[1.0, 2.0, 6.0]]))
    assert (value, freedom) == (9.0, 2)
    assert error == pytest.approx((3 * 7.0) ** 0.5)


def test_a_sample_of_one_part_is_taken_twice():
    """One number has no spread: where all examples fit one batch, the least that has an error is two samples."""
    model, split = RELU
    estimate = curvature.trace(model, CLIPPED, split, method="hutchinson", most_probes=1)
    assert estimate.probes == 2
    assert estimate.standard_error > 0


def test_a_sample_is_the_least():
    model, split = RELU
    with pytest.raises(ValueError, match="most_probes must be a whole number of at least 1"):
        curvature.trace(model, CLIPPED, split, most_probes=0)


def test_squared_loss_has_its_own_sketch():
    net = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 1)).double().eval()
    split = sample()
    split = data.Split(split.inputs, split.inputs[:, 0], 0, "regression")
    exact = curvature.trace(net, HalfSquaredError(), split, method="exact").value
    estimate = curvature.trace(net, HalfSquaredError(), split, method="gauss-newton", rtol=0.05)
    assert abs(estimate.value - exact) <= 4 * estimate.standard_error + 1e-10 * exact
    assert estimate.standard_error <= 0.05 * estimate.value


def test_tighter_tolerance_costs_more_and_holds():
    model, split = RELU
    loose, tight = (curvature.trace(model, CLIPPED, split, method="hutchinson", rtol=r) for r in (0.5, 0.1))
    assert tight.probes > loose.probes
    assert tight.standard_error <= 0.1 * abs(tight.value)


def test_same_seed_same_value():
    model, split = RESIDUAL
    first, again, other = (
        curvature.trace(model, CLIPPED, split, method="gauss-newton", tolerance=lambda t: np.inf, seed=s).value
        for s in (1, 1, 2)
    )
    assert first == again != other


@pytest.mark.parametrize("activation", [nn.Tanh, nn.GELU, nn.Softplus])
def test_smooth_activations_are_found_out(activation):
    affine, reason = curvature.is_piecewise_affine(network(activation), sample())
    assert not affine
    assert "not affine in '1.weight'" in reason


def test_a_smooth_activation_late_in_the_network_is_found_out():
    torch.manual_seed(0)
    layers = [nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3)]
    assert not curvature.is_piecewise_affine(nn.Sequential(*layers).double().eval(), sample())[0]


class Tied(nn.Module):
    """One weight matrix used twice: quadratic in it, although every activation is a ReLU."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 5)

    def forward(self, x):
        return self.layer(torch.relu(self.layer(x)))[:, :3]


def test_shared_weights_are_found_out():
    torch.manual_seed(0)
    assert not curvature.is_piecewise_affine(Tied().double().eval(), sample())[0]


def test_auto_says_why_it_chose(monkeypatch):
    wide_relu, wide_tanh = network(width=100), network(nn.Tanh, width=100)
    split = sample()
    assert curvature.trace(wide_relu, CLIPPED, split).method == "gauss-newton"
    fallback = curvature.trace(wide_tanh, CLIPPED, split)
    assert fallback.method == "hutchinson"
    assert "not affine" in fallback.reason
    assert curvature.trace(network(), CLIPPED, split).reason == "d = 39 is small"


def test_a_fully_clipped_sample_has_zero_trace():
    model, split = network(width=100, scale=50.0), sample()
    wrong = data.Split(split.inputs, model(split.inputs).argmin(1), 3, "wrong")
    estimate = curvature.trace(model, ClippedCrossEntropy(0.5), wrong, method="gauss-newton")
    assert (estimate.value, estimate.standard_error) == (0, 0)


@pytest.mark.parametrize("lost", [slice(None), slice(1)], ids=["every weight", "one weight of many"])
def test_a_diverged_model_is_refused(lost):
    model, split = network(width=100), sample()
    with torch.no_grad():
        next(model.parameters()).view(-1)[lost] = float("nan")
    with pytest.raises(ValueError, match="weights are not finite"):
        curvature.trace(model, CLIPPED, split, method="hutchinson")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "lanczos"}, "no trace method 'lanczos'"),
        ({"rtol": 0}, "rtol must be a finite number above zero"),
        ({"method": "gauss-newton", "loss": ZeroOneError()}, "use method='hutchinson'"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    loss = arguments.pop("loss", CLIPPED)
    with pytest.raises(ValueError, match=message):
        curvature.trace(*RELU[:1], loss, RELU[1], **arguments)


# --- Layer by layer ---------------------------------------------------------------------------------------------------


def blocks_of_hessian(model, split, matrix=curvature.hessian):
    diagonal = matrix(model, CLIPPED, split).diagonal()
    sizes = [sum(p.numel() for p in members) for members in models.layers(model).values()]
    return [part.sum().item() for part in diagonal.split(sizes)]


@pytest.mark.parametrize(("method", "activation"), [("exact", nn.Tanh), ("gauss-newton", nn.ReLU)])
def test_traces_by_layer_are_the_blocks_of_the_dense_hessian_and_add_up(method, activation):
    model, split = network(activation), sample(17)
    found = curvature.trace_by_layer(model, CLIPPED, split, method=method, rtol=1e-12)
    assert list(found) == ["1", "3"]
    assert [e.value for e in found.values()] == pytest.approx(blocks_of_hessian(model, split), rel=1e-9)
    assert {e.standard_error for e in found.values()} == {0.0}
    total = curvature.trace(model, CLIPPED, split, method=method, rtol=1e-12).value
    assert sum(e.value for e in found.values()) == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("method", ["gauss-newton", "hutchinson"])
def test_sampled_traces_by_layer_add_up_and_have_right_errors(method, monkeypatch):
    monkeypatch.setattr(traces, "TRACE_BATCH", 10)
    model, split = network(), sample(30)
    exact = blocks_of_hessian(model, split)
    runs = []
    for seed in range(150):
        arguments = {"method": method, "rtol": 10.0, "seed": seed}
        found = list(curvature.trace_by_layer(model, CLIPPED, split, **arguments).values())
        runs.append([(e.value, e.standard_error) for e in found])
        whole = curvature.trace(model, CLIPPED, split, **arguments)
        assert sum(e.value for e in found) == pytest.approx(whole.value, rel=1e-10)
        assert {e.probes for e in found} == {whole.probes}
    values, errors = np.moveaxis(np.array(runs), 2, 0)
    spread = values.std(0, ddof=1)
    assert (np.abs(values.mean(0) - exact) < 4 * spread / len(runs) ** 0.5).all()
    np.testing.assert_allclose((errors**2).mean(0) ** 0.5, spread, rtol=0.25)


def test_layers_of_tied_frozen_and_bare_weights():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)).double().eval()
    model[1].weight = model[0].weight
    model[2].weight.requires_grad_(False)
    assert {name: len(members) for name, members in models.layers(model).items()} == {"0": 2, "1": 1, "2": 1}
    assert [p for members in models.layers(model).values() for p in members] == models.trainable(model)
    assert list(models.layers(nn.Linear(2, 1))) == ["(model)"]
    split = data.Split(
        torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).double(), torch.arange(5) % 3, 3, ""
    )
    found = curvature.trace_by_layer(model, CLIPPED, split, method="gauss-newton", rtol=1e-12)
    expected = blocks_of_hessian(model, split, curvature.gauss_newton)
    assert [e.value for e in found.values()] == pytest.approx(expected, rel=1e-9)


def test_a_tolerance_beyond_reach_is_the_most_probes():
    model, split = network(nn.Tanh), sample(20)
    assert curvature.trace(model, CLIPPED, split, method="hutchinson", rtol=1e-300, most_probes=5).probes == 5


class Frames(nn.Module):
    """A layer that sees the frames of all examples as rows, and a table of positions that sees no example at all."""

    def __init__(self):
        super().__init__()
        self.place, self.each, self.top = nn.Embedding(4, 3), nn.Linear(3, 5), nn.Linear(5, 3)

    def forward(self, x):
        rows = (x + self.place(torch.arange(4))).flatten(0, 1)
        return self.top(torch.relu(self.each(rows)).view(len(x), 4, 5).mean(1))


def test_layers_that_do_not_see_one_row_an_example_are_measured_one_by_one():
    torch.manual_seed(0)
    model = Frames().double().eval()
    split = data.Split(torch.randn(6, 4, 3).double(), torch.arange(6) % 3, 3, "frames")
    diagonal = curvature.hessian(model, CLIPPED, split).diagonal()
    by_layer = curvature.trace_by_layer(model, CLIPPED, split, method="gauss-newton", rtol=1e-9)
    pieces = models.split_like(model, diagonal)
    names = [name.rsplit(".", 1)[0] for name, _ in model.named_parameters()]
    for name, estimate in by_layer.items():
        expected = sum(piece.sum().item() for piece, owner in zip(pieces, names, strict=True) if owner == name)
        assert estimate.value == pytest.approx(expected, rel=1e-9)
