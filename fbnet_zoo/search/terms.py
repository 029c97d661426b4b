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

    def of_decisions(self, decided: Sequence[int]) -> Self:
        """Return the term with decisions instead of slots as axes, and its repetitions unrolled.

        Args:
            decided: slots of the decisions, in order; any other slot has its first option.
        """
        term = self._unrolled()
        kept = tuple(slice(None) if axis in decided else 0 for axis in term.axes)
        axes = tuple(decided.index(axis) for axis in term.axes if axis in decided)
        return replace(term, axes=axes, values=term.values[kept])

    def _unrolled(self) -> Self:
        """Return the term with the repetitions as its last axis; a part that is not repeated adds 0."""
        if self.repeated_by is None:
            return self
        *options, summands = self.values.shape
        runs = np.array(self.repeats)[:, None, None] > np.arange(max(self.repeats))[:, None]
        values = np.where(runs, self.values[..., None, None, :], 0.0)  # (*options, repeats, repetitions, summands)
        shape = (*options, len(self.repeats), max(self.repeats) * summands)
        return replace(
            self, axes=(*self.axes, self.repeated_by), values=values.reshape(shape), repeated_by=None, repeats=(1,)
        )

    def joined(self, join: np.ufunc) -> Self:
        """Return a term of decisions with a single summand: all of them, joined."""
        return replace(self, values=join.reduce(self.values, axis=-1, keepdims=True))

    @cached_property
    def _rows(self) -> list[list[float]]:
        return self.values.reshape(-1, self.values.shape[-1]).tolist()

    @cached_property
    def _columns(self) -> tuple[NDArray[np.float64], ...]:
        return tuple(np.ascontiguousarray(self.values.reshape(-1, self.values.shape[-1]).T))

    @cached_property
    def _strides(self) -> tuple[int, ...]:
        lengths = self.values.shape[:-1]
        return tuple(int(np.prod(lengths[at + 1 :])) for at in range(len(lengths)))

    @cached_property
    def _steps(self) -> tuple[tuple[int, int], ...]:
        """Axis and stride of every axis with several options."""
        each = zip(self.axes, self._strides, self.values.shape, strict=False)
        return tuple((axis, stride) for axis, stride, length in each if length > 1)

    def summands(self, full: Sequence[int]) -> list[float]:
        """Return the summands for one network, given its positions in all slots."""
        row = self._rows[sum(full[axis] * stride for axis, stride in zip(self.axes, self._strides, strict=True))]
        return row if self.repeated_by is None else row * self.repeats[full[self.repeated_by]]

    def columns(self, population: NDArray[np.int64]) -> Iterator[NDArray[np.float64]]:
        """Yield the summands of a term of decisions for a population, each (networks,) or ().

        Args:
            population: positions, (decisions, networks).
        """
        index = np.zeros((), dtype=np.int64)
        for at, (axis, stride) in enumerate(self._steps):
            own = population[axis] if stride == 1 else population[axis] * stride
            index = index + own if at else own
        for column in self._columns:
            yield column.take(index)
