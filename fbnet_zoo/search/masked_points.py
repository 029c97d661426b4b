"""Points of a space with ranges, as positions: block, expansion, channels and image size are decisions of their own.

What FBNetV2 (Wan et al., arXiv:2004.05565) masks, each with its own theta.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from fbnet_zoo import layers
from fbnet_zoo.errors import InputError
from fbnet_zoo.plans import ConvPlan, PoolHeadPlan
from fbnet_zoo.space import Choices, LayerChoice, Place, PlacedBlock, Space
from fbnet_zoo.space.layers import OpenLayer
from fbnet_zoo.spec import ArchSpec, BlockSpec

ValueT = TypeVar("ValueT")

SIZE, STEM = 0, 1
"""Which slots are those of the image and of the stem."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A place for a decision; it is none where there is one value only.

    Attributes:
        name: such as `stages.4.0 e`.
        values: to choose from; the names of blocks, or numbers.
    """

    name: str
    values: tuple[Any, ...]

    @property
    def is_open(self) -> bool:
        """Whether there is something to decide."""
        return len(self.values) > 1

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the values."""
        return tuple(value if isinstance(value, str) else f"{value:g}" for value in self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One block that a layer can take, whatever its channels and expansion.

    Attributes:
        candidate: of the space; `None` where the row is one block.
        kernel_size: where it is open.
        block: the widest.
    """

    candidate: str | None
    kernel_size: int | None
    block: PlacedBlock


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedPlace:
    """One layer: what is decided of it.

    Attributes:
        name: of the layer, `stages.<output stride>.<number in the stage>`.
        stride: of the layer.
        branches: what it can be, by name.
        before: channels of the input.
        expansions: that are open; `None` alone where the blocks say theirs.
        after: channels of the output.
        axes: slots of the input's channels, the block, the expansion and the output's channels.
    """

    name: str
    stride: int
    branches: dict[str, Branch]
    before: tuple[int, ...]
    expansions: tuple[float | None, ...]
    after: tuple[int, ...]
    axes: tuple[int, int, int, int]

    def branch_of(self, candidate: str | None, kernel_size: int | None) -> str:
        """Return the name of the branch that was chosen."""
        taken = (candidate, kernel_size)
        return next(name for name, each in self.branches.items() if (each.candidate, each.kernel_size) == taken)

    def block(self, branch: Branch, before: int, expansion: float | None, after: int) -> PlacedBlock:
        """Return a block with its channels and, where it takes one, its expansion."""
        row = branch.block.row
        own = expansion if expansion is not None and row.expansion is not None else row.expansion
        return branch.block.having(before, out_channels=after, expansion=own)


class MaskedPoints:
    """The decisions of a space, and its points as positions: of each decision, which option was taken.

    Args:
        space: whose layers are one block each.

    Attributes:
        space: the search space.
        slots: image size, stem, then of each layer block, expansion and channels, then the head; open or not.
        places: the layers.
        sides: of each image size, that of the image and of what stem and layers put out, px.

    Raises:
        InputError: a layer is several blocks.

    >>> from fbnet_zoo.space import load_space
    >>> [slot.name for slot in MaskedPoints(load_space("fbnetv2_f")).open_slots][:5]
    ['input_size', 'stem c', 'stages.2.0', 'stages.2.0 c', 'stages.4.0']
    """

    def __init__(self, space: Space) -> None:
        _require_single_blocks(space)
        spec = space.spec
        slots = [Slot(name="input_size", values=spec.input_size), Slot(name="stem c", values=spec.stem.out_channels)]
        places: list[MaskedPlace] = []
        for layer, place in zip(space.layers, space.places(), strict=True):
            before = places[-1].axes[-1] if places else STEM
            branches = _branches(layer, place)
            widening = any(branch.block.row.expansion is not None for branch in branches.values())
            expansions = (place.expansions if widening else ()) or (None,)
            after = layer.row.out_channels
            axes = (before, len(slots), len(slots) + 1, len(slots) + 2)
            slots += [Slot(name=layer.name, values=tuple(branches)), Slot(name=f"{layer.name} e", values=expansions)]
            slots.append(Slot(name=f"{layer.name} c", values=after))
            places.append(
                MaskedPlace(
                    name=layer.name,
                    stride=layer.stride,
                    branches=branches,
                    before=slots[before].values,
                    expansions=expansions,
                    after=after,
                    axes=axes,
                )
            )
        slots.append(Slot(name="head c", values=spec.head.out_channels))
        self.space, self.slots, self.places = space, tuple(slots), tuple(places)
        self.sides = tuple(_sides(space, size) for size in spec.input_size)
        self.open_slots = tuple(slot for slot in slots if slot.is_open)

    def full(self, values: Sequence[ValueT], fixed: ValueT) -> tuple[ValueT, ...]:
        """Return one value for each slot: `values`, one for each decision, and `fixed` where nothing is decided."""
        given = iter(values)
        return tuple(next(given) if slot.is_open else fixed for slot in self.slots)

    def heads(self) -> list[list[ConvPlan | PoolHeadPlan]]:
        """Return the plans of the head: for each width of its input, those of each width of its output."""
        frame, after = self.space.frame, self.slots[-1].values
        rows = [frame.head.model_copy(update={"out_channels": channels}) for channels in after]
        return [[_head(frame, row, before) for row in rows] for before in self.places[-1].after]

    def choices(self, positions: Sequence[int]) -> Choices:
        """Return the point at some positions; an expansion that the block does not take is no part of it.

        Raises:
            InputError: a decision has no option there, or the number of positions is not that of the decisions.
        """
        self._check(positions)
        full = self.full(positions, 0)
        pairs = zip(self.slots, full, strict=True)
        values = [slot.values[position] if slot.is_open else None for slot, position in pairs]
        return Choices(
            space=self.space.name,
            input_size=self.slots[SIZE].values[full[SIZE]],
            stem_channels=values[STEM],
            layers=tuple(_choice(place, full, values) for place in self.places),
            head_channels=values[-1],
        )

    def positions(self, choices: Choices) -> tuple[int, ...]:
        """Return the positions of a point; 0 for an expansion that its block does not take.

        Raises:
            InputError: the space does not offer these choices.
        """
        chosen: list[Any] = [choices.input_size, choices.stem_channels]
        for name, choice in zip(self.branches(choices).values(), choices.layers, strict=True):
            chosen += [name, choice.expansion, choice.out_channels]
        pairs = zip(self.slots, [*chosen, choices.head_channels], strict=True)
        return tuple(slot.values.index(value) if value is not None else 0 for slot, value in pairs if slot.is_open)

    def branches(self, choices: Choices) -> dict[str, str]:
        """Return the name of the block that each layer chose, by the layer's name.

        Raises:
            InputError: the space does not offer these choices.
        """
        self.space.decode(choices)
        pairs = zip(self.places, choices.layers, strict=True)
        return {place.name: place.branch_of(choice.candidate, choice.kernel_size) for place, choice in pairs}

    def _check(self, positions: Sequence[int]) -> None:
        name = self.space.name
        if len(positions) != len(self.open_slots):
            raise InputError(f"{name} has {len(self.open_slots)} decisions; {len(positions)} positions are given")
        for slot, position in zip(self.open_slots, positions, strict=True):
            if not 0 <= position < len(slot.values):
                raise InputError(f"{slot.name} has {len(slot.values)} options; there is none at position {position}")


def _require_single_blocks(space: Space) -> None:
    for layer in space.layers:
        if layer.row.repeats != (1,):
            raise InputError(
                f"the space {space.name} has {layer.name} of several blocks ('r'), which channel masks do not cover; "
                "say 'layers' in its row, or take a space such as fbnetv2_f or digits_masking"
            )


def _branches(layer: OpenLayer, place: Place) -> dict[str, Branch]:
    """Return what can stand at a place by its names, with the choices that lead there."""
    kinds = [
        (candidate, size) for candidate in layer.ops for size in layer.options(candidate).get("kernel_size", (None,))
    ]
    return {
        name: Branch(candidate=candidate, kernel_size=size, block=block)
        for (name, block), (candidate, size) in zip(place.blocks.items(), kinds, strict=True)
    }


def _choice(place: MaskedPlace, full: Sequence[int], values: Sequence[Any]) -> LayerChoice:
    _, block, expansion, after = place.axes
    branch = list(place.branches.values())[full[block]]
    return LayerChoice(
        candidate=branch.candidate,
        kernel_size=branch.kernel_size,
        expansion=None if branch.block.row.expansion is None else values[expansion],
        out_channels=values[after],
    )


def _head(frame: ArchSpec, row: BlockSpec, before: int) -> ConvPlan | PoolHeadPlan:
    plan = layers.plan_block(frame, row, before)
    assert isinstance(plan, ConvPlan | PoolHeadPlan)  # noqa: S101 - what heads are
    return plan


def _sides(space: Space, size: int) -> tuple[int, ...]:
    places = space.places(size)
    return (size, *(place.size_in for place in places), places[-1].size_out)
