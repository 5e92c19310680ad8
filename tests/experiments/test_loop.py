import pytest
import torch

from helpers import data
from helpers.experiments import loop
from helpers.experiments.samples import images


def test_a_pass_visits_every_example_once_and_drops_what_is_left():
    (split,) = data.partition(images("digits", True), [50], seed=0)
    generator = torch.Generator().manual_seed(1)
    first, second = ([b.indices for b in loop.minibatches(split, 20, generator)] for _ in range(2))
    assert [len(rows) for rows in first] == [20, 20]
    seen = torch.cat(first)
    assert len(seen.unique()) == 40
    assert set(seen.tolist()) <= set(split.indices.tolist())
    assert not torch.equal(seen, torch.cat(second))


def test_a_split_on_a_device_keeps_its_indices_on_the_processor():
    """The meta device stands for an accelerator: what lies there cannot be brought back to index with."""
    (split,) = data.partition(images("digits", True), [50], seed=0)
    there = split.to(device="meta")
    generators = [torch.Generator().manual_seed(1) for _ in range(2)]
    batches = (loop.minibatches(s, 20, g) for s, g in zip((there, split), generators, strict=True))
    for batch, twin in zip(*batches, strict=True):
        assert batch.inputs.device.type == batch.targets.device.type == "meta"
        assert batch.inputs.shape == twin.inputs.shape
        assert torch.equal(batch.indices, twin.indices)


@pytest.mark.parametrize("model", loop.MODELS)
def test_every_network_answers_with_one_logit_a_class(model):
    (split,) = data.partition(images("digits", True), [3], seed=0)
    network = loop.network(model, 2, split).eval()
    assert network(split.inputs).shape == (3, 10)
