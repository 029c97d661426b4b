"""Random definitions for property tests."""

import math
from typing import Any

from hypothesis import strategies as st

from fbnet_zoo import cost
from fbnet_zoo.errors import InputError
from fbnet_zoo.spec import FIELDS_OF_OP, ArchSpec, CountsSpec

WORDS = st.from_regex(r"[a-z][a-z0-9_]{0,15}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
ACTIVATIONS = st.sampled_from(["relu", "relu6", "hard_swish", "swish"])
OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "act": ACTIVATIONS,
    "bias": st.booleans(),
    "divisor": st.sampled_from([1, 4, 8]),
    "se_of": st.sampled_from(["input", "expanded"]),
    "se_act": ACTIVATIONS,
    "se_gate": st.sampled_from(["hard_sigmoid", "sigmoid"]),
    "keep_expand": st.booleans(),
    "linear_depthwise": st.booleans(),
}
FRACTIONS = st.floats(0.01, 8, allow_nan=False)
FIELDS: dict[str, st.SearchStrategy[Any]] = OPTIONS | {
    "kernel_size": st.sampled_from([1, 3, 5, 7]),
    "expansion": st.integers(1, 6),
    "repeats": st.integers(1, 3),
    "groups": st.sampled_from([1, 2, 4]),
    "se_ratio": st.floats(0, 1, allow_nan=False),
    "padding": st.integers(0, 4),
    "depthwise_repeats": st.integers(1, 2),
    "depthwise_groups": st.sampled_from([1, 2, 4]),
}


@st.composite
def rows(draw: st.DrawFn, op: str, stride: int = 1) -> dict[str, Any]:
    """A row whose groups divide its channels: these are multiples of 8, and so are they times a whole expansion."""
    row = {"op": op, "out_channels": 8 * draw(st.integers(1, 12))}
    if "stride" in FIELDS_OF_OP[op] and (stride > 1 or draw(st.booleans())):
        row["stride"] = stride
    needed = {"kernel_size", "expansion"} & FIELDS_OF_OP[op]
    optional = sorted(FIELDS_OF_OP[op] & FIELDS.keys() - needed)
    for field in sorted(needed) + draw(st.lists(st.sampled_from(optional), unique=True) if optional else st.just([])):
        row[field] = draw(FIELDS[field])
    if op in {"ir", "fused_ir"} and not (stride > 1 and row.get("repeats", 1) == 1):
        row.pop("padding", None)  # it would change the size where the input is added
    if not {"groups", "depthwise_groups"} & row.keys() and "expansion" in row and draw(st.booleans()):
        row["expansion"] = draw(FRACTIONS)
    return row


def without(row: dict[str, Any], *fields: str) -> dict[str, Any]:
    return {field: value for field, value in row.items() if field not in fields}


@st.composite
def specs(draw: st.DrawFn) -> ArchSpec:
    stride = draw(st.integers(1, 2))
    stem = without(draw(rows("conv")), "repeats", "groups") | {"stride": stride}
    stages = []
    for output_stride in sorted(draw(st.sets(st.sampled_from([1, 2, 4, 8, 16, 32]), min_size=1, max_size=4))):
        if output_stride < stride:
            continue
        halvings = int(math.log2(output_stride // stride))
        ops = [
            draw(st.sampled_from(["conv", "ir", "fused_ir", "skip"])) for _ in range(halvings + draw(st.integers(0, 2)))
        ]
        blocks = [draw(rows(op, 2 if index < halvings else 1)) for index, op in enumerate(ops)]
        stages.append({"output_stride": output_stride, "blocks": tuple(blocks)})
        stride = output_stride
    fields: dict[str, Any] = {
        "name": draw(WORDS),
        "family": draw(st.sampled_from(["fbnet", "chamnet", "fbnetv2", "fbnetv3", "mobilenet"])),
        "summary": draw(TEXTS),
        "input_size": draw(st.integers(8, 2048)),
        "stem": stem,
        "stages": tuple(stages) or ({"output_stride": stride, "blocks": ()},),
        "head": without(draw(rows(draw(st.sampled_from(["conv", "ir_pool"])))), "repeats", "stride"),
    }
    spec = ArchSpec.model_validate(fields | draw(st.fixed_dictionaries({}, optional=METADATA)))
    return _counted(spec) if draw(st.booleans()) else spec


def _counted(spec: ArchSpec) -> ArchSpec:
    try:
        found = cost(spec)
    except InputError:  # its images are too small for its strides
        return spec
    return spec.model_copy(update={"counts": CountsSpec(params=found.params, macs=found.macs)})


PREPROCESS = st.fixed_dictionaries(
    {"resize": st.integers(100, 4096), "crop": st.integers(8, 100)},
    optional={
        "interpolation": st.sampled_from(["bilinear", "bicubic", "nearest"]),
        "std": st.tuples(*[st.floats(1e-6, 1e6)] * 3),
        "order": st.sampled_from(["rgb", "bgr"]),
    },
)
METADATA: dict[str, st.SearchStrategy[Any]] = {
    "aliases": st.lists(st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,9}", fullmatch=True), max_size=2).map(tuple),
    "reconstruction": st.booleans(),
    "bn_eps": st.floats(1e-12, 0.5),
    "zero_init_residual": st.booleans(),
    "defaults": st.fixed_dictionaries({}, optional=OPTIONS),
    "classifier": st.sampled_from(["linear", "conv"]),
    "paper": st.fixed_dictionaries({"title": TEXTS, "arxiv": st.just("1812.03443"), "venue": TEXTS}),
    "source": st.fixed_dictionaries({"repository": TEXTS}, optional={"commit": TEXTS, "entry": TEXTS | st.none()}),
    "deviations": st.lists(TEXTS, max_size=2).map(tuple),
    "preprocess": PREPROCESS,
    "weights": st.lists(
        st.fixed_dictionaries(
            {
                "tag": WORDS,
                "source": st.sampled_from(["hf://owner/name", "file:name.safetensors"]),
                "layout": st.just("timm"),
                "license": TEXTS,
            },
            optional={
                "size": st.integers(1, 10**9),
                "sha256": st.just("0" * 8),
                "top1": st.floats(0, 100),
                "preprocess": PREPROCESS,
            },
        ),
        max_size=2,
        unique_by=lambda entry: entry["tag"],
    ).map(tuple),
    "reported": st.lists(
        st.fixed_dictionaries(
            {"metric": st.just("top1"), "value": st.floats(allow_nan=False, allow_infinity=False), "source": TEXTS},
            optional={"device": TEXTS},
        ),
        max_size=2,
    ).map(tuple),
}
