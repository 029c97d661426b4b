"""The records that describe one network: frozen data, no torch, no files.

A YAML file, a search result and an edited copy are all an `ArchSpec`. A row of a stage is a `BlockSpec`; options that a
row leaves out (`None`) are taken from `ArchSpec.defaults`. `fbnet_zoo.planner` turns rows into concrete layers.
"""

import math
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fbnet_zoo.errors import InputError

LETTERS = {
    "k": "kernel_size",
    "e": "expansion",
    "c": "out_channels",
    "s": "stride",
    "r": "repeats",
    "g": "groups",
    "se": "se_ratio",
    "pad": "padding",
    "dw": "depthwise_repeats",
    "dwg": "depthwise_groups",
}
"""Short names of the fields of a row, as in the literature; a definition may use either name."""

BESIDE = "file:"
"""Prefix of the source of weights whose file is in the folder of the definition."""

Op = Literal["conv", "ir", "fused_ir", "ir_pool", "skip"]
Activation = Literal["relu", "relu6", "hard_swish", "swish"]
Gate = Literal["hard_sigmoid", "sigmoid"]
Family = Literal["fbnet", "chamnet", "fbnetv2", "fbnetv3", "mobilenet"]
Layout = Literal["fbnet_zoo", "timm", "mobile_vision"]
Metric = Literal["top1", "top5", "latency_ms"]

_SOURCE = r"^((https|hf)://\S+|file:[A-Za-z0-9][A-Za-z0-9_.-]{0,199}\.safetensors)$"
_WORD = "a lower-case word of letters, digits and underscores"
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64, description=_WORD)]
Alias = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", max_length=64)]
Text = Annotated[str, Field(min_length=1, max_length=400)]
OutputStride = Literal[1, 2, 4, 8, 16, 32]
OneOrTwo = Annotated[int, Field(ge=1, le=2)]
Positive = Annotated[float, Field(gt=0)]
MAX_SEED = (1 << 63) - 1  # the largest seed of random numbers
Percent = Annotated[float, Field(ge=0, le=100)]
Channels = Annotated[int, Field(ge=1, le=65536)]
Size = Annotated[int, Field(ge=8, le=4096)]
Triple = tuple[float, float, float]


class Record(BaseModel):
    """Base of all records read from files: frozen, strictly typed, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _is_none(value: object) -> bool:
    return value is None


LEFT_OUT = Field(exclude_if=_is_none)
"""For fields that earlier versions did not have: not written while `None`, so that their records stay the same."""


class RowOptions(Record):
    """Options of a row, which `defaults` can set for all rows; `None` where an option is not set."""

    op: Op | None = None
    act: Activation | None = None
    bias: bool | None = None
    divisor: Annotated[int, Field(ge=1, le=64)] | None = None
    se_of: Literal["input", "expanded"] | None = None
    se_act: Activation | None = None
    se_gate: Gate | None = None
    keep_expand: bool | None = None
    linear_depthwise: bool | None = None


def op_of(row: RowOptions, defaults: RowOptions) -> Op:
    """Return the op of a row: its own, that of the defaults, or `ir`."""
    return row.op or defaults.op or "ir"


class BlockSpec(RowOptions):
    """One row: a block, or `repeats` equal blocks of which only the first has the stride.

    Attributes:
        out_channels: channels of the output, `c`.
        kernel_size: side of the (depthwise) kernel, `k`.
        expansion: expansion of the input channels inside the block, `e`; may be fractional.
        stride: stride of the first block, `s`.
        repeats: number of blocks, `r`.
        groups: groups of the two pointwise convolutions, `g`; a channel shuffle follows the first.
        se_ratio: squeeze-excite width as a share of `se_of`, `se`; 0 for none.
        padding: padding of the (depthwise) kernel, `pad` (default: `kernel_size // 2`).
        depthwise_repeats: number of depthwise convolutions, `dw`.
        depthwise_groups: groups of the depthwise convolution, `dwg` (default: one per channel).
        op: `conv`, `ir` (inverted residual), `fused_ir` (full kernel in the expansion), `ir_pool`
            (expand, pool, project: a head) or `skip`.
        keep_expand: keep the first pointwise convolution even if it does not change the number of channels.
        linear_depthwise: depthwise convolution without bias, batch norm and activation.
    """

    out_channels: Channels
    kernel_size: Annotated[int, Field(ge=1, le=31)] | None = None
    expansion: Annotated[float, Field(gt=0, le=64)] | None = None
    stride: OneOrTwo = 1
    repeats: Annotated[int, Field(ge=1, le=64)] = 1
    groups: Annotated[int, Field(ge=1, le=64)] = 1
    se_ratio: Annotated[float, Field(ge=0, le=1)] = 0
    padding: Annotated[int, Field(ge=0, le=15)] | None = None
    depthwise_repeats: OneOrTwo = 1
    depthwise_groups: Annotated[int, Field(ge=1)] | None = None


class StageSpec(Record):
    """The rows whose output is `output_stride` times smaller than the image."""

    output_stride: OutputStride
    blocks: Annotated[tuple[BlockSpec, ...], Field(max_length=64)]


_CONV_FIELDS = {"kernel_size", "stride", "repeats", "padding", "groups", "act", "bias"}
_EXPANSION_FIELDS = {"expansion", "se_ratio", "act", "bias", "divisor", "se_of", "se_act", "se_gate"}
_DEPTHWISE_FIELDS = {"depthwise_repeats", "depthwise_groups", "keep_expand", "linear_depthwise"}
FIELDS_OF_OP: dict[str, set[str]] = {
    "conv": _CONV_FIELDS,
    "ir": _CONV_FIELDS | _EXPANSION_FIELDS | _DEPTHWISE_FIELDS,
    "fused_ir": _CONV_FIELDS | _EXPANSION_FIELDS,
    "ir_pool": _EXPANSION_FIELDS,
    "skip": {"stride", "repeats"},
}
ONLY_IN_STAGES: dict[str, set[str]] = {"stem": {"repeats"}, "stage": set(), "head": {"repeats", "stride"}}
"""Fields of a row that each op has, besides `op` and `out_channels`; and those not allowed in a stem or head."""


class CountsSpec(Record):
    """Trainable parameters, and multiply-accumulates at the definition's input size."""

    params: Annotated[int, Field(ge=1)]
    macs: Annotated[int, Field(ge=1)]


class PaperSpec(Record):
    """Where the network was published."""

    title: Text
    arxiv: Annotated[str, Field(pattern=r"^[0-9]{4}\.[0-9]{4,5}$", description="an arXiv number such as '1812.03443'")]
    venue: Text


class SourceSpec(Record):
    """The code that the definition follows."""

    repository: Text
    commit: Text | None = None
    entry: Text | None = None


class ReportedSpec(Record):
    """A number published by others, with its origin; never compared with ours."""

    metric: Metric
    value: float
    precision: Literal["fp32", "int8"] | None = None
    device: Text | None = None
    engine: Text | None = None
    source: Text


class PreprocessSpec(Record):
    """How an image becomes the input: resize the shorter side, center crop, normalize.

    `resize` and `crop` are in pixels; `mean` and `std` are per channel on the 0-1 scale, in `order`.
    """

    resize: Annotated[int, Field(ge=8, le=8192)]
    crop: Size
    interpolation: Literal["bilinear", "bicubic", "nearest"] = "bilinear"
    mean: Triple = (0.485, 0.456, 0.406)
    std: tuple[Positive, Positive, Positive] = (0.229, 0.224, 0.225)
    order: Literal["rgb", "bgr"] = "rgb"

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if self.crop > self.resize:
            raise InputError(f"a crop of {self.crop} px does not fit into {self.resize} px; enlarge 'resize'")
        return self


class WeightsSpec(Record):
    """One published checkpoint.

    Attributes:
        tag: name of the weights, used after that of the model: `fbnet_b.<tag>`.
        source: `https://…`, `hf://owner/repository[/file]`, or `file:NAME.safetensors` in the folder of the definition.
        layout: project whose parameter names the file uses.
        license: SPDX identifier or name of the license of the weights.
        size: size of the file, bytes.
        sha256: digest of the file, or a prefix of at least eight hexadecimal digits.
        bn_eps: batch-norm epsilon of the training (default: the definition's).
        top1: published ImageNet-1k top-1 validation accuracy, percent, with `preprocess`.
        top5: published ImageNet-1k top-5 validation accuracy, percent, with `preprocess`.
        preprocess: preprocessing for these weights (default: the definition's).
    """

    tag: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$", max_length=64, description=_WORD)]
    source: Annotated[str, Field(pattern=_SOURCE, description="https://…, hf://… or file:NAME.safetensors")]
    layout: Layout
    license: Text
    size: Annotated[int, Field(gt=0)] | None = None
    sha256: Annotated[str | None, Field(pattern=r"^[0-9a-f]{8,64}$", description="8 to 64 hexadecimal digits")] = None
    bn_eps: Annotated[float, Field(gt=0, lt=1)] | None = None
    top1: Annotated[float, Field(ge=0, le=100)] | None = None
    top5: Annotated[float, Field(ge=0, le=100)] | None = None
    preprocess: PreprocessSpec | None = None

    @property
    def file(self) -> str | None:
        """Name of the file in the folder of the definition; `None` if the source is an address."""
        return self.source.removeprefix(BESIDE) if self.source.startswith(BESIDE) else None


class ArchSpec(Record):
    """A network with its origin, reported results and weights.

    Attributes:
        classifier: a `linear` layer, or the same as a 1x1 `conv` (mobile-vision's checkpoints).
        zero_init_residual: start the last batch norm of residual branches at gamma 0.
        bn_eps: batch-norm epsilon; a weights entry may override it.
        reconstruction: whether the definition is based on secondary sources rather than a release.
        deviations: differences from the paper or between sources, one sentence each.
    """

    name: Name
    aliases: Annotated[tuple[Alias, ...], Field(description="words of letters, digits, _ and -")] = ()
    family: Family
    summary: Text
    reconstruction: bool = False
    input_size: Size
    bn_eps: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    zero_init_residual: bool = False
    defaults: RowOptions = RowOptions()
    stem: BlockSpec
    stages: Annotated[tuple[StageSpec, ...], Field(min_length=1, max_length=6)]
    head: BlockSpec
    classifier: Literal["linear", "conv"] = "linear"
    counts: CountsSpec | None = None
    paper: PaperSpec | None = None
    source: SourceSpec | None = None
    deviations: tuple[Text, ...] = ()
    preprocess: PreprocessSpec | None = None
    weights: tuple[WeightsSpec, ...] = ()
    reported: tuple[ReportedSpec, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._check_output_strides()
        self._check_row(self.stem, ("conv",), ("stem",))
        for position, stage in enumerate(self.stages):
            for index, block in enumerate(stage.blocks):
                self._check_row(block, ("conv", "ir", "fused_ir", "skip"), ("stages", position, "blocks", index))
        self._check_row(self.head, ("conv", "ir_pool"), ("head",))
        self._check_tags()
        return self

    def _check_output_strides(self) -> None:
        stride, before = self.stem.stride, 0
        for position, stage in enumerate(self.stages):
            stride *= math.prod(block.stride for block in stage.blocks)
            if stride != stage.output_stride or stride == before:
                raise InputError(
                    f"stage {stage.output_stride} ends at output stride {stride}; the strides of the stem and of "
                    f"all rows up to its end must multiply to {stage.output_stride}, in one stage only",
                    location=("stages", position),
                )
            before = stride

    def _check_row(self, row: BlockSpec, ops: tuple[str, ...], at: tuple[str | int, ...]) -> None:
        op, place = op_of(row, self.defaults), "stage" if len(at) > 1 else str(at[0])
        if op not in ops:
            raise InputError(f"op {op!r} is not allowed in a {place}; expected {' or '.join(ops)}", location=at)
        given = row.model_dump(exclude_unset=True, exclude_none=True).keys()
        foreign = sorted(given - FIELDS_OF_OP[op] - {"op", "out_channels"} | given & ONLY_IN_STAGES[place])
        if foreign:
            raise InputError(f"{foreign[0]!r} does not apply to op {op!r} in a {place}; remove it", location=at)
        missing = sorted({"kernel_size", "expansion"} & FIELDS_OF_OP[op] - given)
        if missing:
            raise InputError(f"op {op!r} requires {missing[0]!r}; add it", location=at)

    def _check_tags(self) -> None:
        tags = [entry.tag for entry in self.weights]
        for at, tag in enumerate(tags):
            if tag in tags[:at]:
                raise InputError(f"two weights entries have the tag {tag!r}; rename one", location=("weights", at))

    def eval_preprocess(self, tag: str | None = None) -> PreprocessSpec:
        """Return how to prepare an image for the weights of a tag (default: as for the definition).

        Changes to the weights may follow the tag, as in `fb_in1k, new classifier`. If neither the weights nor the
        definition have a recipe, it is torchvision's: resize to 256/224 of the input size and crop.
        """
        entry = next((entry for entry in self.weights if entry.tag == (tag or "").partition(",")[0]), None)
        given = (entry.preprocess if entry else None) or self.preprocess
        resize = -(-256 * self.input_size // (224 * 8)) * 8
        return given or PreprocessSpec(resize=resize, crop=self.input_size)
