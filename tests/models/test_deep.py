import pytest
import torch
from torch import nn

from helpers import models


@pytest.mark.parametrize(("depth", "convolutions"), [(8, 7), (20, 19), (56, 55)])
def test_depth_counts_the_layers_of_a_chain(depth, convolutions):
    """The first convolution, two a block, and the last linear layer; projections of shortcuts are not counted."""
    chain, residual = (models.deep_resnet(depth, 2, skips=skips) for skips in (False, True))
    assert sum(isinstance(m, nn.Conv2d) for m in chain.modules()) == convolutions
    assert sum(isinstance(m, nn.Conv2d) for m in residual.modules()) == convolutions + 2


def test_resnet_56_has_its_known_size():
    """0.85 million weights in the source's table 6, with shortcuts of option A; option B adds its projections."""
    count = sum(p.numel() for p in models.deep_resnet(56, 16).parameters())
    projections = 16 * 32 + 32 * 64 + 2 * (32 + 64)
    assert count - projections == 853_018


def test_stages_halve_the_image_and_double_the_width():
    seen = []
    model = models.deep_resnet(14, 3)
    for layer in model:
        layer.register_forward_hook(lambda _, __, y: seen.append(tuple(y.shape[1:])))
    assert model(torch.randn(2, 3, 16, 16)).shape == (2, 10)
    assert [seen[i] for i in (2, 4, 6, 8)] == [(3, 16, 16), (3, 16, 16), (6, 8, 8), (12, 4, 4)]


def test_without_a_residual_only_networks_with_shortcuts_pass_anything_on():
    x, answers = torch.randn(4, 3, 8, 8), {}
    for skips in (True, False):
        torch.manual_seed(0)
        model = models.deep_resnet(14, 2, skips=skips).eval()
        with torch.no_grad():
            for module in model.modules():
                if hasattr(module, "residual"):
                    module.residual[-1].weight.zero_()
        answers[skips] = model(x).std(0).max().item()
    assert answers[True] > 1e-3
    assert answers[False] == 0


@pytest.mark.parametrize("depth", [2, 19, 21, 7])
def test_a_depth_that_does_not_divide_is_refused(depth):
    with pytest.raises(ValueError, match="depth must be 8, 14, 20, 26"):
        models.deep_resnet(depth)
