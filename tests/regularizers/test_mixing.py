"""Flooding and mixup."""

import pytest
import torch

from helpers import regularizers


def test_flooding_ascends_below_the_level():
    x = torch.tensor(0.3, requires_grad=True)
    regularizers.flooding(x, 0.5).backward()
    assert x.grad == -1
    assert regularizers.flooding(torch.tensor(0.3), 0.5) == pytest.approx(0.7)
    assert regularizers.flooding(torch.tensor(0.9), 0.5) == pytest.approx(0.9)


def test_mixup_mixes_inputs_and_targets_alike():
    x, y = torch.tensor([[0.0], [4.0]]), torch.eye(2)
    mixed, soft = regularizers.mixup(x, y, share=0.75, partners=torch.tensor([1, 0]))
    assert mixed.tolist() == [[1.0], [3.0]]
    assert soft.tolist() == [[0.75, 0.25], [0.25, 0.75]]
    with pytest.raises(ValueError, match="share must lie in"):
        regularizers.mixup(x, y, share=1.5, partners=torch.tensor([1, 0]))
    with pytest.raises(ValueError, match="mixup needs class probabilities"):
        regularizers.mixup(x, torch.tensor([0, 1]), share=0.5, partners=torch.tensor([1, 0]))
