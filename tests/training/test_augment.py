import pytest
import torch
import torch.nn.functional as F

from helpers.training import augment


def images(n, channels=2, height=6, width=5):
    """Images whose pixels are all different and positive, so that a pixel tells where it came from."""
    count = n * channels * height * width
    return torch.arange(1.0, count + 1, dtype=torch.float64).view(n, channels, height, width)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def places(image):
    """Every padded, cut and mirrored version of one image, made the obvious way: (down, right, mirrored) -> image."""
    _, height, width = image.shape
    padded = F.pad(image, (width // 8, width // 8, height // 8, height // 8))
    found = {}
    for down in range(2 * (height // 8) + 1):
        for right in range(2 * (width // 8) + 1):
            cut = padded[:, down : down + height, right : right + width]
            found |= {(down, right, False): cut, (down, right, True): cut.flip(2)}
    return found


def place(made, versions):
    matches = [key for key, version in versions.items() if torch.equal(made, version)]
    assert len(matches) == 1
    return matches[0]


def test_every_image_is_one_of_its_shifted_and_mirrored_copies_each_equally_often():
    original = images(1, channels=1, height=32, width=16)[0]  # CIFAR-10's 4 pixels, and 2 for half as many
    versions = places(original)
    made = augment.crop_and_flip(original.expand(4000, -1, -1, -1), seeded())
    drawn = torch.tensor([place(image, versions) for image in made[:1000]])
    assert drawn.amin(0).tolist() == [0, 0, 0]
    assert drawn.amax(0).tolist() == [8, 4, 1]
    for column, count, limit in ((drawn[:, 0], 9, 26.1), (drawn[:, 1], 5, 18.5)):
        counts = column.bincount(minlength=count)
        assert ((counts - 1000 / count).square() / (1000 / count)).sum() < limit  # chi-squared: p = 0.001
    assert abs(drawn[:, 2].double().mean() - 0.5) < 0.05
    assert abs(torch.corrcoef(drawn.double().T) - torch.eye(3)).max() < 0.11  # drawn independently


def test_each_image_gets_its_own_pixels():
    originals = images(3, height=16, width=24)
    for original, made in zip(originals, augment.crop_and_flip(originals, seeded(1)), strict=True):
        place(made, places(original))


def test_same_seed_same_bits_and_the_input_is_left_alone():
    originals = images(5)
    before = originals.clone()
    first, again, other = (augment.crop_and_flip(originals, seeded(s)) for s in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(originals, before)
    assert first.shape == originals.shape
    assert first.dtype == originals.dtype


def test_flat_inputs_are_refused():
    with pytest.raises(ValueError, match=r"takes images .* got shape \(3, 64\)"):
        augment.crop_and_flip(torch.zeros(3, 64), seeded())
