"""The slots of a search space: every value of its networks, and the layers that the values make."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fbnet_zoo.space.choices import LayerChoice
from fbnet_zoo.space.layers import OpenLayer
from fbnet_zoo.space.places import Place, PlacedBlock
from fbnet_zoo.space.space import Space

SIZE, STEM = 0, 1
"""Slots of the image size and of the stem channels."""

_FIELDS = ("kernel_size", "expansion", "se_ratio")
"""Fields of a block that may be open; the blocks after the first may have their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A value that every network has; a decision if there are several options.

    Attributes:
        name: name of the slot, such as `stages.4.0 e`.
        values: options: names of blocks, or numbers.
    """

    name: str
    values: tuple[Any, ...]

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the values."""
        return tuple(value if isinstance(value, str) else f"{value:g}" for value in self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A block that a layer can have, with any of its channels, expansions and squeeze-excite ratios.

    Attributes:
        candidate: name in the space; `None` if the row is a single block.
        kernel_size: kernel size, if open.
        block: the widest block.
        widens: whether the expansion is open.
        squeezes: whether the squeeze-excite ratio is open.
    """

    candidate: str | None
    kernel_size: int | None
    block: PlacedBlock
    widens: bool
    squeezes: bool

    def having(self, before: int, expansion: float | None, after: int, se_ratio: float | None = None) -> PlacedBlock:
        """Return the block with given input channels, expansion and ratio (if open) and output channels."""
        row = self.block.row
        own = expansion if expansion is not None and row.expansion else row.expansion
        ratio = se_ratio if se_ratio is not None and row.se_ratio else row.se_ratio
        return self.block.having(before, out_channels=after, expansion=own, se_ratio=ratio)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedRest:
    """The blocks of a layer after the first.

    Attributes:
        repeats: number of these blocks, for each option.
        branches: possible blocks; one without its own kernel shares the positions of the first block.
        axes: slots of the number of blocks, the channels, the kernel, the expansion and the squeeze-excite ratio.
        expansions: values of the expansion slot.
        se_ratios: values of the slot of the ratio.
    """

    repeats: tuple[int, ...]
    branches: tuple[Branch, ...]
    axes: tuple[int, int, int, int, int]
    expansions: tuple[float | None, ...]
    se_ratios: tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedLayer:
    """A layer of the space: the possible first blocks, and the slots that decide.

    Attributes:
        name: `stages.<output stride>.<number in the stage>`.
        stride: stride of the first block.
        branches: possible first blocks, by name.
        before: input channels.
        expansions: open expansions; only `None` if the blocks have fixed ones.
        se_ratios: open squeeze-excite ratios; only `None` if the blocks have fixed ones.
        after: output channels.
        axes: slots of the input channels, the block, the expansion, the ratio and the output channels.
        rest: blocks after the first; `None` if there are none.
    """

    name: str
    stride: int
    branches: dict[str, Branch]
    before: tuple[int, ...]
    expansions: tuple[float | None, ...]
    se_ratios: tuple[float | None, ...]
    after: tuple[int, ...]
    axes: tuple[int, int, int, int, int]
    rest: EncodedRest | None

    @property
    def skip(self) -> int | None:
        """Position of the block that skips the layer; `None` if there is none."""
        ops = [branch.block.row.op for branch in self.branches.values()]
        return ops.index("skip") if "skip" in ops else None

    def branch_of(self, choice: LayerChoice) -> str:
        """Return the name of a chosen block."""
        taken = (choice.candidate, choice.kernel_size)
        return next(name for name, each in self.branches.items() if (each.candidate, each.kernel_size) == taken)


def placed_layers(space: Space, size: int) -> Iterator[tuple[OpenLayer, Place, Place | None]]:
    """Yield each layer with the place of its first block and, if it may have more blocks, that of the rest."""
    places = iter(space.places(size))
    for layer in space.layers:
        yield layer, next(places), next(places) if layer.row.repeats[-1] > 1 else None


def encoded_layer(
    layer: OpenLayer, place: Place, rest: Place | None, before: tuple[int, ...], slots: tuple[int, int]
) -> EncodedLayer:
    """Return an encoded layer; `slots` are the slot of its input channels and its own first slot."""
    branches = dict(_branches(layer, place, _FIELDS))
    widening = any(branch.block.row.expansion for branch in branches.values())
    squeezing = any(branch.block.row.se_ratio for branch in branches.values())
    into, first = slots
    found = EncodedLayer(
        name=layer.name,
        stride=layer.stride,
        branches=branches,
        before=before,
        expansions=(place.expansions if widening else ()) or (None,),
        se_ratios=(place.se_ratios if squeezing else ()) or (None,),
        after=layer.row.out_channels,
        axes=(into, first, first + 1, first + 2, first + 3),
        rest=None,
    )
    return replace(found, rest=_encoded_rest(layer, rest, found)) if rest else found


def _encoded_rest(layer: OpenLayer, place: Place, first: EncodedLayer) -> EncodedRest:
    own = [getattr(layer.row.rest, field, None) is not None for field in _FIELDS]
    fields = [f"rest_{field}" if is_own else field for field, is_own in zip(_FIELDS, own, strict=True)]
    (_, *shared, after), (_, expansion, ratio) = first.axes, own
    kernel_at, expansion_at, ratio_at = (after + 2 + at if is_own else shared[at] for at, is_own in enumerate(own))
    return EncodedRest(
        repeats=tuple(count - 1 for count in layer.row.repeats),
        branches=tuple(branch for _, branch in _branches(layer, place, fields)),
        axes=(after + 1, after, kernel_at, expansion_at, ratio_at),
        expansions=(place.expansions or (None,)) if expansion else first.expansions,
        se_ratios=(place.se_ratios or (None,)) if ratio else first.se_ratios,
    )


def _branches(layer: OpenLayer, place: Place, fields: Sequence[str]) -> Iterator[tuple[str, Branch]]:
    """Yield the names of the possible blocks at a place, with the choices that select them.

    `fields` are those of a choice that hold the kernel, the expansion and the squeeze-excite ratio.
    """
    kernel, expansion, ratio = fields
    kinds = [(candidate, size) for candidate in layer.ops for size in layer.options(candidate).get(kernel, (None,))]
    for (name, block), (candidate, size) in zip(place.blocks.items(), kinds, strict=True):
        widens, squeezes = (field in layer.options(candidate) for field in (expansion, ratio))
        yield name, Branch(candidate=candidate, kernel_size=size, block=block, widens=widens, squeezes=squeezes)


def layer_slots(layer: OpenLayer, encoded: EncodedLayer) -> Iterator[Slot]:
    """Yield the slots of a layer, in the order of their axes."""
    rest = layer.row.rest
    yield Slot(name=layer.name, values=tuple(encoded.branches))
    yield Slot(name=f"{layer.name} e", values=encoded.expansions)
    yield Slot(name=f"{layer.name} se", values=encoded.se_ratios)
    yield Slot(name=f"{layer.name} c", values=encoded.after)
    yield Slot(name=f"{layer.name} r", values=layer.row.repeats)
    yield Slot(name=f"{layer.name} rest k", values=(rest and rest.kernel_size) or (None,))
    yield Slot(name=f"{layer.name} rest e", values=(rest and rest.expansion) or (None,))
    yield Slot(name=f"{layer.name} rest se", values=(rest and rest.se_ratio) or (None,))
