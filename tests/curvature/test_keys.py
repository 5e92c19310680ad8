"""A verdict is used again only on a model, or a loss, that computes the same: whatever can be swapped is seen."""

import gc
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from instances import CLIPPED, network, sample
from torch import nn

from helpers import curvature, models
from helpers.curvature.keys import Same, architecture


class Kept(nn.Module):
    """An activation that is kept in one way or another; ReLU, unless it is swapped."""

    def __init__(self, way):
        super().__init__()
        self.low, self.top, self.way = nn.Linear(5, 4), nn.Linear(4, 3), way
        self.listed, self._private, self.table = [torch.relu], torch.relu, {"act": torch.relu}
        self.nested = {"acts": [(torch.relu,)]}
        self.unregistered = [nn.ReLU()]
        self.curved = torch.tensor(0.0)
        self.array = np.zeros(1)
        self.options = Options()
        self.blended = partial(blend, share=0.0)
        self.register_buffer("share", torch.zeros(()))

    def forward(self, x):
        z = self.low(x)
        ways = {
            "list": lambda: self.listed[0](z),
            "private": lambda: self._private(z),
            "dictionary": lambda: self.table["act"](z),
            "nested": lambda: self.nested["acts"][0][0](z),
            "unregistered module": lambda: self.unregistered[0](z),
            "tensor": lambda: blend(z, self.curved),
            "array": lambda: blend(z, float(self.array[0])),
            "object": lambda: blend(z, self.options.share),
            "partial": lambda: self.blended(z),
            "buffer": lambda: blend(z, self.share),
        }
        return self.top(ways.get(self.way, lambda: torch.relu(z))())


class Options:
    share = 0.0

    def __init__(self):
        self.share = 0.0


def blend(z, share):
    return (1 - share) * torch.relu(z) + share * torch.tanh(z)


def swap(model, way):
    if way == "list":
        model.listed[0] = torch.tanh
    elif way == "private":
        model._private = torch.tanh
    elif way == "dictionary":
        model.table["act"] = torch.tanh
    elif way == "nested":
        model.nested["acts"][0] = (torch.tanh,)
    elif way == "unregistered module":
        model.unregistered[0] = nn.Tanh()
    elif way == "tensor":
        model.curved.fill_(1.0)
    elif way == "array":
        model.array[0] = 1.0
    elif way == "object":
        model.options.share = 1.0
    elif way == "partial":
        model.blended = partial(blend, share=1.0)
    elif way == "buffer":
        model.share.fill_(1.0)
    elif way == "forward hook":
        model.low.register_forward_hook(lambda module, inputs, output: torch.tanh(output))
    elif way == "forward pre-hook":
        model.top.register_forward_pre_hook(lambda module, inputs: (torch.tanh(inputs[0]),))
    elif way == "forward of the instance":
        model.low.forward = lambda x: torch.tanh(F.linear(x, model.low.weight, model.low.bias))
    elif way == "type":
        model.low.__class__ = Curved


class Curved(nn.Linear):
    def forward(self, x):
        return torch.tanh(super().forward(x))


WAYS = [
    "list", "private", "dictionary", "nested", "unregistered module", "tensor", "array", "object", "partial", "buffer",
    "forward hook", "forward pre-hook", "forward of the instance", "type",
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_a_swap_is_seen_wherever_it_is_made(way):
    torch.manual_seed(0)
    model, split = Kept(way).double().eval(), sample()
    before = architecture(model)
    assert architecture(model) == before
    assert curvature.is_piecewise_affine(model, split)[0]
    v = torch.randn(39, generator=torch.Generator().manual_seed(1)).double()
    curvature.hvp(model, CLIPPED, split, v)
    swap(model, way)
    assert architecture(model) != before
    assert not curvature.is_piecewise_affine(model, split)[0]
    H = curvature.hessian(model, CLIPPED, split)
    torch.testing.assert_close(curvature.hvp(model, CLIPPED, split, v), H @ v)


def test_a_global_hook_is_seen():
    model, split = network(), sample()
    assert curvature.is_piecewise_affine(model, split)[0]

    def curved(module, inputs, output):
        return torch.tanh(output) if isinstance(module, nn.Linear) else None

    handle = nn.modules.module.register_module_forward_hook(curved)
    try:
        assert not curvature.is_piecewise_affine(model, split)[0]
    finally:
        handle.remove()
    assert curvature.is_piecewise_affine(model, split)[0]


def test_a_closure_is_seen_by_what_it_encloses():
    torch.manual_seed(0)
    share = [0.0]

    def act(z):
        return blend(z, share[0])

    model, split = Kept("list").double().eval(), sample()
    model.listed[0] = act
    assert curvature.is_piecewise_affine(model, split)[0]
    share[0] = 1.0
    assert not curvature.is_piecewise_affine(model, split)[0]


def test_weights_and_statistics_do_not_change_the_key():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.LSTM(4, 3)).double()
    before = architecture(model)
    model[:2](sample().inputs)
    models.set_weights(model, models.weights(model) + 1)
    assert architecture(model) == before
    model[0].bias.requires_grad_(False)
    assert architecture(model) != before


def test_a_key_keeps_no_model_alive():
    model = Kept("list").double().eval()
    model.itself, model.caller = [model, model.forward], lambda x, model=model: model(x)
    curvature.hvp(model, CLIPPED, sample(), torch.ones(39).double())
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_an_address_that_is_given_out_again_is_another_thing():
    thing = Options()
    key, address = Same(thing), id(thing)
    assert key == Same(thing)
    del thing
    held = []
    while not held or (id(held[-1]) != address and len(held) < 10_000):
        held.append(Options())
    assert id(held[-1]) == address
    assert key != Same(held[-1])


def test_a_model_that_keeps_too_much_is_tried_every_time():
    model = network()
    model.history = list(range(6_000))
    assert architecture(model) != architecture(model)
    assert curvature.is_piecewise_affine(model, sample())[0]


def test_a_loss_that_is_changed_is_tried_anew():
    class Weighed:
        def __init__(self):
            self.detached = False

        def __call__(self, z, y):
            values = F.cross_entropy(z, y, reduction="none")
            return (1 - torch.exp(-values.detach())) * values if self.detached else values

    model, split, loss = network(), sample(), Weighed()
    torch.testing.assert_close(curvature.gradient(model, loss, split), curvature.gradient(model, CLIPPED, split))
    loss.detached = True
    with pytest.raises(ValueError, match="loss's gradient is not its derivative"):
        curvature.gradient(model, loss, split)


class OfTheClass(nn.Module):
    """Its activation is said by its class, by a deque, or by an object with slots."""

    act = staticmethod(torch.relu)

    def __init__(self, way):
        super().__init__()
        self.low, self.top, self.way = nn.Linear(5, 4), nn.Linear(4, 3), way
        self.queue, self.slotted = deque([torch.relu]), Slotted(torch.relu)

    def forward(self, x):
        act = {"class": type(self).act, "deque": self.queue[0], "slots": self.slotted.act}[self.way]
        return self.top(act(self.low(x)))


@dataclass(slots=True)
class Slotted:
    act: Callable


@pytest.mark.parametrize("way", ["class", "deque", "slots"])
def test_a_swap_in_class_deque_or_slots_is_seen(way, monkeypatch):
    torch.manual_seed(0)
    model, split = OfTheClass(way).double().eval(), sample(20)
    assert curvature.is_piecewise_affine(model, split)[0]
    if way == "class":
        monkeypatch.setattr(OfTheClass, "act", staticmethod(F.gelu))
    model.queue[0] = model.slotted.act = F.gelu
    assert not curvature.is_piecewise_affine(model, split)[0]
