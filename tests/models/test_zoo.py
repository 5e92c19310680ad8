import pytest
import torch
from instances import images, network, residual_network, sample
from torch import nn

from helpers import models

FAMILIES = {
    "linear": lambda: models.linear(64, 3),
    "two-layer": lambda: models.TwoLayerReLU(64, 7),
    "mlp": lambda: models.mlp(64, 7, 3, depth=3),
    "cnn": lambda: models.cnn(2, 3, channels=1, size=8),
    "resnet18": lambda: models.resnet18(2, 3, channels=1),
    "preact": lambda: models.preact_resnet18(2, 3, channels=1),
    "vgg16": lambda: models.vgg16(2, 3, channels=1),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_maps_images_to_outputs_and_trains(family):
    model = FAMILIES[family]().double()
    outputs = model(images().inputs)
    assert outputs.shape == ((9,) if family == "two-layer" else (9, 3))
    outputs.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in models.trainable(model))


def test_sizes_are_those_of_the_literature():
    assert len(models.weights(models.resnet18())) == 11_173_962  # the usual ResNet-18 for CIFAR-10
    assert len(models.weights(models.vgg16())) == 14_723_136 + 5_130 - 4_224  # convolutions' biases are left out
    assert len(models.weights(models.preact_resnet18())) == 11_171_146 + 2 * 512  # with the norm after the last block


def test_two_layer_network_is_the_formula_of_theorem_4():
    model = models.TwoLayerReLU(5, 8).double()
    x = sample().inputs
    by_hand = sum(a * torch.relu(x @ w) for a, w in zip(model.signs, model.hidden.weight, strict=True)) / 8**0.5
    torch.testing.assert_close(model(x), by_hand)
    assert set(model.signs.tolist()) <= {-1.0, 1.0}
    assert len(models.weights(model)) == 40


def test_weights_leave_out_frozen_parameters_and_buffers():
    model = residual_network()
    total = len(models.weights(model))
    assert total == sum(p.numel() for p in model.parameters())
    next(model.parameters()).requires_grad_(False)
    assert len(models.weights(model)) == total - next(model.parameters()).numel()


def test_at_moves_and_restores_to_the_bit_even_after_an_error():
    model = network()
    before, x = models.weights(model), sample().inputs
    outputs = model(x)
    with models.at(model, 2 * before):
        assert torch.equal(models.weights(model), 2 * before)
        assert not torch.allclose(model(x), outputs)
    assert torch.equal(models.weights(model), before)
    with pytest.raises(RuntimeError, match="inside"), models.at(model, 0 * before):
        raise RuntimeError("inside")
    assert torch.equal(models.weights(model), before)


def test_weights_are_a_copy():
    model = network()
    vector = models.weights(model)
    vector.zero_()
    assert models.weights(model).abs().sum() > 0


def test_vectors_that_do_not_fit_are_refused():
    model = network()
    with pytest.raises(ValueError, match="trainable weights, the vector has shape"):
        models.set_weights(model, torch.zeros(3, dtype=torch.float64))
    with pytest.raises(ValueError, match="not finite"):
        models.set_weights(model, models.weights(model) * float("nan"))
    with pytest.raises(ValueError, match="no trainable parameters"):
        models.weights(nn.ReLU())
