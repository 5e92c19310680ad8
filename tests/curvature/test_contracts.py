"""Models and losses of other people: the right value, or one sentence that names the argument."""

import subprocess
import sys
import warnings
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from instances import CLIPPED, images, network, sample
from torch import nn
from torch.nn.utils.parametrizations import orthogonal

from helpers import curvature, data, models
from helpers.curvature import contracts, routes
from helpers.langevin.gradients import Gradients
from helpers.losses import ClippedCrossEntropy, HalfSquaredError, PerSequence, ZeroOneError

V = torch.Generator().manual_seed(0)
LINE = data.Split(torch.tensor([[1.0], [2.0], [3.0]]), torch.zeros(3), 0, "line")


def slope():
    model = nn.Linear(1, 1, bias=False).eval()
    nn.init.ones_(model.weight)
    return model


# --- Losses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function", ["values", "gradient", "hessian", "trace", "gauss_newton", "per_example_gradients"]
)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_loss_that_averages_is_refused(function, reduction):
    with pytest.raises(ValueError, match=r"one value an example, shape \(2,\), but returned shape \(\)"):
        getattr(curvature, function)(network(), nn.CrossEntropyLoss(reduction=reduction), sample())


def test_the_mean_over_examples_is_taken_here():
    """X = 1, 2, 3, weight 1, half squares: the Hessian is the mean of x^2."""
    assert curvature.hessian(slope(), HalfSquaredError(), LINE).item() == pytest.approx(14 / 3)
    assert curvature.gradient(slope(), HalfSquaredError(), LINE).item() == pytest.approx(14 / 3)
    unreduced = lambda z, y: (z[:, 0] - y) ** 2  # noqa: E731
    assert curvature.hessian(slope(), unreduced, LINE).item() == pytest.approx(28 / 3)


def test_nothing_around_a_call_turns_gradients_off():
    model, split = network(), sample()
    expected = curvature.hessian(model, CLIPPED, split)
    with torch.no_grad():
        assert torch.equal(curvature.hessian(model, CLIPPED, split), expected)
        assert curvature.trace(model, CLIPPED, split).value == pytest.approx(expected.trace().item())
    with torch.inference_mode():
        assert torch.equal(curvature.hessian(model, CLIPPED, split), expected)


class Detached(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, x):
        with torch.no_grad():
            return self.layer(x)


def test_a_graph_that_is_cut_is_refused():
    with pytest.raises(ValueError, match="the model cuts the graph"):
        curvature.gradient(Detached().double().eval(), CLIPPED, sample())
    with pytest.raises(ValueError, match="the loss cuts the graph"):
        curvature.gradient(network(), lambda z, y: z.detach().sum(1), sample())
    assert not curvature.gradient(network(), ZeroOneError(), sample()).any()


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (torch.full((23,), -100), "targets hold the class -100"),
        (torch.full((23,), 3), "targets hold the class 3"),
        (torch.ones(23, 3), "sum to 1"),
        (torch.ones(23).double(), "sum to 1"),
        (torch.zeros(23, 2, dtype=torch.int64), "class indices of shape"),
    ],
)
def test_targets_that_name_no_class_are_refused(targets, message):
    with pytest.raises(ValueError, match=message):
        curvature.values(network(), CLIPPED, data.Split(sample().inputs, targets, 3, "odd"))


def test_soft_targets_are_cross_entropy_and_their_sketch_its_curvature():
    model, split = network(width=6), sample()
    soft = torch.randn(23, 3, generator=V).double().softmax(1)
    loss, mixed = ClippedCrossEntropy(30.0), data.Split(split.inputs, soft, 3, "soft")
    plain = -(soft * model(split.inputs).log_softmax(1)).sum(1)
    torch.testing.assert_close(curvature.values(model, loss, mixed), plain.detach(), rtol=1e-12, atol=0)
    exact = curvature.hessian(model, loss, mixed).trace().item()
    assert curvature.trace(model, loss, mixed, method="gauss-newton", rtol=1e-9).value == pytest.approx(exact, rel=1e-9)


def test_squared_error_of_several_outputs():
    model, split = network(), sample()
    aims = torch.randn(23, 3, generator=V).double()
    several = data.Split(split.inputs, aims, 0, "several")
    expected = 0.5 * (model(split.inputs) - aims).square().sum(1)
    torch.testing.assert_close(curvature.values(model, HalfSquaredError(), several), expected.detach())
    exact = curvature.hessian(model, HalfSquaredError(), several).trace().item()
    found = curvature.trace(model, HalfSquaredError(), several, method="gauss-newton", rtol=1e-9)
    assert found.value == pytest.approx(exact, rel=1e-9)
    with pytest.raises(ValueError, match="a target for each output"):
        curvature.values(model, HalfSquaredError(), split)


def test_a_loss_per_sequence_is_the_mean_over_positions():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)).double().eval()
    inputs, targets = torch.randn(6, 7, 5).double(), torch.randint(3, (6, 7))
    split, loss = data.Split(inputs, targets, 3, "sequences"), PerSequence(CLIPPED)
    plain = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), reduction="none").view(6, 7).mean(1)
    torch.testing.assert_close(curvature.values(model, loss, split), plain.detach(), rtol=1e-12, atol=0)
    exact = curvature.hessian(model, loss, split).trace().item()
    estimate = curvature.trace(model, loss, split, method="gauss-newton", rtol=1e-9)
    assert estimate.value == pytest.approx(exact, rel=1e-9)
    with pytest.raises(ValueError, match=r"logits of shape \(n, classes\)"):
        curvature.values(model, CLIPPED, split)


# --- Samples ----------------------------------------------------------------------------------------------------------


def test_a_loader_a_dataset_and_arrays_give_what_a_split_gives():
    model, split = network(), sample()
    dataset = torch.utils.data.TensorDataset(split.inputs, split.targets)
    expected = curvature.gradient(model, CLIPPED, split)
    for examples in (dataset, torch.utils.data.DataLoader(dataset, 7), (split.inputs.numpy(), split.targets.numpy())):
        torch.testing.assert_close(curvature.gradient(model, CLIPPED, examples), expected, rtol=1e-12, atol=1e-14)


class Two(nn.Module):
    """Two inputs, by position or by name."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, left, right):
        return self.layer(left + right)


def test_several_inputs_and_dictionaries():
    torch.manual_seed(0)
    model, split = Two().double().eval(), sample()
    half = split.inputs / 2
    expected = curvature.hessian(model.layer, CLIPPED, split)
    for inputs in ((half, half), {"left": half, "right": half}):
        H = curvature.hessian(model, CLIPPED, data.Split(inputs, split.targets, 3, "two"))
        torch.testing.assert_close(H, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_examples_that_are_not_finite_are_refused(bad):
    split = sample()
    inputs = split.inputs.clone()
    inputs[-1, 0] = bad
    with pytest.raises(ValueError, match="split holds inputs that are not finite"):
        curvature.values(network(), CLIPPED, data.Split(inputs, split.targets, 3, "odd"))


# --- Models -----------------------------------------------------------------------------------------------------------


class Idle(nn.Module):
    """Draws a number and does not use it."""

    def __init__(self):
        super().__init__()
        self.inner = slope()

    def forward(self, x):
        torch.rand(1)
        return self.inner(x)


class Mindful(Idle):
    """Draws nothing, and adds the number of times that it was called."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return self.inner(x) + self.calls


@pytest.mark.parametrize("strange", [Idle, Mindful])
def test_to_draw_is_enough_to_be_refused_and_so_is_to_remember(strange):
    with pytest.raises(ValueError, match=r"draws at random in evaluation mode .* or remembers what it has seen"):
        curvature.gradient(strange().eval(), HalfSquaredError(), LINE)


@pytest.mark.parametrize("size", [1e-3, 1e3])
def test_symmetry_is_asked_for_relative_to_the_products(size):
    u, v = torch.randn(2, 30, generator=V.manual_seed(0), dtype=torch.float64)
    A = torch.randn(30, 30, generator=V.manual_seed(1), dtype=torch.float64)
    H, twist = size * (A + A.T), size * (A - A.T)
    for skew, symmetric in ((1e-8, True), (1e-2, False)):
        B = H + skew * twist
        assert routes._symmetric(u, v, B @ u, B @ v, 1e-5) is symmetric


def test_a_model_whose_output_depends_on_the_batch_or_on_chance_is_refused():
    batch = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 3))
    with pytest.raises(ValueError, match="depends on the rest of its batch"):
        curvature.values(batch.double().eval(), CLIPPED, sample())

    class Always(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(5, 3)

        def forward(self, x):
            return F.dropout(self.layer(x), 0.5, training=True)

    with pytest.raises(ValueError, match="draws at random in evaluation mode"):
        curvature.values(Always().double().eval(), CLIPPED, sample())


def test_low_precision_and_lost_weights_are_refused():
    for change in (torch.float16, torch.bfloat16):
        with pytest.raises(ValueError, match=r"call model\.float\(\)"):
            curvature.gradient(network().to(change), CLIPPED, sample())
    mixed = network()
    mixed[1].half()
    with pytest.raises(ValueError, match=r"float16, torch\.float64"):
        curvature.gradient(mixed, CLIPPED, sample())
    with pytest.raises(ValueError, match="one tensor, a row an example"):
        curvature.values(nn.GRU(5, 3).double().eval(), CLIPPED, sample())


def test_weight_normalisation_has_the_right_curvature():
    """g = 2, v = (3, 4), x = (1, 0), target 0, half squares: PyTorch's own rule gives .2896."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = nn.utils.weight_norm(nn.Linear(2, 1, bias=False)).double().eval()
    with torch.no_grad():
        model.weight_g.fill_(2.0)
        model.weight_v.copy_(torch.tensor([[3.0, 4.0]]))
    split = data.Split(torch.tensor([[1.0, 0.0]] * 2).double(), torch.zeros(2).double(), 0, "one")
    assert routes.trusted_product(model, split) is routes.with_plain_operations
    H = curvature.hessian(model, HalfSquaredError(), split)
    assert H.trace().item() == pytest.approx(0.4048, abs=1e-10)
    assert curvature.trace(model, HalfSquaredError(), split).value == pytest.approx(0.4048, abs=1e-10)
    block = curvature.hvp(model, HalfSquaredError(), split, torch.eye(3).double())
    torch.testing.assert_close(block, H, rtol=1e-10, atol=1e-12)


class NoSecond(torch.autograd.Function):
    """The cube, with a derivative and no second one."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, slope):
        return 3 * ctx.saved_tensors[0] ** 2 * slope


class Cubed(nn.Module):
    def __init__(self, cube):
        super().__init__()
        self.layer, self.cube = nn.Linear(5, 3), cube

    def forward(self, x):
        return self.cube(self.layer(x))


def test_an_operation_without_second_derivative_is_differenced_with_a_warning():
    torch.manual_seed(0)
    model = Cubed(NoSecond.apply).double().eval()
    twin = Cubed(lambda x: x**3).double().eval()
    twin.load_state_dict(model.state_dict())
    with pytest.warns(UserWarning, match="differences of gradients"):
        H = curvature.hessian(model, CLIPPED, sample())
    torch.testing.assert_close(H, curvature.hessian(twin, CLIPPED, sample()), rtol=1e-5, atol=1e-6)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attend, self.top = nn.MultiheadAttention(6, 2, batch_first=True), nn.Linear(6, 3)

    def forward(self, x):
        return self.top(self.attend(x, x, x, need_weights=False)[0].mean(1))


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.cells, self.top = kind(6, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x):
        return self.top(self.cells(x)[0][:, -1])


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.top = nn.Embedding(7, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.top(torch.relu(self.table(x).mean(1)))


def frozen():
    model = network(nn.Tanh)
    model[1].requires_grad_(False)
    return model


def body(layer):
    return lambda: nn.Sequential(nn.Linear(5, 6), layer(), nn.Linear(6, 3))


STRANGE = {
    "layer norm": body(lambda: nn.LayerNorm(6)),
    "RMS norm": body(lambda: nn.RMSNorm(6)),
    "group norm": body(lambda: nn.GroupNorm(2, 6)),
    "batch norm": body(lambda: nn.BatchNorm1d(6)),
    "SELU": body(nn.SELU),
    "GELU": body(nn.GELU),
    "SiLU": body(nn.SiLU),
    "Mish": body(nn.Mish),
    "softplus": body(nn.Softplus),
    "GLU": lambda: nn.Sequential(nn.Linear(5, 6), nn.GLU(), nn.Linear(3, 3)),
    "dropout": body(nn.Dropout),
    "leaky ReLU": body(nn.LeakyReLU),
    "PReLU": body(nn.PReLU),
    "in-place ReLU": body(lambda: nn.ReLU(inplace=True)),
    "bilinear": lambda: nn.Sequential(nn.Linear(5, 3), nn.Softmax(1), nn.Linear(3, 3)),
    "frozen": frozen,
    "orthogonal": lambda: nn.Sequential(orthogonal(nn.Linear(5, 3)), nn.Tanh(), nn.Linear(3, 3)),
    "weight norm": lambda: nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(5, 4)), nn.Tanh(), nn.Linear(4, 3)
    ),
}
SEQUENCES = {
    "attention": Attention,
    "GRU": lambda: Recurrent(nn.GRU),
    "LSTM": lambda: Recurrent(nn.LSTM),
    "RNN": lambda: Recurrent(nn.RNN),
    "encoder": lambda: nn.Sequential(
        nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), nn.Flatten(), nn.Linear(18, 3)
    ),
    "convolution": lambda: nn.Sequential(nn.Conv1d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(16, 3)),
}


def differenced(model, split):
    """The Hessian by central differences of the gradient: the slow twin that needs no second derivative."""
    w, columns = models.weights(model), []
    for j in range(len(w)):
        step = torch.zeros_like(w)
        step[j] = 1e-5
        sides = []
        for sign in (1, -1):
            with models.at(model, w + sign * step):
                sides.append(curvature.gradient(model, CLIPPED, split))
        columns.append((sides[0] - sides[1]) / 2e-5)
    return torch.stack(columns, dim=1)


@pytest.mark.parametrize("name", [*STRANGE, *SEQUENCES, "words"])
def test_curvature_of_strange_but_legitimate_models(name):
    torch.manual_seed(1)
    targets = torch.arange(6) % 3
    if name in STRANGE:
        model, inputs = STRANGE[name](), torch.randn(6, 5).double()
    elif name == "words":
        model, inputs = Words(), torch.randint(7, (6, 4))
    else:
        model, inputs = SEQUENCES[name](), torch.randn(6, 3, 6).double()
    model, split = model.double().eval(), data.Split(inputs, targets, 3, name)
    w = models.weights(model)
    v = torch.randn(w.shape, generator=torch.Generator().manual_seed(2)).double()
    product = curvature.hvp(model, CLIPPED, split, v)
    H = curvature.hessian(model, CLIPPED, split)
    torch.testing.assert_close(product, H @ v, rtol=1e-7, atol=1e-9)
    if len(w) < 120 and name != "orthogonal":  # its gradient jumps at the weights that it starts from
        torch.testing.assert_close(H, differenced(model, split), rtol=1e-4, atol=1e-6)
    assert curvature.trace(model, CLIPPED, split, method="exact").value == pytest.approx(H.trace().item())
    curvature.check_deterministic(model, CLIPPED, split)


CONVOLUTIONS = {
    "grouped": [nn.Conv2d(4, 6, 3, 2, 1, groups=2), nn.ReLU(inplace=True)],
    "dilated": [nn.Conv2d(4, 3, 3, dilation=2, padding=2, padding_mode="circular")],
    "same": [nn.Conv2d(4, 3, 3, padding="same"), nn.ReLU()],
    "oblong": [nn.Conv2d(4, 4, (3, 1), (1, 2)), nn.BatchNorm2d(4), nn.ReLU()],
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_class_by_class_traces_are_those_of_the_gauss_newton_matrix(name):
    split = images(5, channels=4)
    features = nn.Sequential(*CONVOLUTIONS[name], nn.Flatten()).double().eval()
    top = nn.Linear(features(split.inputs).shape[1], 3).double()
    model = nn.Sequential(features, top).eval()
    exact = curvature.gauss_newton(model, CLIPPED, split).trace().item()
    found = curvature.trace(model, CLIPPED, split, method="gauss-newton")
    assert (found.value, found.standard_error) == (pytest.approx(exact, rel=1e-10), 0)


def test_tied_and_embedded_weights_have_right_class_by_class_traces():
    torch.manual_seed(0)
    model = Words().double().eval()
    split = data.Split(torch.randint(7, (6, 4)), torch.arange(6) % 3, 3, "words")
    exact = curvature.gauss_newton(model, CLIPPED, split).trace().item()
    assert curvature.trace(model, CLIPPED, split, method="gauss-newton").value == pytest.approx(exact, rel=1e-10)


def test_the_gauss_newton_operator_is_its_matrix():
    model, split = network(nn.Tanh), sample()
    G = curvature.gauss_newton(model, CLIPPED, split)
    block = torch.randn(len(G), 3, generator=V).double()
    operator = curvature.gauss_newton_operator(model, CLIPPED, split)
    torch.testing.assert_close(operator(block), G @ block, rtol=1e-10, atol=1e-12)


def test_channels_last_models_have_the_same_curvature():
    torch.manual_seed(0)
    model, split = models.resnet18(2, 3, channels=1).eval(), images(6)
    expected = curvature.gradient(model, CLIPPED, split)
    last = curvature.gradient(model.to(memory_format=torch.channels_last), CLIPPED, split)
    torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-6)
    assert models.weights(model).shape == expected.shape


def test_a_scalar_output_is_summed_without_noise():
    """d = 1,201, n = 2: two equal sketches used to pass for certainty."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 100), nn.ReLU(), nn.Linear(100, 1)).double().eval()
    split = data.Split(torch.randn(2, 10).double(), torch.randn(2).double(), 0, "two")
    exact = curvature.gauss_newton(model, HalfSquaredError(), split).trace().item()
    for seed in range(5):
        found = curvature.trace(model, HalfSquaredError(), split, seed=seed)
        assert (found.value, found.standard_error) == (pytest.approx(exact, rel=1e-10), 0)


def test_every_weight_tensor_is_tried_for_affinity():
    torch.manual_seed(0)
    layers = [layer for _ in range(12) for layer in (nn.Linear(6, 6), nn.ReLU())]
    model = nn.Sequential(*layers, nn.utils.parametrizations.weight_norm(nn.Linear(6, 3))).double().eval()
    split = data.Split(torch.randn(8, 6).double(), torch.zeros(8, dtype=torch.int64), 3, "deep")
    assert not curvature.is_piecewise_affine(model, split)[0]


SETTINGS = {
    "nothing": "pass",
    "all": "torch.backends.fp32_precision = 'tf32'",
    "products": "torch.backends.cuda.matmul.fp32_precision = 'tf32'",
    "medium": "torch.set_float32_matmul_precision('medium')",
    "old": "torch.backends.cuda.matmul.allow_tf32 = True",
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_float32_is_full_inside_and_the_callers_settings_come_back(setting):
    """In a process of its own: what was set once cannot always be unset."""
    script = f"""
import torch
from helpers import curvature, data

def state():
    backends = torch.backends
    return [part.fp32_precision for part in (
        backends, backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn, backends.mkldnn.matmul,
        backends.mkldnn.conv, backends.mkldnn.rnn)]

def loss(z, y):
    seen.append((*state()[1:], z.dtype))
    return z.square().sum(1)

seen = []
{SETTINGS[setting]}
before = state()
split = data.Split(torch.randn(6, 4), torch.zeros(6), 0, "made up")
with torch.autocast("cpu", torch.bfloat16):
    curvature.gradient(torch.nn.Linear(4, 3).eval(), loss, split)
assert {{entry[:-1] for entry in seen}} == {{("ieee",) * 6}}, seen
assert {{entry[-1] for entry in seen}} <= {{torch.float32, torch.float64}}, seen
assert state() == before, (before, state())
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True)


def test_the_last_of_overlapping_blocks_puts_the_settings_back():
    """As threads do: the first to enter is the first to leave, and the other goes on in full precision."""
    script = """
import torch
from helpers._precision import full_precision

products = torch.backends.mkldnn.matmul
products.fp32_precision = "tf32"
first, second = full_precision(), full_precision()
first.__enter__()
second.__enter__()
first.__exit__(None, None, None)
assert products.fp32_precision == "ieee", products.fp32_precision
second.__exit__(None, None, None)
assert products.fp32_precision == "tf32", products.fp32_precision
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True)


@pytest.mark.parametrize("name", ["GRU", "convolution"])
def test_recurrent_layers_and_no_others_are_kept_from_cudnn(name, monkeypatch):
    """It has no backward pass for them in evaluation mode."""
    model, seen = SEQUENCES[name]().double().eval(), []
    monkeypatch.setattr(torch.backends.cudnn, "enabled", True)

    def loss(z, y):
        seen.append(torch.backends.cudnn.enabled)
        return CLIPPED(z, y)

    split = data.Split(torch.randn(6, 3, 6).double(), torch.arange(6) % 3, 3, name)
    curvature.gradient(model, loss, split)
    assert set(seen) == {name != "GRU"}
    assert torch.backends.cudnn.enabled


# --- Embeddings -------------------------------------------------------------------------------------------------------


class Padded(nn.Module):
    """A bag of words with a table whose options change PyTorch's derivative."""

    def __init__(self, **options):
        super().__init__()
        self.table, self.top = nn.Embedding(5, 3, **options), nn.Linear(3, 3)
        with torch.no_grad():
            self.table.weight.normal_()

    def forward(self, x):
        return self.top(torch.tanh(self.table(x)).sum(1))


@pytest.mark.parametrize("options", [{"padding_idx": 0}, {"scale_grad_by_freq": True}, {"sparse": True}])
@pytest.mark.parametrize("method", ["exact", "gauss-newton", "hutchinson"])
def test_embeddings_have_their_derivative_whatever_training_drops(options, method):
    """The twin without options has the same outputs, so the same derivatives; the options stay as they were."""
    torch.manual_seed(0)
    model, twin = Padded(**options).double().eval(), Padded().double().eval()
    twin.load_state_dict(model.state_dict())
    split = data.Split(torch.tensor([[0, 1, 2], [0, 0, 3], [4, 0, 1]]), torch.arange(3), 3, "words")
    v = torch.randn(len(models.weights(model)), generator=V).double()
    for quantity in (curvature.gradient, curvature.hessian, curvature.gauss_newton, curvature.per_example_gradients):
        torch.testing.assert_close(quantity(model, CLIPPED, split), quantity(twin, CLIPPED, split))
    for operator in (curvature.hessian_operator, curvature.gauss_newton_operator):
        torch.testing.assert_close(operator(model, CLIPPED, split)(v), operator(twin, CLIPPED, split)(v))
    values = [curvature.trace(net, CLIPPED, split, method=method, most_probes=10).value for net in (model, twin)]
    assert values[0] == pytest.approx(values[1], rel=1e-10)
    assert {name: getattr(model.table, name) for name in options} == options
    torch.testing.assert_close(
        curvature.hessian(model, CLIPPED, split), differenced(model, split), rtol=1e-4, atol=1e-6
    )


def test_an_embedding_that_rewrites_its_weights_is_refused():
    split = data.Split(torch.tensor([[0, 1], [2, 3]]), torch.arange(2), 3, "words")
    with pytest.raises(ValueError, match="set max_norm = None after training"):
        curvature.values(Padded(max_norm=0.1).double().eval(), CLIPPED, split)


def test_a_gradient_that_is_no_derivative_is_refused():
    class Functional(Padded):
        def forward(self, x):
            return self.top(torch.tanh(F.embedding(x, self.table.weight, padding_idx=0)).sum(1))

    class Rounded(nn.Module):
        def __init__(self):
            super().__init__()
            self.low, self.top = nn.Linear(5, 4), nn.Linear(4, 3)

        def forward(self, x):
            z = self.low(x)
            return self.top(torch.tanh(z + (2 * torch.tanh(z) - z).detach()))

    words = data.Split(torch.tensor([[0, 1, 2], [0, 0, 3], [4, 0, 1]]), torch.arange(3), 3, "words")
    torch.manual_seed(0)
    for model, split in ((Functional(), words), (Rounded(), sample())):
        with pytest.raises(ValueError, match="not the derivative"):
            curvature.hvp(model.double().eval(), CLIPPED, split, torch.ones(len(models.weights(model))).double())


# --- Large batches, sorted batches, inputs of another length ----------------------------------------------------------


class Sorting(nn.Module):
    """Sorts its batch by the first input, as recurrent networks do by length; ``back`` undoes that at the end."""

    def __init__(self, back):
        super().__init__()
        self.low, self.top, self.back = nn.Linear(5, 4), nn.Linear(4, 3), back

    def forward(self, x):
        order = (-x[:, 0]).argsort()
        z = self.top(torch.tanh(self.low(x[order])))
        return z[order.argsort()] if self.back else z


def sorting(back):
    torch.manual_seed(0)
    return Sorting(back).double().eval()


def test_a_model_that_sorts_its_batch_is_refused_also_where_the_sample_is_sorted():
    split = sample()
    for order in (slice(None), (-split.inputs[:, 0]).argsort()):
        with pytest.raises(ValueError, match=r"depends on the rest of its batch.*a batch that is sorted"):
            curvature.values(sorting(back=False), CLIPPED, split.take(order))


def test_a_model_that_sorts_its_batch_inside_has_each_example_s_own_gradient():
    """The example of largest gradient stands first in either order, so that the proof on it alone would hold."""
    split = sample(8)
    split.inputs[0] *= 6
    split.inputs[0, 0] = 9
    plain = nn.Sequential(sorting(True).low, nn.Tanh(), sorting(True).top).eval()
    norms = curvature.per_example_gradients(plain, CLIPPED, split).square().sum(1)
    assert norms.argmax() == 0
    found = Gradients(sorting(True), CLIPPED).of(split)
    torch.testing.assert_close(found.squared_norms, norms)
    in_order = split.take((-split.inputs[:, 0]).argsort())  # a first batch in which no row moves
    gradients = Gradients(sorting(True), CLIPPED)
    gradients.of(in_order)
    torch.testing.assert_close(gradients.of(split).squared_norms, norms)


def test_what_mixes_large_batches_alone_is_refused():
    class Large(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(5, 3)

        def forward(self, x):
            z = self.layer(x)
            return z - z.mean(0) * (len(x) >= 8)

    with pytest.raises(ValueError, match="an example's output depends on the rest of its batch"):
        curvature.values(Large().double().eval(), CLIPPED, sample())

    def hardest(z, y):
        """The eight largest losses of a batch; those of all four where it has four."""
        losses = F.cross_entropy(z, y, reduction="none")
        return losses * (losses >= losses.topk(min(8, len(losses))).values[-1])

    for function in (curvature.values, curvature.gradient, curvature.trace):
        with pytest.raises(ValueError, match=r"the loss of an example depends.*a choice of hard examples"):
            function(network(), hardest, sample())


@pytest.mark.parametrize("first", [1, 5])
def test_a_verdict_holds_for_inputs_of_one_layout(first):
    """A recurrent network of one step is piecewise affine; of five it is not, as its weights are used five times."""

    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.cells = nn.RNN(2, 6, nonlinearity="relu", batch_first=True)
            self.top = nn.Linear(6, 3)

        def forward(self, x):
            return self.top(self.cells(x)[0][:, -1])

    torch.manual_seed(0)
    model = Recurrent().double().eval()
    found = {}
    for steps in (first, 6 - first, first):
        split = data.Split(torch.randn(8, steps, 2).double(), torch.arange(8) % 3, 3, "sequences")
        found[steps] = curvature.is_piecewise_affine(model, split)[0]
    assert found == {1: True, 5: False}


# --- Targets that a loss leaves out -----------------------------------------------------------------------------------

IGNORING = {
    "a module": nn.CrossEntropyLoss(reduction="none"),
    "a function": lambda z, y: F.cross_entropy(z, y, reduction="none"),
    "another index": nn.CrossEntropyLoss(reduction="none", ignore_index=-1),
    "one beyond the classes": lambda z, y: F.cross_entropy(z, y, reduction="none", ignore_index=255),
    "a class": nn.CrossEntropyLoss(reduction="none", ignore_index=1),
    "position by position": PerSequence(nn.CrossEntropyLoss(reduction="none")),
}
LEFT_OUT = {"another index": -1, "one beyond the classes": 255, "a class": 1}


@pytest.mark.parametrize("kind", IGNORING)
@pytest.mark.parametrize("function", ["values", "gradient", "trace"])
def test_targets_that_a_loss_leaves_out_are_refused(kind, function):
    """They would count as a loss of 0, and stay in the n that the mean is taken over."""
    split, model, stray = sample(), network(), LEFT_OUT.get(kind, -100)
    split.targets[split.targets == 1] = 2
    split.targets[3] = stray
    if kind == "position by position":
        split = data.Split(split.inputs[:, None].expand(-1, 2, -1), split.targets[:, None].expand(-1, 2), 3, "pairs")
        model = nn.Linear(5, 3).double().eval()
    with pytest.raises(ValueError, match=f"targets hold {stray}, which the loss leaves out as its ignore_index"):
        getattr(curvature, function)(model, IGNORING[kind], split)


def test_negative_whole_numbers_are_targets_where_they_are_no_class():
    split = sample()
    signs = data.Split(split.inputs, torch.where(split.targets > 0, 1, -1), 0, "signs")
    margin = lambda z, y: F.softplus(-(z[:, 1] - z[:, 0]) * y)  # noqa: E731
    z = network()(split.inputs)
    torch.testing.assert_close(curvature.values(network(), margin, signs), margin(z, signs.targets).detach())
    column = nn.Linear(5, 1).double().eval()
    far = data.Split(split.inputs, torch.full((23,), -100), 0, "regression")
    assert curvature.values(column, HalfSquaredError(), far).min() > 1000


def test_class_weights_of_another_type_are_named():
    weighted = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]), reduction="none")
    with pytest.raises(ValueError, match=r"loss has tensors \(class weights\?\) of another type than outputs"):
        curvature.values(network(), weighted, sample())
    assert curvature.values(network(), weighted.double(), sample()).min() > 0


def test_a_mean_over_probabilities_asks_for_distributions():
    split = sample()
    for rows in (torch.rand(23, 3).double(), torch.tensor([2.0, -1.0, 0.0]).double().expand(23, 3)):
        with pytest.raises(ValueError, match=r"probabilities \(n, 3\) that sum to 1"):
            curvature.values(network(), nn.CrossEntropyLoss(reduction="none"), (split.inputs, rows))


def test_two_directions_tell_a_product_from_its_transpose():
    """With one vector twice, u'Hv - v'Hu would be zero whatever H."""
    u, v = routes._directions(network())
    assert not torch.equal(u, v)


def test_a_model_is_tried_once(monkeypatch):
    model, tried = network(), []
    monkeypatch.setattr(contracts, "_depends_on_order", lambda *_: bool(tried.append(1)))
    for _ in range(2):
        contracts.check_independence(model, sample())
    assert len(tried) == 1


def test_a_product_that_is_nearly_right_and_not_symmetric_is_not_trusted():
    """A difference of gradients does not see it, the symmetry does: to rounding, the right route is symmetric."""
    model, split = network(activation=nn.Tanh), sample()
    twist = torch.randn(2 * (len(models.weights(model)),), generator=V.manual_seed(0), dtype=torch.float64)
    twist = (twist - twist.T) / twist.norm()

    def route(twin, loss, few, v, skew):
        product = routes.with_plain_operations(twin, loss, few, v)
        return product + skew * product.norm() / v.norm() * (twist @ v)

    assert routes._is_right(partial(route, skew=0.0), model, split)
    assert not routes._is_right(partial(route, skew=1e-6), model, split)


def test_one_weight_that_is_not_finite_is_enough_to_be_refused():
    model = network()
    with torch.no_grad():
        next(model.parameters())[0, 0] = torch.inf
    with pytest.raises(ValueError, match="weights are not finite"):
        contracts.check_model(model)
