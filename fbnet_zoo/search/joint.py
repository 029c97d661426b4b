"""Pairs of an architecture and a training recipe as integers (FBNetV3, Dai et al., arXiv:2006.02049)."""

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any, TypeVar

from fbnet_zoo.space import Choices, Space
from fbnet_zoo.space.encoding import Decision, Encoding, Positions
from fbnet_zoo.spec import ArchSpec
from fbnet_zoo.train import Recipe
from fbnet_zoo.train.recipe import recipe_over, require_ranges

ValueT = TypeVar("ValueT")

PREFIX = "recipe."
"""Start of the names of decisions about the recipe."""


class JointEncoding(Encoding):
    """The decisions of a space, followed by the open values of its `recipe`.

    Costs and definitions are those of the architecture alone.

    Args:
        space: search space.
        input_size: fixed side of the image, px (default: all sizes of the space).

    Attributes:
        ranges: name of each value of the recipe to its options.
        open: names of those with several options, in the order of their decisions.

    Raises:
        InputError: the image size, or a value of the recipe, is invalid.

    >>> from fbnet_zoo.space import load_space
    >>> JointEncoding(load_space("fbnetv3")).decisions[-1].name
    'recipe.drop_path_rate'
    """

    def __init__(self, space: Space, input_size: int | None = None) -> None:
        super().__init__(space, input_size)
        require_ranges(Recipe(), space.spec.recipe)
        self.ranges = {each.name: each.values for each in space.spec.recipe}
        self.open = tuple(name for name, values in self.ranges.items() if len(values) > 1)

    @cached_property
    def decisions(self) -> tuple[Decision, ...]:
        """The decisions, in the order of a pair's positions."""
        own = (Decision(name=PREFIX + name, options=tuple(map(_word, self.ranges[name]))) for name in self.open)
        return (*super().decisions, *own)

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Number of options of each decision."""
        return tuple(len(each.options) for each in self.decisions)

    @cached_property
    def skips(self) -> tuple[int | None, ...]:
        """Position of the option of each decision that skips a layer; `None` if there is none."""
        return (*super().skips, *(None for _ in self.open))

    def values(self, positions: Sequence[int]) -> dict[str, Any]:
        """Return the values that a recipe has at some positions, also those with a single option."""
        self._check(positions)
        chosen = dict(zip(self.open, positions[len(self.decided) :], strict=True))
        return {name: values[chosen.get(name, 0)] for name, values in self.ranges.items()}

    def full(self, values: Sequence[ValueT], fixed: ValueT) -> tuple[ValueT, ...]:
        """Return a value for each slot of the architecture: one of `values` for a decision, `fixed` for any other."""
        return super().full(values[: len(self.decided)], fixed)

    def positions(self, choices: Choices) -> Positions:
        """Return the positions of an architecture's choices, with the first option of every value of the recipe.

        Raises:
            InputError: the space does not offer these choices.
        """
        return (*super().positions(choices), *(0 for _ in self.open))

    def definition(self, positions: Sequence[int], *, name: str | None = None) -> ArchSpec:
        """Return the definition of the architecture at some positions.

        Args:
            positions: position of the option of each decision.
            name: network name (default: the space's name, and digests of the choices and of the recipe).

        Raises:
            InputError: there is no such pair.
        """
        arch = super().definition(positions, name=name)
        if name is not None:
            return arch
        text = json.dumps(self.values(positions), sort_keys=True)
        return arch.model_copy(update={"name": f"{arch.name}_{hashlib.sha256(text.encode()).hexdigest()[:6]}"})


def recipe_of(encoding: Encoding, positions: Sequence[int], base: Recipe) -> Recipe:
    """Return the recipe of a network: its own, where the recipe is searched too, else the base."""
    return recipe_over(base, encoding.values(positions)) if isinstance(encoding, JointEncoding) else base


def _word(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else json.dumps(value).strip('"')
