"""Search spaces: their networks, and what those consist of."""

import hashlib
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

from pydantic import ValidationError

from fbnet_zoo.errors import InputError, did_you_mean, require_whole
from fbnet_zoo.layers import MAX_SIZE
from fbnet_zoo.planner import plan_block
from fbnet_zoo.plans import BlockPlan
from fbnet_zoo.space.choices import Choices
from fbnet_zoo.space.encode import match_end, match_stages
from fbnet_zoo.space.layers import OpenLayer, Pick, open_layers, single_row, words
from fbnet_zoo.space.places import Place, PlacedBlock, placed_blocks, places
from fbnet_zoo.space.records import SpaceRow, SpaceSpec, VariantSpec
from fbnet_zoo.spec import MAX_SEED, ArchSpec


@dataclass(frozen=True, kw_only=True)
class Space:
    """A search space: a macro-structure whose layers choose.

    A point is a `Choices` record: the choices of its `layers`, in order, its input size, and the channels of stem and
    head where they are open. `decode` turns a point into a definition, `encode` a definition into a point.

    >>> from fbnet_zoo.space import load_space
    >>> space = load_space("fbnet")
    >>> space.size() == 9**22
    True
    >>> space.encode(space.decode(space.sample(0))) == space.sample(0)
    True
    """

    spec: SpaceSpec

    @property
    def name(self) -> str:
        """Name of the space."""
        return self.spec.name

    @cached_property
    def layers(self) -> tuple[OpenLayer, ...]:
        """The layers that choose, in order."""
        return tuple(open_layers(self.spec))

    @cached_property
    def frame(self) -> ArchSpec:
        """One network of the space, whose defaults are those of all."""
        return self._frames[None]

    def size(self) -> int:
        """Return the number of networks, exactly; variants and the training recipe are not counted."""
        spec = self.spec
        ends = len(spec.input_size) * len(spec.stem.out_channels) * len(spec.head.out_channels)
        return ends * math.prod(layer.size() for layer in self.layers)

    def sample(self, seed: int) -> Choices:
        """Return a random point, the same for the same seed; every open value is drawn uniformly.

        Raises:
            InputError: the seed is negative or not a whole number.
        """
        require_whole("seed", seed, low=0, high=MAX_SEED)
        return self.draw(random.Random(seed).choice)  # noqa: S311 - nothing here is secret

    def draw(self, pick: Pick) -> Choices:
        """Return the point that `pick` selects, value by value."""
        return Choices(
            space=self.name,
            input_size=pick(self.spec.input_size),
            stem_channels=_drawn(self.spec.stem, pick),
            layers=tuple(layer.draw(pick) for layer in self.layers),
            head_channels=_drawn(self.spec.head, pick),
        )

    def decode(self, choices: Choices, *, name: str | None = None) -> ArchSpec:
        """Return the definition of a point.

        Args:
            choices: the point.
            name: name of the network (default: the space's name and a digest of the choices).

        Raises:
            InputError: the space does not offer these choices, or `name` is not valid.
        """
        self._check(choices)
        digest = hashlib.sha256(choices.model_dump_json(exclude_none=True).encode()).hexdigest()
        fields = {
            "name": name or f"{self.name[:50]}_{digest[:12]}",
            "family": self.spec.family,
            "summary": f"A network of the search space {self.name}.",
            "input_size": choices.input_size,
            "stem": single_row(self.spec.stem, choices.stem_channels),
            "stages": tuple(self._stages(choices)),
            "head": single_row(self.spec.head, choices.head_channels),
        }
        parts = ("bn_eps", "zero_init_residual", "defaults", "classifier")
        given = {part: getattr(self.spec, part) for part in parts if part in self.spec.model_fields_set}
        try:
            return ArchSpec.model_validate(fields | given | self._variant(choices.variant))
        except ValidationError as error:
            raise _input_error(error) from error

    def encode(self, arch: ArchSpec) -> Choices:
        """Return the point of a network.

        Raises:
            InputError: the network is not in the space; text and `location` give the first row that is not.
        """
        problems = []
        for variant in (None, *(each.name for each in self.spec.variants)):
            try:
                return self._encode(arch, variant)
            except InputError as error:
                problems.append(error)
        furthest = max(problems, key=lambda error: _progress(error.location))
        problem = f"{arch.name} is not in the search space {self.name}: {furthest}"
        raise InputError(problem, location=furthest.location)

    def places(self, input_size: int | None = None) -> tuple[Place, ...]:
        """Return the places of the network with their possible blocks: what a supernet consists of.

        Args:
            input_size: side of the image, px (default: the largest of the space).

        Raises:
            InputError: the size is not valid.
        """
        return tuple(places(self.layers, self.frame, self.spec, self._sizes(input_size)[-1]))

    def operators(self, input_size: int | None = None) -> tuple[PlacedBlock, ...]:
        """Return the distinct blocks of all networks, in order, stem and head included: what a latency table holds.

        Blocks that differ in channels or expansion are distinct; skips that return their input are left out.

        Args:
            input_size: side of the image, px (default: all sizes of the space).

        Raises:
            InputError: the size is not valid.

        >>> from fbnet_zoo.space import load_space
        >>> len(load_space("fbnet").operators())  # 12 shapes, 6 of which a skip changes, stem and head
        104
        """
        sizes = self._sizes(input_size)
        found = (block for size in sizes for block in placed_blocks(self.layers, self.frame, self.spec, size))
        return tuple(dict.fromkeys(found))

    def plan(self, block: PlacedBlock) -> BlockPlan:
        """Return the layers of a block of this space."""
        return plan_block(self.frame, block.row, block.in_channels)

    def _sizes(self, input_size: int | None) -> tuple[int, ...]:
        if input_size is None:
            return self.spec.input_size
        require_whole("input_size", input_size, low=8, high=MAX_SIZE)
        return (input_size,)

    @cached_property
    def _frames(self) -> dict[str | None, ArchSpec]:
        first = self.draw(lambda options: options[0])
        variants = (each.name for each in self.spec.variants)
        return {name: self.decode(first.model_copy(update={"variant": name})) for name in (None, *variants)}

    def _encode(self, arch: ArchSpec, variant: str | None) -> Choices:
        frame = self._frames[variant]
        if arch.input_size not in self.spec.input_size:
            problem = f"its input_size is {arch.input_size}; expected {words(self.spec.input_size)}"
            raise InputError(problem, location=("input_size",))
        stem = match_end("stem", self.spec.stem, frame, arch)
        chosen = match_stages(self.layers, frame, arch)
        head = match_end("head", self.spec.head, frame, arch)
        for part in ("classifier", "bn_eps", "zero_init_residual"):
            if getattr(arch, part) != getattr(frame, part):
                problem = f"its {part} is {getattr(arch, part)}; expected {getattr(frame, part)}"
                raise InputError(problem, location=(part,))
        return Choices(
            space=self.name,
            input_size=arch.input_size,
            layers=chosen,
            stem_channels=stem,
            head_channels=head,
            variant=variant,
        )

    def _check(self, choices: Choices) -> None:
        if choices.space != self.name:
            raise InputError(f"the choices are for the space {choices.space}, not for {self.name}")
        if len(choices.layers) != len(self.layers):
            raise InputError(f"{self.name} has {len(self.layers)} layers; the choices are for {len(choices.layers)}")
        if choices.input_size not in self.spec.input_size:
            sizes = words(self.spec.input_size)
            raise InputError(f"{self.name} cannot choose input_size {choices.input_size}; expected {sizes}")
        for place, chosen in (("stem", choices.stem_channels), ("head", choices.head_channels)):
            options = getattr(self.spec, place).out_channels
            expected = options if len(options) > 1 else (None,)
            if chosen not in expected:
                raise InputError(f"{self.name} cannot choose {place}_channels {chosen}; expected {words(expected)}")

    def _stages(self, choices: Choices) -> Iterator[dict[str, Any]]:
        chosen = zip(self.layers, choices.layers, strict=True)
        for stride, group in groupby(chosen, key=lambda pair: pair[0].output_stride):
            yield {
                "output_stride": stride,
                "blocks": tuple(row for layer, choice in group for row in layer.rows(choice)),
            }

    def _variant(self, name: str | None) -> dict[str, Any]:
        """Return the parts that a variant replaces."""
        known = {each.name: each for each in self.spec.variants}
        if name is None:
            return {}
        if name not in known:
            raise InputError(f"{self.name} has no variant {name!r}{did_you_mean(name, known)}")
        parts = {part: getattr(known[name], part) for part in VariantSpec.model_fields if part != "name"}
        return {part: value for part, value in parts.items() if value is not None}


def _input_error(error: ValidationError) -> InputError:
    """Return what is wrong with a network, with its location."""
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, InputError):
        return InputError(str(cause), location=(*first["loc"], *cause.location))
    return InputError(f"{first['loc'][-1]!r} cannot be {first['input']!r}: {first['msg']}", location=first["loc"])


def _drawn(row: SpaceRow, pick: Pick) -> int | None:
    return pick(row.out_channels) if len(row.out_channels) > 1 else None


def _progress(location: tuple[str | int, ...]) -> tuple[int, ...]:
    """Return how much of a network matched the space, as a sort key."""
    order = ("input_size", "stem", "stages", "head")
    part = order.index(str(location[0])) if location[0] in order else len(order)
    return (part, *(each for each in location if isinstance(each, int)))
