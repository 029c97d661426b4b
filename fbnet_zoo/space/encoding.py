"""A search space as integers: decisions with options, and networks as one position per decision.

Search methods, predictors and tables of accuracies work on this encoding. Every open value of the space is a decision:
the image size; the channels of the stem; for each layer its block (with its kernel, if open), expansion, squeeze-excite
ratio, channels, number of blocks, and kernel, expansion and ratio of the blocks after the first; the channels of the
head.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fbnet_zoo import planner
from fbnet_zoo.errors import InputError
from fbnet_zoo.plans import ConvPlan, PoolHeadPlan
from fbnet_zoo.space.choices import Choices, LayerChoice
from fbnet_zoo.space.slots import SIZE, STEM, EncodedLayer, Slot, encoded_layer, layer_slots, placed_layers
from fbnet_zoo.space.space import Space
from fbnet_zoo.spec import ArchSpec, BlockSpec, Record

ValueT = TypeVar("ValueT")

Positions = tuple[int, ...]
"""A network: the position of the chosen option of each decision."""

Population = NDArray[np.int64]
"""Several networks, (networks, decisions)."""


def neighbors(positions: Positions, counts: Sequence[int]) -> Iterator[Positions]:
    """Yield the networks that differ in one decision, given the number of options of each."""
    for decision, count in enumerate(counts):
        for position in range(count):
            if position != positions[decision]:
                yield (*positions[:decision], position, *positions[decision + 1 :])


class Decision(Record):
    """A choice that defines a network of the space.

    Attributes:
        name: name of the decision, such as `stages.4.0 e`.
        options: names of its options.
    """

    name: str
    options: tuple[str, ...]


class Encoding:
    """The decisions of a space, and its networks as positions.

    Args:
        space: any search space.
        input_size: fixed side of the image, px, not necessarily one of the space's (default: all sizes of the space).

    Attributes:
        space: the search space.
        slots: image size; stem; for each layer block, expansion, squeeze-excite ratio, channels, number of blocks,
            kernel, expansion and ratio of the rest; head. The open ones are the decisions, in order.
        layers: layers of the space.
        sides: sides of the image and of the outputs of stem and layers, px, for each image size.
        decided: slots of the decisions, in order.

    Raises:
        InputError: the image size is invalid.

    >>> from fbnet_zoo.space import load_space
    >>> encoding = Encoding(load_space("digits_tiny"))
    >>> encoding.decisions[0]
    Decision(name='stages.2.0', options=('k3_e1', 'k3_e3', 'k3_e6', 'k5_e3', 'k5_e6', 'skip'))
    >>> encoding.positions(encoding.choices((0, 1, 2, 3, 4, 5, 0)))
    (0, 1, 2, 3, 4, 5, 0)
    """

    def __init__(self, space: Space, input_size: int | None = None) -> None:
        sizes = space.spec.input_size if input_size is None else (input_size,)
        slots = [Slot(name="input_size", values=sizes), Slot(name="stem c", values=space.spec.stem.out_channels)]
        layers, before = [], STEM
        for layer, first, rest in placed_layers(space, sizes[-1]):
            layers.append(encoded_layer(layer, first, rest, slots[before].values, (before, len(slots))))
            slots += layer_slots(layer, layers[-1])
            before = layers[-1].axes[-1]
        slots.append(Slot(name="head c", values=space.spec.head.out_channels))
        self.space, self.slots, self.layers = space, tuple(slots), tuple(layers)
        self.sides = tuple(_sides(space, size) for size in sizes)
        self.decided = self._decided()

    def _decided(self) -> tuple[int, ...]:
        """Return the slots of the decisions."""
        return tuple(at for at, slot in enumerate(self.slots) if len(slot.values) > 1)

    @cached_property
    def decisions(self) -> tuple[Decision, ...]:
        """The decisions, in the order of a network's positions."""
        return tuple(Decision(name=self.slots[at].name, options=self.slots[at].options) for at in self.decided)

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Number of options of each decision."""
        return tuple(len(self.slots[at].values) for at in self.decided)

    @property
    def input_size(self) -> int:
        """Side of the image, px; the largest if the size is a decision."""
        return self.slots[SIZE].values[-1]

    @cached_property
    def skips(self) -> tuple[int | None, ...]:
        """Position of the option of each decision that skips a layer; `None` if there is none."""
        own = {layer.name: layer.skip for layer in self.layers}
        return tuple(own.get(self.slots[at].name) for at in self.decided)

    def full(self, values: Sequence[ValueT], fixed: ValueT) -> tuple[ValueT, ...]:
        """Return a value for each slot: one of `values` for a decision, `fixed` for any other slot."""
        given = dict(zip(self.decided, values, strict=True))
        return tuple(given.get(at, fixed) for at in range(len(self.slots)))

    def choices(self, positions: Sequence[int]) -> Choices:
        """Return the choices at some positions, without values that the chosen blocks do not have.

        Raises:
            InputError: a position is out of range, or the number of positions differs from the number of decisions.
        """
        self._check(positions)
        full = self.full(positions, 0)
        pairs = zip(self.slots, full, strict=True)
        values = [slot.values[at] if len(slot.values) > 1 else None for slot, at in pairs]
        size, offered = self.slots[SIZE].values[full[SIZE]], self.space.spec.input_size
        return Choices(
            space=self.space.name,
            input_size=size if size in offered else offered[-1],
            stem_channels=values[STEM],
            layers=tuple(_choice(layer, full, values) for layer in self.layers),
            head_channels=values[-1],
        )

    def positions(self, choices: Choices) -> Positions:
        """Return the positions of choices, with 0 for values that the chosen blocks do not have.

        Raises:
            InputError: the space does not offer these choices.
        """
        self.space.decode(choices)
        chosen: list[Any] = [choices.input_size, choices.stem_channels]
        for layer, choice in zip(self.layers, choices.layers, strict=True):
            chosen += [layer.branch_of(choice), choice.expansion, choice.se_ratio, choice.out_channels]
            chosen += [choice.repeats, choice.rest_kernel_size, choice.rest_expansion, choice.rest_se_ratio]
        chosen.append(choices.head_channels)
        pairs = ((self.slots[at].values, chosen[at]) for at in self.decided)
        return tuple(values.index(value) if value is not None else 0 for values, value in pairs)

    def blocks(self, positions: Sequence[int]) -> dict[str, str]:
        """Return layer name to the name of its chosen block."""
        full = self.full(positions, 0)
        return {layer.name: tuple(layer.branches)[full[layer.axes[1]]] for layer in self.layers}

    def definition(self, positions: Sequence[int], *, name: str | None = None) -> ArchSpec:
        """Return the definition of the network at some positions.

        Args:
            positions: position of the option of each decision.
            name: network name (default: the space's name and a digest of the choices).

        Raises:
            InputError: there is no such network.
        """
        arch = self.space.decode(self.choices(positions), name=name)
        size = self.slots[SIZE].values[self.full(positions, 0)[SIZE]]
        return arch if arch.input_size == size else arch.model_copy(update={"input_size": size})

    def heads(self) -> list[list[ConvPlan | PoolHeadPlan]]:
        """Return the plans of the head, for each width of its input and each width of its output."""
        frame = self.space.frame
        rows = [frame.head.model_copy(update={"out_channels": channels}) for channels in self.slots[-1].values]
        return [[_head(frame, row, before) for row in rows] for before in self.layers[-1].after]

    def canonical(self, population: ArrayLike) -> Population:
        """Return networks with 0 for every value that their blocks do not have: equal rows are equal networks.

        Args:
            population: positions, (networks, decisions).
        """
        found = np.array(population, dtype=np.int64, ndmin=2)
        column = {slot: at for at, slot in enumerate(self.decided)}
        for layer in self.layers:
            _, block, expansion, ratio, _ = layer.axes
            branches = layer.branches.values()
            flags = ((expansion, "widens"), (ratio, "squeezes"))
            for slot, flag in (each for each in flags if each[0] in column):
                has = np.array([getattr(branch, flag) for branch in branches])
                taken = found[:, column[block]] if block in column else np.zeros(len(found), dtype=np.int64)
                found[~has[taken], column[slot]] = 0
        return found

    def _check(self, positions: Sequence[int]) -> None:
        if len(positions) != len(self.decisions):
            raise InputError(
                f"{self.space.name} has {len(self.decisions)} decisions, but {len(positions)} positions are given"
            )
        for decision, at in zip(self.decisions, positions, strict=True):
            if not 0 <= at < len(decision.options):
                raise InputError(f"{decision.name} has {len(decision.options)} options, but none at position {at}")


def _choice(layer: EncodedLayer, full: Sequence[int], values: Sequence[Any]) -> LayerChoice:
    _, block, expansion, ratio, after = layer.axes
    branch = list(layer.branches.values())[full[block]]
    return LayerChoice(
        candidate=branch.candidate,
        kernel_size=branch.kernel_size,
        expansion=values[expansion] if branch.widens else None,
        se_ratio=values[ratio] if branch.squeezes else None,
        out_channels=values[after],
        repeats=values[after + 1],
        rest_kernel_size=values[after + 2],
        rest_expansion=values[after + 3],
        rest_se_ratio=values[after + 4],
    )


def _head(frame: ArchSpec, row: BlockSpec, before: int) -> ConvPlan | PoolHeadPlan:
    plan = planner.plan_block(frame, row, before)
    assert isinstance(plan, ConvPlan | PoolHeadPlan)  # noqa: S101 - the two kinds of heads
    return plan


def _sides(space: Space, size: int) -> tuple[int, ...]:
    """Return the sides of the image and of the outputs of stem and layers, px."""
    sides = [(first.size_in, first.size_out) for _, first, _ in placed_layers(space, size)]
    return (size, *(before for before, _ in sides), sides[-1][1])
