"""The record of a search space: a definition whose rows leave values open.

A value that a row leaves open is a tuple of options here; a value that it says is a tuple of one.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, GetJsonSchemaHandler, ValidationError, model_validator
from pydantic_core import CoreSchema

from fbnet_zoo.errors import InputError, did_you_mean
from fbnet_zoo.spec import (
    FALLBACK,
    FIELDS_OF_OP,
    BlockSpec,
    Channels,
    Family,
    Name,
    OneOrTwo,
    Op,
    OutputStride,
    PaperSpec,
    Positive,
    Record,
    RowOptions,
    Size,
    Text,
)

MAX_OPTIONS, MAX_LAYERS = 1024, 256
"""Of one value, and of a space."""


class Range(Record):
    """The numbers from `first` to `last`, both included, `step` apart."""

    first: int | float
    last: int | float
    step: Annotated[int, Field(gt=0)] | Positive

    def values(self) -> tuple[int | float, ...]:
        """Return the numbers; whole ones where `first` and `step` are.

        Raises:
            InputError: the steps do not lead from `first` to `last`, or are too many.
        """
        first, step = Decimal(str(self.first)), Decimal(str(self.step))
        # in floats first: they cannot be too large for a division
        few = 0 < (float(self.last) - float(self.first)) / float(self.step) < MAX_OPTIONS
        count, rest = divmod(Decimal(str(self.last)) - first, step) if few else (Decimal(0), Decimal(0))
        if rest or not count:
            raise InputError(
                f"1 to {MAX_OPTIONS - 1} steps of {self.step} must lead from {self.first} to {self.last}; change one"
            )
        whole = isinstance(self.first, int) and isinstance(self.step, int)
        numbers = (first + index * step for index in range(int(count) + 1))
        return tuple(int(number) if whole else float(number) for number in numbers)


def _spread(value: Any) -> Any:
    """Turn what a file says (a value, a list of values, a range) into the tuple of its values."""
    if not isinstance(value, Mapping):
        values = tuple(value) if isinstance(value, list | tuple) else (value,)
        if not 0 < len(values) <= MAX_OPTIONS:
            raise InputError(f"{len(values)} values are given; expected 1 to {MAX_OPTIONS}")
        return values
    try:
        return Range.model_validate(value).values()
    except ValidationError as error:
        raise InputError(f"{dict(value)} is no range; expected {{first: …, last: …, step: …}}") from error


def _rising(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if list(values) != sorted(set(values)):
        raise InputError(f"the values {', '.join(map(str, values))} do not rise; put each once, the smallest first")
    return values


def _odd(values: tuple[int, ...]) -> tuple[int, ...]:
    if any(value % 2 == 0 for value in values):
        raise InputError("a kernel of even size would shift the image; use odd ones")
    return values


def _plain(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not all(isinstance(value, str | int | float) for value in values) or len(set(values)) < len(values):
        raise InputError("expected different numbers or words, as a list or a range")
    return values


class _AsWritten:
    """Lets the JSON Schema tell what a file may say: one value, a list of values or a range."""

    def __get_pydantic_json_schema__(self, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        several = handler(core_schema)
        return {"anyOf": [several["items"], several, handler(Range.__pydantic_core_schema__)]}


ValueT = TypeVar("ValueT")
_Several = Annotated[tuple[ValueT, ...], BeforeValidator(_spread), _AsWritten()]
_Options = Annotated[_Several[ValueT], AfterValidator(_rising)]

_Kernel = Annotated[int, Field(ge=1, le=31)]
_Expansion = Annotated[float, Field(gt=0, le=64)]
Kernels = Annotated[_Options[_Kernel], AfterValidator(_odd)]
Expansions = _Options[_Expansion]
Widths = _Options[Channels]
Depths = _Options[Annotated[int, Field(ge=1, le=64)]]
Sizes = _Options[Size]
Recipe = Annotated[_Several[Any], AfterValidator(_plain)]


class _SharedFields(RowOptions):
    """What a row and a candidate may say, and neither leaves open."""

    groups: Annotated[int, Field(ge=1, le=64)] | None = None
    se_ratio: Annotated[float, Field(ge=0, le=1)] | None = None
    depthwise_repeats: OneOrTwo | None = None
    depthwise_groups: Annotated[int, Field(ge=1)] | None = None


class CandidateSpec(_SharedFields):
    """A block that layers can choose: a row without channels, stride and repeats.

    Attributes:
        kernel_size: side of the (depthwise) kernel, `k`; where no candidate says it, rows do.
        expansion: widening of the input channels inside the block, `e`; likewise.
    """

    name: Name
    kernel_size: Annotated[_Kernel, AfterValidator(lambda value: _odd((value,))[0])] | None = None
    expansion: _Expansion | None = None


class RestSpec(Record):
    """What the blocks of a row after the first have otherwise; what is not said is as in the first."""

    kernel_size: Kernels | None = None
    expansion: Expansions | None = None


class SpaceRow(_SharedFields):
    """One row: `layers` layers that each choose, or `repeats` equal blocks; only the first block has the stride.

    Attributes:
        out_channels: channels of the output, `c`.
        kernel_size: side of the (depthwise) kernel, `k`.
        expansion: widening of the input channels inside the block, `e`.
        stride: of the first block, `s`.
        repeats: number of equal blocks, `r`.
        layers: number of layers, each with its own choice.
        candidates: which of the space's candidates the layers choose from; all of them when not said.
        rest: what the blocks after the first of `repeats` have otherwise.
    """

    out_channels: Widths
    kernel_size: Kernels | None = None
    expansion: Expansions | None = None
    stride: OneOrTwo = 1
    repeats: Depths = (1,)
    layers: Annotated[int, Field(ge=1, le=64)] = 1
    candidates: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    rest: RestSpec | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.layers > 1 and self.repeats != (1,):
            raise InputError("a row says both 'layers', which each choose, and 'r', which are equal; keep one")
        if self.rest is not None and self.repeats[0] == 1:
            raise InputError("'rest' tells of the blocks after the first; let 'r' begin at 2 or more")
        return self


class SpaceStage(Record):
    """The rows whose output is `output_stride` times smaller than the image."""

    output_stride: OutputStride
    blocks: Annotated[tuple[SpaceRow, ...], Field(max_length=64)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.blocks:
            raise InputError(f"stage {self.output_stride} has no rows; add one, or take it out")
        return self


class VariantSpec(Record):
    """Values that networks of the space may have instead of the space's own; a search takes none of them."""

    name: Name
    bn_eps: Annotated[float, Field(gt=0, lt=1)] | None = None
    zero_init_residual: bool | None = None
    defaults: RowOptions | None = None
    stem: BlockSpec | None = None
    head: BlockSpec | None = None
    classifier: Literal["linear", "conv"] | None = None


class RecipeSpec(Record):
    """One value of the training recipe that a joint search chooses too."""

    name: Name
    values: Recipe


class SpaceSpec(Record):
    """A search space, as its file says it.

    Attributes:
        candidates: what the rows of the stages that say no `op` choose from, in each layer.
        variants: what networks of the space may have otherwise where the space leaves nothing open.
        recipe: values of the training recipe for a joint search; no part of a network, and not counted.
        deviations: where this differs from the paper or between sources, one sentence each.
    """

    name: Name
    family: Family
    summary: Text
    input_size: Sizes
    bn_eps: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    zero_init_residual: bool = False
    defaults: RowOptions = RowOptions()
    candidates: tuple[CandidateSpec, ...] = ()
    stem: SpaceRow
    stages: Annotated[tuple[SpaceStage, ...], Field(min_length=1, max_length=6)]
    head: SpaceRow
    classifier: Literal["linear", "conv"] = "linear"
    variants: tuple[VariantSpec, ...] = ()
    recipe: tuple[RecipeSpec, ...] = ()
    paper: PaperSpec | None = None
    deviations: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._check_ends()
        count = sum(row.layers for stage in self.stages for row in stage.blocks)
        if count > MAX_LAYERS:
            raise InputError(f"the space has {count} layers; expected at most {MAX_LAYERS}", location=("stages",))
        for position, stage in enumerate(self.stages):
            for index, row in enumerate(stage.blocks):
                try:
                    self._check_row(row)
                except InputError as error:
                    error.location = ("stages", position, "blocks", index)
                    raise
        return self

    def _check_ends(self) -> None:
        for place in ("stem", "head"):
            row = getattr(self, place)
            others = any(len(options or ()) > 1 for options in (row.kernel_size, row.expansion, row.repeats))
            if others or row.layers > 1 or row.candidates is not None or row.rest is not None:
                raise InputError("a stem or head leaves only 'c' open; say one value for the others", location=(place,))
            for position, variant in enumerate(self.variants):
                if getattr(variant, place) is not None and len(row.out_channels) > 1:
                    problem = f"the space leaves the channels of the {place} open; a variant cannot have its own"
                    raise InputError(problem, location=("variants", position))

    def _check_row(self, row: SpaceRow) -> None:
        names = [candidate.name for candidate in self.candidates]
        if row.op is not None or not names:
            if row.candidates is not None:
                reason = "the row says 'op'" if names else "the space has no 'candidates'"
                raise InputError(f"a row has 'candidates', but {reason}; take one of the two out")
            return
        for name in row.candidates or ():
            if name not in names:
                raise InputError(f"there is no candidate {name!r}{did_you_mean(name, names)}")
        if row.repeats != (1,):
            raise InputError("a row that chooses among candidates has no 'r'; say 'layers'")
        for field in ("kernel_size", "expansion"):
            self._check_field(row, field)

    def _check_field(self, row: SpaceRow, field: Literal["kernel_size", "expansion"]) -> None:
        """Refuse a value that some candidates say and others leave to the row: two could then be the same block."""
        takers = [each for each in self.candidates_of(row) if field in FIELDS_OF_OP[self.op_of(each)]]
        saying = [getattr(each, field) is not None for each in takers]
        if any(saying) != all(saying):
            raise InputError(f"some candidates say {field!r} and others do not; let all say it, or the row")
        if any(saying) and getattr(row, field) is not None:
            raise InputError(f"{field!r} is said by the row and by its candidates; take one out")

    def candidates_of(self, row: SpaceRow) -> tuple[CandidateSpec, ...]:
        """Return what the layers of a row choose from, in the space's order; nothing where the row is one block."""
        if row.op is not None:
            return ()
        return tuple(each for each in self.candidates if row.candidates is None or each.name in row.candidates)

    def op_of(self, row: RowOptions) -> Op:
        """Return what holds for `op` in a row or candidate."""
        return row.op or self.defaults.op or FALLBACK.op or "ir"
