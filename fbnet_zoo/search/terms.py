"""Costs of the parts of a network as tables, with an entry for each combination of the values they depend on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Term:
    """The cost of one part of a network.

    Attributes:
        axes: encoding slots that the cost depends on.
        values: (*options of the axes, summands); a cost is the sum of its summands, in order.
        repeated_by: slot of the number of repetitions, if open or not 1.
        repeats: number of repetitions for each option of that slot.
    """

    axes: tuple[int, ...]
    values: NDArray[np.float64]
    repeated_by: int | None = None
    repeats: tuple[int, ...] = (1,)

    @classmethod
    def of(cls, axes: tuple[int, ...], shape: tuple[int, ...], costs: Sequence[tuple[float, ...]]) -> Self:
        """Return a term from costs in the order of the options, the last axis varying fastest."""
        most = max(map(len, costs))
        padded = [(*summands, *(0.0,) * (most - len(summands))) for summands in costs]
        return cls(axes=axes, values=np.array(padded, dtype=np.float64).reshape(*shape, most))

    def over_sizes(self, count: int) -> Self:
        """Return the term with `count` options on its first axis, which has length 1 if sizes do not matter."""
        return replace(self, values=np.broadcast_to(self.values, (count, *self.values.shape[1:])))

    @cached_property
    def _rows(self) -> list[list[float]]:
        return self.values.reshape(-1, self.values.shape[-1]).tolist()

    @cached_property
    def _columns(self) -> NDArray[np.float64]:
        return np.ascontiguousarray(self.values.reshape(-1, self.values.shape[-1]).T)

    @cached_property
    def _strides(self) -> tuple[int, ...]:
        lengths = self.values.shape[:-1]
        return tuple(int(np.prod(lengths[at + 1 :])) for at in range(len(lengths)))

    def summands(self, full: Sequence[int]) -> list[float]:
        """Return the summands for one network, given its positions in all slots."""
        row = self._rows[sum(full[axis] * stride for axis, stride in zip(self.axes, self._strides, strict=True))]
        return row if self.repeated_by is None else row * self.repeats[full[self.repeated_by]]

    def columns(self, full: Sequence[NDArray[np.int64]]) -> Iterator[NDArray[np.float64]]:
        """Yield the summands for a population, each (networks,), given its positions in all slots."""
        zero = np.zeros((), dtype=np.int64)
        index = sum((full[axis] * stride for axis, stride in zip(self.axes, self._strides, strict=True)), zero)
        found = [column[index] for column in self._columns]
        if self.repeated_by is None:
            yield from found
            return
        times = np.array(self.repeats)[full[self.repeated_by]]
        for done in range(max(self.repeats)):
            yield from (np.where(times > done, values, 0.0) for values in found)
