"""Calls that were not meant: vectors, losses, models and samples of odd kinds give the right value or one sentence."""

import threading
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from instances import CLIPPED, network, sample
from torch import nn

from helpers import curvature, data, models
from helpers.losses import ClippedCrossEntropy, HalfSquaredError

V = torch.ones(39).double()


class Made(nn.Module):
    """One linear layer, and what becomes of its outputs."""

    def __init__(self, forward, inputs=5):
        super().__init__()
        self.layer, self._forward = nn.Linear(inputs, 3), forward

    def forward(self, x):
        return self._forward(self, x)


def made(forward, **settings):
    torch.manual_seed(0)
    return Made(forward, **settings).double().eval()


# --- Vectors ----------------------------------------------------------------------------------------------------------

VECTORS = {
    "expanded": lambda: torch.ones(1).double().expand(39),
    "every other": lambda: torch.ones(78).double()[::2],
    "float32": lambda: torch.ones(39),
    "with a graph": lambda: torch.ones(39, dtype=torch.float64, requires_grad=True) * 1,
    "a parameter": lambda: nn.Parameter(torch.ones(39).double()),
}


@pytest.mark.parametrize("kind", VECTORS)
def test_vectors_of_any_layout(kind):
    model, split = network(nn.Tanh), sample()
    found = curvature.hvp(model, CLIPPED, split, VECTORS[kind]())
    torch.testing.assert_close(found, curvature.hvp(model, CLIPPED, split, V))
    assert not found.requires_grad


def test_a_vector_made_under_inference_mode():
    with torch.inference_mode():
        v = torch.ones(39).double()
    model, split = network(nn.Tanh), sample()
    assert torch.equal(curvature.hvp(model, CLIPPED, split, v), curvature.hvp(model, CLIPPED, split, V))


def test_blocks_of_no_column_and_transposed_blocks():
    model, split = network(nn.Tanh), sample()
    assert curvature.hvp(model, CLIPPED, split, torch.ones(39, 0).double()).shape == (39, 0)
    block = torch.stack([V, 2 * V]).T
    torch.testing.assert_close(
        curvature.hvp(model, CLIPPED, split, block), curvature.hessian(model, CLIPPED, split) @ block
    )


@pytest.mark.parametrize("operator", ["hessian_operator", "gauss_newton_operator"])
@pytest.mark.parametrize(
    ("v", "message"),
    [
        (V.long(), "a real floating tensor"),
        (V.bool(), "a real floating tensor"),
        (V.to(torch.complex128), "a real floating tensor"),
        (V.numpy(), "got a ndarray"),
        (V.tolist(), "got a list"),
        (V[:5], r"shape \(5,\)"),
        (V[0], r"shape \(\)"),
        (V.view(39, 1, 1), r"shape \(39, 1, 1\)"),
        (V * torch.nan, "not finite"),
    ],
)
def test_vectors_that_are_none_are_refused(operator, v, message):
    with pytest.raises(ValueError, match=message):
        getattr(curvature, operator)(network(nn.Tanh), CLIPPED, sample())(v)


# --- Losses -----------------------------------------------------------------------------------------------------------


def entropy(z, y):
    return F.cross_entropy(z, y, reduction="none")


LOSSES = {
    "a column": (
        lambda z, y: entropy(z, y)[:, None],
        r"one value an example, shape \(2,\), but returned shape \(2, 1\)",
    ),
    "a number": (lambda z, y: 1.0, "returned a float"),
    "an array": (lambda z, y: entropy(z, y).detach().numpy(), "returned a ndarray"),
    "nothing": (lambda z, y: None, "returned a NoneType"),
    "a list": (lambda z, y: list(entropy(z, y)), "returned a list"),
    "whole numbers": (lambda z, y: z.argmax(1), "real floating numbers, but returned torch.int64"),
    "truth values": (lambda z, y: z.argmax(1) != y, "real floating numbers, but returned torch.bool"),
    "complex": (
        lambda z, y: entropy(z, y).to(torch.complex128),
        "real floating numbers, but returned torch.complex128",
    ),
    "a name": ("cross-entropy", "must be a function of outputs and targets, got 'cross-entropy'"),
    "a class": (ClippedCrossEntropy, "got the class ClippedCrossEntropy; make an instance"),
    "none": (None, "must be a function of outputs and targets, got None"),
    "changes outputs": (lambda z, y: entropy(z.mul_(2), y), "changes outputs or targets in place"),
    "changes targets": (lambda z, y: entropy(z, y.add_(1).remainder_(3)), "changes outputs or targets in place"),
}


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("function", ["values", "gradient", "trace"])
def test_losses_that_are_none_are_refused(kind, function):
    loss, message = LOSSES[kind]
    split = sample()
    before = split.inputs.clone(), split.targets.clone()
    with pytest.raises(ValueError, match=message):
        getattr(curvature, function)(network(), loss, split)
    assert torch.equal(split.inputs, before[0])
    assert torch.equal(split.targets, before[1])


def test_a_loss_in_float32_of_a_float64_model():
    found = curvature.gradient(network(), lambda z, y: entropy(z, y).float(), sample())
    torch.testing.assert_close(found, curvature.gradient(network(), CLIPPED, sample()), rtol=1e-6, atol=1e-7)


# --- Targets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32, torch.uint16])
def test_class_indices_of_any_whole_type(dtype):
    split = sample()
    held = data.Split(split.inputs, split.targets.to(dtype), 3, "narrow")
    assert torch.equal(curvature.gradient(network(), CLIPPED, held), curvature.gradient(network(), CLIPPED, split))


def test_truth_values_are_two_classes_and_one_hot_rows_are_probabilities():
    split = sample(classes=2)
    plain = curvature.values(network(classes=2), CLIPPED, split)
    assert torch.equal(curvature.values(network(classes=2), CLIPPED, (split.inputs, split.targets == 1)), plain)
    hot = F.one_hot(split.targets, 2)
    torch.testing.assert_close(curvature.values(network(classes=2), CLIPPED, (split.inputs, hot.float())), plain)
    with pytest.raises(ValueError, match="class indices of shape"):
        curvature.values(network(classes=2), CLIPPED, data.Split(split.inputs, hot, 2, "one-hot"))
    for targets in (split.targets[:, None], split.targets.float()):
        with pytest.raises(ValueError, match="class indices"):
            curvature.values(network(classes=2), CLIPPED, data.Split(split.inputs, targets, 2, "odd"))


# --- Inputs -----------------------------------------------------------------------------------------------------------


INPUTS = {
    "transposed": lambda x: x.T.contiguous().T,
    "a window": lambda x: torch.cat([x, x], 1)[:, :5],
    "with a gradient": lambda x: x.clone().requires_grad_(),
    "with a graph": lambda x: x.clone().requires_grad_() * 1,
    "a parameter": lambda x: nn.Parameter(x),
}


@pytest.mark.parametrize("kind", INPUTS)
def test_inputs_of_any_layout(kind):
    split, model = sample(), network(nn.Tanh)
    held = data.Split(INPUTS[kind](split.inputs), split.targets, 3, kind)
    torch.testing.assert_close(curvature.hvp(model, CLIPPED, held, V), curvature.hvp(model, CLIPPED, split, V))
    assert held.inputs.is_leaf is False or held.inputs.grad is None


def test_one_example_many_times():
    """Rows of stride zero."""
    split, model = sample(), network(nn.Tanh)
    held = data.Split(split.inputs[:1].expand(23, 5), split.targets[:1].expand(23), 3, "expanded")
    torch.testing.assert_close(
        curvature.hessian(model, CLIPPED, held), curvature.hessian(model, CLIPPED, split.take(slice(1)))
    )


def test_inputs_made_under_inference_mode():
    with torch.inference_mode():
        held = sample()
    model, split = network(nn.Tanh), sample()
    for function in (curvature.values, curvature.gradient, curvature.hessian, curvature.gauss_newton):
        assert torch.equal(function(model, CLIPPED, held), function(model, CLIPPED, split))
    assert torch.equal(curvature.hvp(model, CLIPPED, held, V), curvature.hvp(model, CLIPPED, split, V))


def test_complex_and_conjugate_inputs_of_a_real_model():
    model, split = made(lambda m, x: m.layer(x.real) + m.layer(x.imag)), sample()
    for make in (lambda z: z, torch.conj):
        held = data.Split(make(torch.complex(split.inputs, 2 * split.inputs)), split.targets, 3, "complex")
        sign = 1 if make is not torch.conj else -1
        twin = made(lambda m, x, sign=sign: m.layer(x) + m.layer(sign * 2 * x))
        torch.testing.assert_close(curvature.hessian(model, CLIPPED, held), curvature.hessian(twin, CLIPPED, split))


def test_examples_without_features():
    """Only the bias is left: H = diag(p) - p p^T."""
    model = nn.Linear(0, 3).double().eval()
    split = data.Split(torch.zeros(4, 0).double(), torch.arange(4) % 3, 3, "empty")
    p = model.bias.detach().softmax(0)
    torch.testing.assert_close(curvature.hessian(model, CLIPPED, split), p.diag() - torch.outer(p, p))
    assert curvature.trace(model, CLIPPED, split, method="gauss-newton").value == pytest.approx(
        (p - p * p).sum().item()
    )


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (torch.randn(23, 7).double(), r"torch.float64 \(4, 7\).*mat1 and mat2"),
        (torch.randint(9, (23, 5)), r"torch.int64 \(4, 5\)"),
        (torch.randint(255, (23, 5), dtype=torch.uint8), r"torch.uint8 \(4, 5\)"),
        ((torch.zeros(23, 5).double(),) * 2, "the model does not take these inputs"),
        ({"x": torch.zeros(23, 5).double()}, "the model does not take these inputs"),
    ],
)
def test_inputs_that_the_model_does_not_take_are_named(inputs, message):
    with pytest.raises(ValueError, match=message):
        curvature.gradient(network(), CLIPPED, data.Split(inputs, sample().targets, 3, "odd"))


def test_a_word_beyond_the_table_is_named():
    model = nn.Sequential(nn.Embedding(4, 3), nn.Flatten(), nn.Linear(6, 3)).eval()
    with pytest.raises(ValueError, match=r"does not take these inputs.*index out of range"):
        curvature.gradient(model, CLIPPED, data.Split(torch.full((3, 2), 9), torch.arange(3), 3, "words"))


# --- Models -----------------------------------------------------------------------------------------------------------

MODELS = {
    "a tuple": (lambda: made(lambda m, x: (m.layer(x), 1)), "returns a tuple; wrap it"),
    "a dictionary": (lambda: made(lambda m, x: {"logits": m.layer(x)}), "returns a dict; wrap it"),
    "complex": (lambda: made(lambda m, x: torch.complex(m.layer(x), m.layer(x))), "must return real floating numbers"),
    "classes": (lambda: made(lambda m, x: m.layer(x).argmax(1)), "logits instead of classes"),
    "nothing": (lambda: made(lambda m, x: m.layer(x)[:, :0]), r"but returns torch.float64 of shape \(4, 0\)"),
    "one row": (lambda: made(lambda m, x: m.layer(x).mean(0)), "a row for each of the 4 examples"),
    "all in a row": (lambda: made(lambda m, x: m.layer(x).flatten()), "a row for each of the 4 examples"),
    "changes inputs": (lambda: made(lambda m, x: m.layer(x.add_(1))), "changes its inputs in place"),
    "counts": (lambda: counting(True), "or remembers what it has seen"),
    "frozen": (lambda: made(lambda m, x: m.layer(x)).requires_grad_(False), "no trainable parameters"),
    "a function": (lambda: torch.sin, "model must be a torch.nn.Module, got a"),
    "a class": (lambda: nn.Linear, "model must be a torch.nn.Module, got a type"),
    "of width zero": (lambda: nn.Linear(5, 0).eval(), "have no entries"),
    "under inference mode": (lambda: inferred(), "made under torch.inference_mode"),
    "training": (lambda: network().train(), r"call model\.eval\(\) first"),
    "a part in training": (lambda: partly_training(), r"call model\.eval\(\) first"),
}


class Counting(nn.Module):
    """Counts its calls, in place and anew."""

    def __init__(self, told):
        super().__init__()
        self.layer, self.told = nn.Linear(5, 3), told
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("again", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        self.again = self.again + 1
        return self.layer(x) * (self.calls if self.told else 1)


def counting(told):
    torch.manual_seed(0)
    return Counting(told).double().eval()


def inferred():
    with torch.inference_mode():
        return network()


def partly_training():
    model = network()
    model[2].train()
    return model


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("function", ["values", "gradient", "hessian"])
def test_models_that_cannot_be_measured_are_refused(kind, function):
    make, message = MODELS[kind]
    split = sample()
    before = split.inputs.clone()
    with pytest.raises(ValueError, match=message):
        getattr(curvature, function)(make(), CLIPPED, split)
    assert torch.equal(split.inputs, before)


def test_a_copy_of_a_model_made_under_inference_mode_is_measured():
    found = curvature.hessian(deepcopy(inferred()), CLIPPED, sample())
    assert torch.equal(found, curvature.hessian(network(), CLIPPED, sample()))


def test_buffers_that_forward_changes_are_put_back():
    model, split = counting(False), sample()
    first = model.again
    for function in (curvature.values, curvature.gradient, curvature.hessian, curvature.trace):
        function(model, CLIPPED, split)
    curvature.hvp(model, CLIPPED, split, torch.ones(18).double())
    curvature.extreme_eigenvalues(model, CLIPPED, split)
    assert model.calls == model.again == 0
    assert model.again is first
    with pytest.raises(ValueError, match="not finite"):
        curvature.values(model, lambda z, y: entropy(z, y) * torch.inf, split)
    assert model.calls == 0


def test_outputs_that_no_input_enters():
    """Only the biases: H = diag(p) - p p^T, and H 1 = 0."""
    model, split = made(lambda m, x: m.layer.bias.expand(len(x), 3)), sample()
    model.layer.weight.requires_grad_(False)
    p = model.layer.bias.detach().softmax(0)
    torch.testing.assert_close(curvature.hessian(model, CLIPPED, split), p.diag() - torch.outer(p, p))
    assert curvature.hvp(model, CLIPPED, split, torch.ones(3).double()).norm() < 1e-14


WRAPPED = {
    "scripted": torch.jit.script,
    "compiled": lambda model: torch.compile(model, backend="eager"),
    "in parallel": nn.DataParallel,
    "averaged": torch.optim.swa_utils.AveragedModel,
    "in itself": nn.Sequential,
    "locked": lambda model: setattr(model, "lock", threading.Lock()) or model,
    "holding itself": lambda model: setattr(model, "held", [model]) or model,
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
@pytest.mark.parametrize("kind", WRAPPED)
def test_wrapped_models_are_what_they_wrap(kind):
    plain, split = network(nn.Tanh), sample()
    model = WRAPPED[kind](network(nn.Tanh)).eval()
    torch.testing.assert_close(curvature.gradient(model, CLIPPED, split), curvature.gradient(plain, CLIPPED, split))
    H = curvature.hessian(plain, CLIPPED, split)
    torch.testing.assert_close(curvature.hessian(model, CLIPPED, split), H)
    torch.testing.assert_close(curvature.hvp(model, CLIPPED, split, V), H @ V)
    assert curvature.trace(model, CLIPPED, split).value == pytest.approx(H.trace().item())


INSIDE = {
    "vmap": lambda m, x: torch.vmap(lambda row: torch.tanh(m.layer(row)))(x),
    "a gradient": lambda m, x: forces(m, x),
    "a second copy of the weights": lambda m, x: m.layer(x) @ torch.clone(m.layer.weight)[:, :3],
    "out of place buffers": lambda m, x: torch.zeros(len(x), 3).double().index_add(0, torch.arange(len(x)), m.layer(x)),
    "sorted": lambda m, x: m.layer(x).sort(1).values,
    "largest two": lambda m, x: torch.cat([m.layer(x).topk(2, 1).values, x[:, :1]], 1),
    "scattered": lambda m, x: torch.zeros_like(m.layer(x)).scatter(
        1, torch.tensor([[2, 0, 1]]).expand(len(x), 3), m.layer(x).tanh()
    ),
    "a determinant": lambda m, x: m.layer(x) * torch.linalg.det(m.layer.weight[:, :3]),
    "cumulative": lambda m, x: m.layer(x).cumsum(1).tanh(),
    "by einsum": lambda m, x: torch.einsum("ni,oi,oj->nj", x, m.layer.weight, m.layer.weight)[:, :3],
}


def forces(model, x):
    """Minus the gradient of an energy, in its inputs."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(torch.tanh(model.layer(x)).square().sum(), x, create_graph=True)
    return slope[:, :3]


@pytest.mark.parametrize("kind", INSIDE)
def test_what_a_forward_pass_may_do(kind):
    model, split = made(INSIDE[kind]), sample()
    w, H = models.weights(model), curvature.hessian(model, CLIPPED, split)
    v = torch.randn(18, generator=torch.Generator().manual_seed(1)).double()
    torch.testing.assert_close(curvature.hvp(model, CLIPPED, split, v), H @ v)
    sides = []
    for sign in (1, -1):
        with models.at(model, w + sign * 1e-5 * v):
            sides.append(curvature.gradient(model, CLIPPED, split))
    torch.testing.assert_close((sides[0] - sides[1]) / 2e-5, H @ v, rtol=1e-5, atol=1e-7)


# --- Surroundings -----------------------------------------------------------------------------------------------------


def test_surroundings_do_not_change_the_value():
    model, split = network(nn.Tanh), sample()
    expected = curvature.hvp(model, CLIPPED, split, V)
    with torch.autograd.graph.save_on_cpu():
        assert torch.equal(curvature.hvp(model, CLIPPED, split, V), expected)
    with pytest.warns(UserWarning, match="Anomaly"), torch.autograd.detect_anomaly():
        assert torch.equal(curvature.hvp(model, CLIPPED, split, V), expected)
    torch.set_default_dtype(torch.float64)
    try:
        assert curvature.trace(network().float(), CLIPPED, split).value > 0
        torch.testing.assert_close(curvature.hvp(model, CLIPPED, split, V), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_transforms_of_functions_are_refused_around_it():
    model, split = network(nn.Tanh), sample()
    for call in (
        lambda: torch.func.grad(lambda s: (s * curvature.values(model, CLIPPED, split)).sum())(torch.tensor(1.0)),
        lambda: torch.vmap(lambda v: curvature.hvp(model, CLIPPED, split, v))(torch.ones(2, 39).double()),
    ):
        with pytest.raises(ValueError, match=r"cannot be computed inside torch\.func"):
            call()


def test_regression_targets_of_any_floating_type():
    model, split = nn.Linear(5, 1).double().eval(), sample()
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.int64):
        y = torch.arange(23).to(dtype)
        found = curvature.values(model, HalfSquaredError(), data.Split(split.inputs, y, 0, "regression"))
        plain = 0.5 * (model(split.inputs).flatten() - torch.arange(23).double()).square()
        torch.testing.assert_close(found, plain.detach())
