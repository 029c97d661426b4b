"""The record of a search space: a definition whose rows leave values open.

A value is a tuple of options; a fixed value is a tuple of one.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    field_serializer,
    model_validator,
)
from pydantic_core import CoreSchema

from fbnet_zoo import limits
from fbnet_zoo.errors import InputError, did_you_mean, located
from fbnet_zoo.spec import (
    FIELDS_OF_OP,
    BlockSpec,
    Channels,
    Family,
    Name,
    OneOrTwo,
    OutputStride,
    PaperSpec,
    Positive,
    Record,
    RowOptions,
    Size,
    Text,
    op_of,
)

_RECIPE_KEY = r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?$"

_MANY = 10**12
"""Where the counting of a range's options ends."""


class Range(Record):
    """The numbers from `first` to `last`, both included, `step` apart."""

    first: int | float
    last: int | float
    step: Annotated[int, Field(gt=0)] | Positive

    def values(self) -> tuple[int | float, ...]:
        """Return the numbers, which are integers where `first` and `step` are.

        Raises:
            InputError: the steps do not end at `last`, or there are too many.
        """
        first, step = Decimal(str(self.first)), Decimal(str(self.step))
        # floats first: a Decimal may be too large to divide
        steps = (float(self.last) - float(self.first)) / float(self.step)
        least = int(min(max(steps, 0), _MANY)) + 1
        limits.check("options", least, f"from {self.first} to {self.last} by {self.step}, there are at least")
        count, rest = divmod(Decimal(str(self.last)) - first, step) if steps > 0 else (Decimal(0), Decimal(0))
        if rest or not count:
            raise InputError(
                f"cannot step from {self.first} to {self.last} by {self.step}; expected whole steps upwards"
            )
        whole = isinstance(self.first, int) and isinstance(self.step, int)
        numbers = (first + index * step for index in range(int(count) + 1))
        return tuple(int(number) if whole else float(number) for number in numbers)


def _spread(value: Any) -> Any:
    """Return the tuple of the values that a file gives as one value, a list or a range."""
    if not isinstance(value, Mapping):
        values = tuple(value) if isinstance(value, list | tuple) else (value,)
        limits.check("options", len(values), "a value has")
        if not values:
            raise InputError("got no values; expected one or more")
        return values
    try:
        return Range.model_validate(value).values()
    except ValidationError as error:
        raise InputError(f"{dict(value)} is not a valid range; expected {{first: …, last: …, step: …}}") from error


def _rising(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if list(values) != sorted(set(values)):
        raise InputError(f"the values {', '.join(map(str, values))} are not in strictly increasing order; sort them")
    return values


def _odd(values: tuple[int, ...]) -> tuple[int, ...]:
    if any(value % 2 == 0 for value in values):
        raise InputError("a kernel of even size would shift the image; use odd sizes")
    return values


def _plain(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not all(isinstance(value, str | int | float | None) for value in values) or len(set(values)) < len(values):
        raise InputError("expected distinct numbers, words or null, as a list or a range")
    return values


class _AsWritten:
    """Makes the JSON Schema allow what a file may contain: one value, a list of values or a range."""

    def __get_pydantic_json_schema__(self, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        several = handler(core_schema)
        return {"anyOf": [several["items"], several, handler(Range.__pydantic_core_schema__)]}


ValueT = TypeVar("ValueT")
_Several = Annotated[tuple[ValueT, ...], BeforeValidator(_spread), _AsWritten()]
_Options = Annotated[_Several[ValueT], AfterValidator(_rising)]

_Kernel = Annotated[int, Field(ge=1, le=31)]
_Expansion = Annotated[float, Field(gt=0, le=64)]
_SqueezeRatio = Annotated[float, Field(ge=0, le=1)]
Kernels = Annotated[_Options[_Kernel], AfterValidator(_odd)]
Expansions = _Options[_Expansion]
SqueezeRatios = _Options[_SqueezeRatio]
Widths = _Options[Channels]
Depths = _Options[Annotated[int, Field(ge=1, le=64)]]
Sizes = _Options[Size]
Recipe = Annotated[_Several[Any], AfterValidator(_plain)]


class _SharedFields(RowOptions):
    """Options of rows and candidates that are never open."""

    groups: Annotated[int, Field(ge=1, le=64)] | None = None
    depthwise_repeats: OneOrTwo | None = None
    depthwise_groups: Annotated[int, Field(ge=1)] | None = None


class CandidateSpec(_SharedFields):
    """A block that layers can choose: a row without channels, stride and repeats.

    Attributes:
        kernel_size: side of the (depthwise) kernel, `k` (default: that of the row).
        expansion: expansion of the input channels inside the block, `e` (default: that of the row).
        se_ratio: squeeze-excite width as a share of `se_of`, `se` (default: that of the row).
    """

    name: Name
    kernel_size: Annotated[_Kernel, AfterValidator(lambda value: _odd((value,))[0])] | None = None
    expansion: _Expansion | None = None
    se_ratio: _SqueezeRatio | None = None


class RestSpec(Record):
    """Values of the blocks of a row after the first (default: those of the first)."""

    kernel_size: Kernels | None = None
    expansion: Expansions | None = None
    se_ratio: SqueezeRatios | None = None


class SpaceRow(_SharedFields):
    """One row: `layers` layers that each choose, or `repeats` equal blocks; only the first block has the stride.

    Attributes:
        out_channels: channels of the output, `c`.
        kernel_size: side of the (depthwise) kernel, `k`.
        expansion: expansion of the input channels inside the block, `e`.
        se_ratio: squeeze-excite width as a share of `se_of`, `se`; 0 for none.
        stride: stride of the first block, `s`.
        repeats: number of equal blocks, `r`.
        layers: number of layers, each with its own choice.
        candidates: names of the candidates that the layers choose from (default: all of the space).
        rest: values that differ in the blocks after the first of `repeats`.
    """

    out_channels: Widths
    kernel_size: Kernels | None = None
    expansion: Expansions | None = None
    se_ratio: SqueezeRatios | None = None
    stride: OneOrTwo = 1
    repeats: Depths = (1,)
    layers: Annotated[int, Field(ge=1, le=64)] = 1
    candidates: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    rest: RestSpec | None = None

    @field_serializer("se_ratio", when_used="json")
    def _written(self, ratios: SqueezeRatios | None) -> tuple[float, ...] | float | None:
        """Return a fixed ratio as one number, as it was recorded before it could be open."""
        return ratios[0] if ratios and len(ratios) == 1 else ratios

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.layers > 1 and self.repeats != (1,):
            raise InputError("a row has both 'layers', which choose separately, and 'r', which are equal; keep one")
        if self.rest is not None and self.repeats[0] == 1:
            raise InputError("'rest' is for the blocks after the first; it requires 'r' of at least 2")
        return self


class SpaceStage(Record):
    """The rows whose output is `output_stride` times smaller than the image."""

    output_stride: OutputStride
    blocks: Annotated[tuple[SpaceRow, ...], Field(max_length=64)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.blocks:
            raise InputError(f"stage {self.output_stride} has no rows; add one, or remove the stage")
        return self


class VariantSpec(Record):
    """Values that known networks of the space have instead of the space's own; a search never uses them."""

    name: Name
    bn_eps: Annotated[float, Field(gt=0, lt=1)] | None = None
    zero_init_residual: bool | None = None
    defaults: RowOptions | None = None
    stem: BlockSpec | None = None
    head: BlockSpec | None = None
    classifier: Literal["linear", "conv"] | None = None


class RecipeSpec(Record):
    """One value of the training recipe that a joint search also chooses.

    Attributes:
        name: key of a recipe, such as `lr`, or `augmentation.zoom` for one inside another.
        values: the values to choose from; `fbnet_zoo.train.recipe.require_ranges` checks them.
    """

    name: Annotated[str, Field(pattern=_RECIPE_KEY, max_length=64, description="a key of a recipe, such as lr")]
    values: Recipe


class SpaceSpec(Record):
    """A search space as it is in its file.

    Attributes:
        candidates: blocks that each layer of the rows without `op` chooses from.
        variants: alternatives to fixed parts of the space, as known networks have them.
        recipe: values of the training recipe for a joint search; not part of a network, and not counted.
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
        with located("stages"):
            limits.check("layers", count, "the space has")
        for position, stage in enumerate(self.stages):
            for index, row in enumerate(stage.blocks):
                with located("stages", position, "blocks", index):
                    self._check_row(row)
        return self

    def _check_ends(self) -> None:
        for place in ("stem", "head"):
            row = getattr(self, place)
            others = any(
                len(options or ()) > 1 for options in (row.kernel_size, row.expansion, row.se_ratio, row.repeats)
            )
            if others or row.layers > 1 or row.candidates is not None or row.rest is not None:
                raise InputError("only 'c' of a stem or head can be open; give one value for others", location=(place,))
            for position, variant in enumerate(self.variants):
                if getattr(variant, place) is not None and len(row.out_channels) > 1:
                    problem = f"the channels of the {place} are open in the space; a variant cannot have its own"
                    raise InputError(problem, location=("variants", position))

    def _check_row(self, row: SpaceRow) -> None:
        names = [candidate.name for candidate in self.candidates]
        if row.op is not None or not names:
            if row.candidates is not None:
                reason = "also 'op'; remove one" if names else "the space has none; remove them"
                raise InputError(f"a row has 'candidates', but {reason}")
            return
        for name in row.candidates or ():
            if name not in names:
                raise InputError(f"there is no candidate {name!r}{did_you_mean(name, names)}")
        if row.repeats != (1,):
            raise InputError("a row that chooses among candidates cannot have 'r'; use 'layers'")
        for field in ("kernel_size", "expansion"):
            self._check_field(row, field)
        if len(row.se_ratio or ()) > 1 and any(each.se_ratio is not None for each in self.candidates_of(row)):
            raise InputError("'se_ratio' is open in the row and given in its candidates; remove one")

    def _check_field(self, row: SpaceRow, field: Literal["kernel_size", "expansion"]) -> None:
        """Refuse a value that only some candidates have: two of them could then be the same block."""
        takers = [each for each in self.candidates_of(row) if field in FIELDS_OF_OP[op_of(each, self.defaults)]]
        given = [getattr(each, field) is not None for each in takers]
        if any(given) != all(given):
            raise InputError(f"only some candidates have {field!r}; give it in all of them, or in the row")
        if any(given) and getattr(row, field) is not None:
            raise InputError(f"{field!r} is both in the row and in its candidates; remove one")

    def candidates_of(self, row: SpaceRow) -> tuple[CandidateSpec, ...]:
        """Return the candidates of a row, in the space's order; none where the row is one block."""
        if row.op is not None:
            return ()
        return tuple(each for each in self.candidates if row.candidates is None or each.name in row.candidates)
