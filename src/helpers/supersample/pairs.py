"""The draw of a supersample: 2n examples in n pairs, and for every row of coins a training sample."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from helpers._checks import whole
from helpers._generators import generator_from
from helpers._tensors import numbers_of
from helpers.data import Split, as_split, partition
from helpers.supersample.coins import coins_of


@dataclass(frozen=True)
class Supersample:
    """n pairs of examples.

    Attributes:
        examples: 2n of them: pair i holds examples i (column 0) and n + i (column 1). A ``data.Split``, or what
            ``data.as_split`` takes.

    Raises:
        ValueError: if these are no examples, or their number is odd.
    """

    examples: Split

    def __post_init__(self) -> None:
        object.__setattr__(self, "examples", as_split(self.examples))
        if len(self.examples) % 2:
            raise ValueError(f"a supersample holds pairs, so an even number of examples, got {len(self.examples)}")

    @classmethod
    def draw(cls, split: Any, n: int, *, seed: int) -> "Supersample":
        """n pairs at random from a split, without replacement.

        Raises:
            ValueError: if the split holds fewer than 2n examples.
        """
        return cls(partition(split, [2 * whole("n", n)], seed=seed)[0])

    def __len__(self) -> int:
        """n, the number of pairs."""
        return len(self.examples) // 2

    def memberships(self, m: int, *, seed: int) -> Tensor:
        """m rows of n fair coins, (m, n), int64.

        Give a seed that drew neither the pairs nor the sample that they come from: the coins must not depend on them.
        """
        return torch.randint(2, (whole("m", m), len(self)), generator=generator_from(seed))

    def sample(self, coins: Any) -> Split:
        """The training sample (Z_{i, U_i}) of a row of coins, (n,)."""
        return self.examples.take(self._rows(coins_of("coins", coins)))

    def ghosts(self, coins: Any) -> Split:
        """The examples that are left, (Z_{i, 1 - U_i})."""
        return self.examples.take(self._rows(1 - coins_of("coins", coins)))

    def trained_on(self, memberships: Any) -> Tensor:
        """Memberships (m, n) example by example: 1 where it was trained on, (m, 2n).

        Raises:
            ValueError: if the shape is another, or a coin is not 0 or 1.
        """
        coins = coins_of("memberships", memberships)
        if coins.ndim != 2 or coins.shape[1] != len(self):
            raise ValueError(f"memberships must have shape (m, n) with n = {len(self)}, got {tuple(coins.shape)}")
        return torch.cat([1 - coins, coins], dim=1)

    def differences(self, losses: Any) -> Tensor:
        """Delta_i = L_i1 - L_i0 from the losses of all examples: (m, 2n) to (m, n). Whole numbers, yes and no: int64.

        Raises:
            ValueError: as ``of_pairs``.
        """
        pairs = self.of_pairs(losses)
        signed = pairs if pairs.is_floating_point() else pairs.long()
        return signed[..., 1] - signed[..., 0]

    def of_pairs(self, values: Any) -> Tensor:
        """What belongs to the two examples of a pair side by side: (m, 2n) to (m, n, 2).

        Raises:
            ValueError: if these are no numbers, or the shape is another.
        """
        values = numbers_of("values", values)
        if values.ndim != 2 or values.shape[1] != len(self.examples):
            raise ValueError(
                f"give a row a membership and a column for each of the {len(self.examples)} examples, got shape "
                f"{tuple(values.shape)}"
            )
        return torch.stack([values[:, : len(self)], values[:, len(self) :]], dim=2)

    def _rows(self, coins: Tensor) -> Tensor:
        if coins.shape != (len(self),):
            raise ValueError(f"coins must hold {len(self)} zeros and ones, one for each pair; got {tuple(coins.shape)}")
        return torch.arange(len(self)) + len(self) * coins
