"""Random numbers that a page and a notebook draw alike: PCG32 (O'Neill 2014), the twin of ``random.js``.

Same seed and stream, same numbers, on every machine and in every browser. A stream is a sequence of its own, so that
data, weights, orders and noise do not disturb each other.
"""

from math import cos, log, pi, sqrt

import numpy as np

# The last three plus the number of the run.
STREAMS = {"data": 1, "labels": 2, "weights": 3, "orders": 100, "noise": 200, "directions": 300}
MULTIPLIER, WORD = 6364136223846793005, 2**64


class Generator:
    """PCG32: 64 bits of state, 32 bits a draw.

    Args:
        seed: 0 to 2^32 - 1.
        stream: which of the sequences, below 2^31.
    """

    def __init__(self, seed: int, stream: int) -> None:
        self.increment = 2 * stream + 1
        self.state = 0
        self.draw()
        self.state = (self.state + seed) % WORD
        self.draw()

    def draw(self) -> int:
        """0 to 2^32 - 1: a rotation of the old state."""
        old, self.state = self.state, (self.state * MULTIPLIER + self.increment) % WORD
        mixed, turn = ((old >> 18 ^ old) >> 27) & 0xFFFFFFFF, old >> 59
        return (mixed >> turn | mixed << (-turn & 31)) & 0xFFFFFFFF

    def uniform(self) -> float:
        """In (0, 1)."""
        return (self.draw() + 0.5) / 2**32

    def below(self, n: int) -> int:
        """0 to n - 1, each with probability 1/n up to n / 2^32."""
        return self.draw() * n >> 32

    def normal(self) -> float:
        """Standard normal, by Box and Muller: two draws for one number."""
        radius = sqrt(-2 * log(self.uniform()))
        return radius * cos(2 * pi * self.uniform())

    def permutation(self, n: int) -> np.ndarray:
        """0, ..., n - 1 in random order, (n,), int64, by Fisher and Yates."""
        order = np.arange(n)
        for i in range(n - 1, 0, -1):
            j = self.below(i + 1)
            order[[i, j]] = order[[j, i]]
        return order
