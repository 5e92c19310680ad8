"""Generators that are shared: watched and put back, also those of a device, which a stand-in plays here."""

from types import SimpleNamespace

import pytest
import torch
from instances import CLIPPED, sample
from torch import nn

from helpers import _generators, curvature, data
from helpers.curvature import contracts


class Stand:
    """A generator of a device that is not here."""

    def __init__(self, name):
        self.inner, self.device = torch.Generator().manual_seed(7), torch.device(name)

    def get_state(self):
        return self.inner.get_state()

    def set_state(self, state):
        self.inner.set_state(state)


@pytest.fixture
def cuda(monkeypatch):
    """CUDA in use, with two devices."""
    stands = (Stand("cuda:0"), Stand("cuda:1"))
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "default_generators", stands, raising=False)
    return stands


def test_generators_of_every_device_in_use_are_shared(cuda, monkeypatch):
    for device in (None, "cpu", "cuda", "cuda:1", torch.device("cuda:0")):
        assert list(_generators.shared_generators(device)) == ["cpu", "cuda:0", "cuda:1"]
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    assert list(_generators.shared_generators("cpu")) == ["cpu"]
    apple = SimpleNamespace(device=torch.device("mps"), get_state=None)
    monkeypatch.setattr(torch.mps, "_get_default_mps_generator", lambda: apple)
    assert list(_generators.shared_generators("mps")) == ["cpu", "mps"]


@pytest.mark.parametrize("which", [0, 1])
def test_what_is_drawn_is_seen_and_put_back(cuda, which):
    before = cuda[which].get_state()
    with _generators.unchanged(_generators.shared_generators("cuda")) as drawn:
        assert not drawn()
        torch.rand(1, generator=cuda[which].inner)
        assert drawn()
    assert torch.equal(cuda[which].get_state(), before)
    with pytest.raises(TypeError), _generators.unchanged(_generators.shared_generators("cuda")):
        float([torch.rand(1, generator=cuda[which].inner)])
    assert torch.equal(cuda[which].get_state(), before)


class Drawing(nn.Module):
    """Draws on the device, without a change of its outputs."""

    def __init__(self, generator):
        super().__init__()
        self.layer, self.generator = nn.Linear(5, 3), generator

    def forward(self, x):
        torch.rand(1, generator=self.generator)
        return self.layer(x)


def test_a_model_that_draws_on_a_device_is_refused_and_the_generators_are_the_callers(cuda):
    torch.manual_seed(0)
    model, split = Drawing(cuda[1].inner).double().eval(), sample()
    before = [torch.get_rng_state(), *(stand.get_state() for stand in cuda)]
    with pytest.raises(ValueError, match="draws at random in evaluation mode"):
        curvature.values(model, CLIPPED, split)

    def restless(z, y):
        torch.rand(1, generator=cuda[0].inner)
        return z.square().sum(1)

    with pytest.raises(ValueError, match="loss draws at random"):
        curvature.values(model.layer, restless, split)
    after = [torch.get_rng_state(), *(stand.get_state() for stand in cuda)]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_the_model_s_device_is_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr(contracts, "shared_generators", lambda device: asked.append(str(device)) or {})
    curvature.values(nn.Linear(5, 3).double().eval(), CLIPPED, sample())
    assert set(asked) == {"cpu"}
    assert len(asked) >= 2


def test_reading_data_leaves_the_generators_of_devices(cuda):
    class Flipped(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, i):
            torch.rand(1, generator=cuda[0].inner)
            return torch.ones(2), 0

    before = cuda[0].get_state()
    for examples in (Flipped(), torch.utils.data.DataLoader(Flipped(), 2)):
        with pytest.raises(ValueError, match="changes whenever it is read"):
            data.as_split(examples)
    assert torch.equal(cuda[0].get_state(), before)
