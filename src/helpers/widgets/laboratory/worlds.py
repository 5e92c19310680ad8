"""What the laboratory learns: scikit-learn's digits, or toys in the plane. The twin of ``worlds.js``.

Every role is drawn from one law: labels are noisy in training *and* held-out data, else no bound would apply.
"""

from dataclasses import replace
from math import cos, pi, sin

import numpy as np
import torch
from torch import Tensor

from helpers.data import Split
from helpers.measurement import Roles as Roles
from helpers.widgets.laboratory.generator import STREAMS, Generator

RUNS = 4
POOL = 1297  # digits to train and choose on; the other 500 are the test set
LEVELS, BASE = 17, 91  # grey levels; characters that they are packed in
HELD_OUT = {"val": 250, "val2": 250, "test": 1000}  # examples of a toy's other roles


def _pixels() -> tuple[np.ndarray, np.ndarray]:
    """Grey levels 0 to 16, (1797, 64), and classes, mixed as in ``data.load("digits")``."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(pixels))
    return pixels[order].astype(int), labels[order]


def packed_digits() -> str:
    """All digits as text: three numbers below 17 in two of 91 characters; an image is 64 grey levels and its class."""
    pixels, labels = _pixels()
    flat = np.concatenate([pixels, labels[:, None]], axis=1).ravel()
    numbers = np.concatenate([flat, np.zeros(-len(flat) % 3, dtype=int)]).reshape(-1, 3)
    packed = numbers @ np.array([LEVELS**2, LEVELS, 1])
    characters = np.stack([packed // BASE, packed % BASE], axis=1).ravel()
    return bytes((characters + 35 + (characters >= 57)).astype(np.uint8)).decode("ascii")  # no quote, no backslash


def digits() -> Split:
    """All 1,797 digits in float64, standardised by the pool's pixels: ``data.load("digits")`` without its rounding."""
    pixels, labels = _pixels()
    pool = pixels[:POOL].astype(float)
    inputs = (pixels - pool.mean()) / pool.std(ddof=1)
    rows = torch.arange(len(inputs))
    return Split(torch.from_numpy(inputs), torch.from_numpy(labels).long(), 10, "digits (scikit-learn)", "digits", rows)


def toy(name: str, n: int, noise: float, source: Generator) -> Split:
    """n examples of "moons", "circles", "xor" or "spirals", with normal noise of this standard deviation.

    Raises:
        ValueError: if there is no such toy.
    """
    if name not in _PLACES:
        raise ValueError(f"there is no world {name!r}; choose digits, {', '.join(_PLACES)}")
    classes = 3 if name == "spirals" else 2
    inputs, targets = torch.empty(n, 2, dtype=torch.float64), torch.empty(n, dtype=torch.int64)
    for i in range(n):
        label = source.below(classes)
        u, v = _PLACES[name](source, label)
        inputs[i, 0], inputs[i, 1], targets[i] = u + noise * source.normal(), v + noise * source.normal(), label
    return Split(inputs, targets, classes, name)


def roles(world: str, *, n: int, seed: int, toy_noise: float = 0.2, label_noise: float = 0.0) -> Roles:
    """The data of one setting of the laboratory, the same as in the page.

    Args:
        world: "digits", "moons", "circles", "xor" or "spirals".
        n: examples that one run is trained on.
        toy_noise: standard deviation of a toy's coordinates.
        label_noise: probability with which a label, of any role, is replaced by a uniform one.

    Raises:
        ValueError: if there is no such world, or there are not enough digits.
    """
    source = Generator(seed, STREAMS["data"])
    if world == "digits":
        rest = (POOL - RUNS * n) // 2
        if rest < 1:
            raise ValueError(f"{RUNS} runs of {n} digits leave none of {POOL} to hold out; take n of 300 at most")
        every, order = digits(), torch.from_numpy(source.permutation(POOL))
        *train, val, val2, _ = [
            every.take(rows) for rows in order.split([n] * RUNS + [rest, rest, POOL - RUNS * n - 2 * rest])
        ]
        test = every.take(slice(POOL, None))
    else:
        train = [toy(world, n, toy_noise, source) for _ in range(RUNS)]
        val, val2, test = (toy(world, size, toy_noise, source) for size in HELD_OUT.values())
    labels = Generator(seed, STREAMS["labels"])
    noisy = [_with_noise(split, label_noise, labels) for split in (*train, val, val2, test)]
    return Roles(noisy[:RUNS], *noisy[RUNS:])


def _with_noise(split: Split, share: float, source: Generator) -> Split:
    targets: Tensor = split.targets.clone()
    for i in range(len(targets)):
        replaced, other = source.uniform() < share, source.below(split.classes)
        if replaced:
            targets[i] = other
    return replace(split, targets=targets)


def _moons(source: Generator, label: int) -> tuple[float, float]:
    t = pi * source.uniform()
    return (cos(t) - 0.5, sin(t) - 0.25) if label == 0 else (0.5 - cos(t), 0.25 - sin(t))


def _circles(source: Generator, label: int) -> tuple[float, float]:
    t, radius = 2 * pi * source.uniform(), 0.5 if label == 0 else 1.1
    return radius * cos(t), radius * sin(t)


def _xor(source: Generator, label: int) -> tuple[float, float]:
    u, v = 2 * source.uniform() - 1, 2 * source.uniform() - 1
    return u, abs(v) if (u >= 0) == (label == 0) else -abs(v)


def _spirals(source: Generator, label: int) -> tuple[float, float]:
    t = source.uniform()
    angle = 4 * t + 2 * pi * label / 3
    return 1.4 * t * cos(angle), 1.4 * t * sin(angle)


_PLACES = {"moons": _moons, "circles": _circles, "xor": _xor, "spirals": _spirals}
