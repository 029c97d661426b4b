"""From a definition back to the choices that produce it: which layer of a space each block belongs to.

Resolved blocks are compared: how a definition spells them, whether equal blocks share a row and whether a skip that
changes nothing has a row at all make no difference.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from fbnet_zoo import arch_file
from fbnet_zoo.errors import InputError
from fbnet_zoo.planner import ResolvedBlock, resolve, resolve_all
from fbnet_zoo.space.choices import LayerChoice
from fbnet_zoo.space.layers import OpenLayer, words
from fbnet_zoo.space.records import SpaceRow
from fbnet_zoo.spec import ArchSpec, StageSpec


def match_end(place: Literal["stem", "head"], row: SpaceRow, frame: ArchSpec, arch: ArchSpec) -> int | None:
    """Return the channels that the stem or head chose; `None` where the space leaves nothing to choose.

    Raises:
        InputError: the space has no such stem or head.
    """
    own, expected = resolve(arch, getattr(arch, place)), resolve(frame, getattr(frame, place))
    is_open = len(row.out_channels) > 1
    if is_open:
        if own.out_channels not in row.out_channels:
            problem = f"its {place} has {own.out_channels} channels; expected {words(row.out_channels)}"
            raise InputError(problem, location=(place,))
        expected = replace(expected, out_channels=own.out_channels)
    if own != expected:
        text = arch_file.row_text(getattr(arch, place))
        problem = f"its {place} {text} differs from the space's in {_differences(own, expected)}"
        raise InputError(problem, location=(place,))
    return own.out_channels if is_open else None


def match_stages(layers: Sequence[OpenLayer], frame: ArchSpec, arch: ArchSpec) -> tuple[LayerChoice, ...]:
    """Return what each layer chose.

    Args:
        layers: layers of the space.
        frame: any network of the space, for the defaults of its rows.
        arch: the network.

    Raises:
        InputError: no choices give these stages; `location` is the first row that is not in the space.
    """
    found: list[LayerChoice] = []
    channels = arch.stem.out_channels
    stages = {stage.output_stride: (position, stage) for position, stage in enumerate(arch.stages)}
    known = [stage.output_stride for stage in frame.stages]
    for stride, (position, _) in stages.items():
        if stride not in known:
            raise InputError(f"the space has no stage {stride}", location=("stages", position))
    for stride in known:
        position, stage = stages.get(stride, (len(stages), StageSpec(output_stride=stride, blocks=())))
        own = [layer for layer in layers if layer.output_stride == stride]
        found += _StageMatch(own, frame, arch, stage, position, channels).solve()
        channels = stage.blocks[-1].out_channels if stage.blocks else channels
    return tuple(found)


@dataclass(slots=True)
class _StageMatch:
    """Finds which blocks belong to which layer, by backtracking; each state is visited once.

    Whole rows come first, then few blocks, so that a definition written by `decode` is read back as it was written.
    """

    layers: Sequence[OpenLayer]
    frame: ArchSpec
    arch: ArchSpec
    stage: StageSpec
    position: int
    channels: int
    blocks: list[ResolvedBlock] = field(default_factory=list)
    row_of: list[int] = field(default_factory=list)
    dead: set[tuple[int, int]] = field(default_factory=set)

    def solve(self) -> list[LayerChoice]:
        for index, row in enumerate(self.stage.blocks):
            for block in resolve_all(self.arch, row):
                self.blocks.append(block)
                self.row_of.append(index)
        found = self.search(0, 0)
        if found is None:
            raise self.mismatch()
        return found

    def search(self, layer: int, block: int) -> list[LayerChoice] | None:
        """Return the choices of the layers from `layer` on that give the blocks from `block` on."""
        if layer == len(self.layers) and block == len(self.blocks):
            return []
        if layer < len(self.layers) and (layer, block) not in self.dead:
            for choice, count in self.fitting(self.layers[layer], block):
                rest = self.search(layer + 1, block + count)
                if rest is not None:
                    return [choice, *rest]
        self.dead.add((layer, block))
        return None

    def fitting(self, layer: OpenLayer, block: int) -> Iterator[tuple[LayerChoice, int]]:
        """Yield what the layer may have chosen, with the number of blocks that this gives."""
        counts = [count for count in layer.row.repeats if block + count <= len(self.blocks)]
        counts.sort(key=lambda count: not self.ends_row(block + count))
        for count in counts:
            blocks = self.blocks[block : block + count]
            for candidate in layer.ops:
                choice = _proposal(layer, candidate, blocks)
                if choice is not None and self.makes(layer, choice, blocks):
                    yield choice, count
        yield from ((choice, 0) for choice in self.left_out(layer, block))

    def ends_row(self, block: int) -> bool:
        return block == len(self.blocks) or self.row_of[block] != self.row_of[block - 1]

    def makes(self, layer: OpenLayer, choice: LayerChoice, blocks: list[ResolvedBlock]) -> bool:
        return [block for row in layer.rows(choice) for block in resolve_all(self.frame, row)] == blocks

    def left_out(self, layer: OpenLayer, block: int) -> Iterator[LayerChoice]:
        """Yield the skip that changes nothing, for which a definition needs no row."""
        channels = self.blocks[block - 1].out_channels if block else self.channels
        if layer.stride == 1 and channels in layer.row.out_channels:
            for candidate, op in layer.ops.items():
                if op == "skip" and candidate is not None:
                    open_channels = {"out_channels": channels} if len(layer.row.out_channels) > 1 else {}
                    yield LayerChoice(candidate=candidate, **open_channels)

    def mismatch(self) -> InputError:
        """Return the error for the first row that no reading of the rows before it explains."""
        block = max(block for _, block in self.dead)
        layer = min(layer for layer, reached in self.dead if reached == block)
        if block == len(self.blocks):
            problem = f"stage {self.stage.output_stride} has no row for {self.layers[layer].name}"
            return InputError(f"{problem}; expected {self.layers[layer].offer()}", location=("stages", self.position))
        index = self.row_of[block]
        row = f"row {index + 1} of stage {self.stage.output_stride}, {arch_file.row_text(self.stage.blocks[index])},"
        if layer == len(self.layers):
            problem = f"{row} is one row too many; the stage has {len(self.layers)} layers in the space"
        else:
            problem = f"{row} is not in the space; {self.layers[layer].name} offers {self.layers[layer].offer()}"
            problem += self.nearest(self.layers[layer], self.blocks[block])
        return InputError(problem, location=("stages", self.position, "blocks", index))

    def nearest(self, layer: OpenLayer, block: ResolvedBlock) -> str:
        """Return the choice from which a block differs least, and the differences, for an error."""
        proposals = [(candidate, _proposal(layer, candidate, [block])) for candidate in layer.ops]
        made = [
            (str(candidate or "this"), _differences(block, resolve(self.frame, layer.rows(choice)[0])))
            for candidate, choice in proposals
            if choice is not None and layer.ops[candidate] == block.op
        ]
        return "; it differs from {} in {}".format(*min(made, key=lambda pair: len(pair[1]))) if made else ""


def _differences(own: ResolvedBlock, expected: ResolvedBlock) -> str:
    names = [each.name for each in fields(own) if getattr(own, each.name) != getattr(expected, each.name)]
    return " and ".join(f"{name!r} ({getattr(own, name)} instead of {getattr(expected, name)})" for name in names)


def _proposal(layer: OpenLayer, candidate: str | None, blocks: Sequence[ResolvedBlock]) -> LayerChoice | None:
    """Return the choice that some blocks suggest; `None` where the layer does not offer it."""
    first, last = blocks[0], blocks[-1]
    suggested: dict[str, Any] = {
        "kernel_size": first.kernel_size,
        "expansion": first.expansion,
        "se_ratio": first.se_ratio,
        "out_channels": first.out_channels,
        "repeats": len(blocks),
        "rest_kernel_size": last.kernel_size,
        "rest_expansion": last.expansion,
        "rest_se_ratio": last.se_ratio,
    }
    options = layer.options(candidate)
    if any(suggested[name] not in values for name, values in options.items()):
        return None
    return LayerChoice(candidate=candidate, **{name: suggested[name] for name in options})
