"""The layers of a search space: what each leaves open, and the rows of a definition that a choice gives."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fbnet_zoo.errors import InputError
from fbnet_zoo.space.choices import LayerChoice
from fbnet_zoo.space.records import CandidateSpec, SpaceRow, SpaceSpec
from fbnet_zoo.spec import FIELDS_OF_OP, BlockSpec, Op, RowOptions, op_of

Pick = Callable[[Sequence[Any]], Any]
"""Returns one of several options."""

_MANY = 9
"""Longest list of options that an error prints in full."""

_OWN = ("kernel_size", "expansion", "se_ratio", "out_channels", "repeats")
_REST = {"rest_kernel_size": "kernel_size", "rest_expansion": "expansion", "rest_se_ratio": "se_ratio"}
_FIXED = (*RowOptions.model_fields, "groups", "depthwise_repeats", "depthwise_groups")
"""Options of rows and candidates that are never open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLayer:
    """One layer that chooses.

    Attributes:
        name: name of the layer, `stages.<output stride>.<number in the stage>`.
        output_stride: output stride of its stage.
        location: location of its row in the space's record.
        row: its row in the space.
        stride: stride of its first block.
        ops: name of each candidate to its op; `None` to the row's own op, where there are no candidates.
        candidates: name to candidate.
    """

    name: str
    output_stride: int
    location: tuple[str | int, ...]
    row: SpaceRow
    stride: int
    ops: dict[str | None, Op]
    candidates: dict[str, CandidateSpec]

    def options(self, candidate: str | None = None) -> dict[str, tuple[Any, ...]]:
        """Return the fields of a `LayerChoice` that are open with a candidate, each with its values.

        Without `candidate`, those that are open with any candidate.
        """
        known = FIELDS_OF_OP[self.ops[candidate]] if candidate in self.ops else set(_OWN)
        fields = {field: getattr(self.row, field) for field in _OWN if field in {*known, "out_channels", "repeats"}}
        fields |= {field: getattr(self.row.rest, own, None) for field, own in _REST.items()}
        return {field: values for field, values in fields.items() if values is not None and len(values) > 1}

    def size(self) -> int:
        """Return the number of choices."""
        return sum(math.prod(map(len, self.options(candidate).values())) for candidate in self.ops)

    def draw(self, pick: Pick) -> LayerChoice:
        """Return a choice: the candidate, then each value that it leaves open."""
        candidate = pick(tuple(self.ops))
        return LayerChoice(
            candidate=candidate, **{field: pick(values) for field, values in self.options(candidate).items()}
        )

    def rows(self, choice: LayerChoice) -> tuple[BlockSpec, ...]:
        """Return the rows that a choice gives: one, or two where the blocks after the first differ.

        Raises:
            InputError: the layer does not offer that choice.
        """
        self._check(choice)
        repeats = self._value(choice, "repeats")
        first = self._fixed(choice.candidate) | self._values(choice)
        start = first | ({"stride": self.stride} if self.stride > 1 else {})
        if self.row.rest is None:
            return (self._block(start | ({"repeats": repeats} if repeats > 1 else {})),)
        rest = first | {own: values[0] for own in _REST.values() if (values := getattr(self.row.rest, own))}
        rest |= {own: value for field, own in _REST.items() if (value := getattr(choice, field)) is not None}
        return (self._block(start), self._block(rest | ({"repeats": repeats - 1} if repeats > 2 else {})))

    def _block(self, fields: dict[str, Any]) -> BlockSpec:
        """Return a row of a definition; where squeeze-excite is open, a row without it does not name it."""
        is_open = not {"se_ratio", "rest_se_ratio"}.isdisjoint(self.options())
        return BlockSpec(
            **{field: value for field, value in fields.items() if value or not is_open or field != "se_ratio"}
        )

    def _check(self, choice: LayerChoice) -> None:
        if choice.candidate not in self.ops:
            raise InputError(f"{self.name} cannot choose {choice.candidate!r}; expected {self.offer()}")
        options = self.options(choice.candidate)
        for field, value in choice:
            if field != "candidate" and (value not in options[field] if field in options else value is not None):
                expected = words(options[field]) if field in options else "nothing"
                raise InputError(f"{self.name} cannot choose {value!r} for {field!r}; expected {expected}")

    def offer(self) -> str:
        """Return what can be chosen, for an error."""
        letters = {"k": self.row.kernel_size, "e": self.row.expansion, "c": self.row.out_channels}
        letters |= {"se": self.row.se_ratio} if len(self.row.se_ratio or ()) > 1 else {}
        values = ", ".join(f"{letter} {words(options)}" for letter, options in letters.items() if options)
        return f"{words(tuple(self.candidates)) if self.candidates else 'a block'} with {values}, s {self.stride}"

    def _value(self, choice: LayerChoice, field: str) -> Any:
        chosen, options = getattr(choice, field), getattr(self.row, field)
        return options[0] if chosen is None and options else chosen

    def _values(self, choice: LayerChoice) -> dict[str, Any]:
        """Return the values of the first block, from the choice or the row."""
        known = {*FIELDS_OF_OP[self.ops[choice.candidate]], "out_channels"}
        if choice.candidate is None:
            known.add("se_ratio")  # the definition refuses it, if the op has none
        elif self.candidates[choice.candidate].se_ratio is not None:
            known.discard("se_ratio")
        values = {field: self._value(choice, field) for field in _OWN if field in known and field != "repeats"}
        return {field: value for field, value in values.items() if value is not None}

    def _fixed(self, candidate: str | None) -> dict[str, Any]:
        """Return the options of the row that the op has, overridden by those of the candidate."""
        given = self.row.model_dump(include=set(_FIXED), exclude_none=True)
        if candidate is None:
            return given
        own = self.candidates[candidate].model_dump(exclude={"name"}, exclude_none=True)
        return {field: given[field] for field in given if field in FIELDS_OF_OP[self.ops[candidate]]} | own


def open_layers(spec: SpaceSpec) -> Iterator[OpenLayer]:
    """Yield the layers of a space, in order."""
    for position, stage in enumerate(spec.stages):
        count = 0
        for index, row in enumerate(stage.blocks):
            candidates = {each.name: each for each in spec.candidates_of(row)}
            for number in range(row.layers):
                yield OpenLayer(
                    name=f"stages.{stage.output_stride}.{count}",
                    output_stride=stage.output_stride,
                    location=("stages", position, "blocks", index),
                    row=row,
                    stride=1 if number else row.stride,
                    ops={name: op_of(each, spec.defaults) for name, each in candidates.items()}
                    or {None: op_of(row, spec.defaults)},
                    candidates=candidates,
                )
                count += 1


def single_row(row: SpaceRow, channels: int | None) -> BlockSpec:
    """Return the row of a stem or head, with `channels` where they are open."""
    given = row.model_dump(include={*_FIXED, "stride"}, exclude_unset=True)
    given |= {field: values[0] for field in ("kernel_size", "expansion", "se_ratio") if (values := getattr(row, field))}
    return BlockSpec(out_channels=channels or row.out_channels[0], **given)


def words(values: tuple[Any, ...]) -> str:
    """Return options as words.

    >>> words((3, 5)), words((0.75,)), words(tuple(range(100)))
    ('3 or 5', '0.75', '0, 1, 2, … or 99')
    """
    texts = [f"{value:g}" if isinstance(value, float) else "null" if value is None else str(value) for value in values]
    texts = texts if len(texts) <= _MANY else [*texts[:3], "…", texts[-1]]
    return " or ".join(filter(None, (", ".join(texts[:-1]), texts[-1])))
