"""The names of a network's values in checkpoints of three projects, derived from its plan.

`fbnet_zoo` names are those of the built network. `timm` numbers stages as the tables of the MobileNet papers do,
`mobile_vision` by output stride. Tests compare them with timm itself and with `tests/data/mobile_vision_keys`.
"""

from collections.abc import Iterable, Iterator, Mapping

from fbnet_zoo.layers import Layer, walk
from fbnet_zoo.plans import ConvPlan, InvertedResidualPlan, NetworkPlan, PoolHeadPlan
from fbnet_zoo.spec import Layout

LAYOUTS: tuple[Layout, ...] = ("fbnet_zoo", "timm", "mobile_vision")

CLASSIFIER = "classifier.weight"
CLASSIFIER_BIAS = "classifier.bias"
STEM = "stem.conv.weight"

Shape = tuple[int, ...]
_Parts = Mapping[str, str]

_ANY_SIZE = 1024
"""An image size (px) large enough for every network; names and shapes do not depend on it."""

_TIMM_STAGES = 7
"""Stages of timm's MobileNets, the expansion of a pooled head being the last."""

_TIMM_BLOCK = {
    "expand.conv": "conv_pw",
    "expand.bn": "bn1",
    "depthwise.0.conv": "conv_dw",
    "depthwise.0.bn": "bn2",
    "se.reduce": "se.conv_reduce",
    "se.expand": "se.conv_expand",
    "project.conv": "conv_pwl",
    "project.bn": "bn3",
}
_TIMM_UNEXPANDED = _TIMM_BLOCK | {"depthwise.0.bn": "bn1", "project.conv": "conv_pw", "project.bn": "bn2"}

_MOBILE_VISION_BLOCK = {
    "expand.conv": "pw.conv",
    "expand.bn": "pw.bn",
    "depthwise.0.conv": "dw.conv",
    "depthwise.0.bn": "dw.bn",
    "se.reduce": "se.se.0.conv",
    "se.expand": "se.se.1",
    "project.conv": "pwl.conv",
    "project.bn": "pwl.bn",
}
_MOBILE_VISION_HEAD = _MOBILE_VISION_BLOCK | {"se.reduce": "pw_se.se.0.conv", "se.expand": "pw_se.se.1"}
_MOBILE_VISION_SKIP = {"conv": "conv.conv", "bn": "conv.bn"}


def shapes(plan: NetworkPlan) -> dict[str, Shape]:
    """Return the shape of every parameter and buffer of a network, by our name.

    The names are those of the `state_dict` of the network built from `plan`, in the same order, without building it.

    >>> from fbnet_zoo import get_spec, planner
    >>> shapes(planner.plan(get_spec("fbnet_b")))["stem.conv.weight"]
    (16, 3, 3, 3)
    """
    found: dict[str, Shape] = {}
    for layer in walk(plan, _ANY_SIZE):
        if layer.out_channels:  # a network without classes has no classifier
            found.update(_values(layer))
    return found


def keys(plan: NetworkPlan, layout: Layout, names: Iterable[str] | None = None) -> dict[str, str]:
    """Return the names of parameters and buffers in a layout, by our names.

    Parts that the layout does not have (a second depthwise convolution) keep our name, so that no file of that layout
    fits.

    Args:
        plan: the network.
        layout: layout of the names.
        names: our names (default: all of the network).

    >>> from fbnet_zoo import get_spec, planner
    >>> keys(planner.plan(get_spec("fbnet_c")), "mobile_vision")["stages.4.0.expand.bn.weight"]
    'backbone.stages.xif2_0.pw.bn.weight'
    """
    ours = shapes(plan) if names is None else names
    if layout == "fbnet_zoo":
        return {name: name for name in ours}
    blocks = dict(_timm(plan) if layout == "timm" else _mobile_vision(plan))
    return {name: _translate(name, blocks) for name in ours}


def _values(layer: Layer) -> Iterator[tuple[str, Shape]]:
    channels = (layer.out_channels,)
    match layer.type:
        case "conv":
            kernel = (layer.kernel_size, layer.kernel_size)
            yield f"{layer.name}.weight", (*channels, layer.in_channels // layer.groups, *kernel)
        case "linear":
            yield f"{layer.name}.weight", (*channels, layer.in_channels)
        case "bn":
            for value in ("weight", "bias", "running_mean", "running_var"):
                yield f"{layer.name}.{value}", channels
            yield f"{layer.name}.num_batches_tracked", ()
    if layer.bias:
        yield f"{layer.name}.bias", channels


def _translate(name: str, blocks: Mapping[str, tuple[str, _Parts]]) -> str:
    """Replace the block and the part of `stages.16.3.project.conv.weight`, `stem.bn.bias` or `classifier.weight`."""
    words = name.split(".")
    depth = 3 if words[0] == "stages" else 1
    block, parts = blocks[".".join(words[:depth])]
    part = ".".join(words[depth:-1])
    return ".".join(filter(None, (block, parts.get(part, part), words[-1])))


def _timm(plan: NetworkPlan) -> Iterator[tuple[str, tuple[str, _Parts]]]:
    """Yield each of our blocks with timm's name and the names of its parts.

    In timm, a stage begins where the stride or the number of channels changes. The block before FBNetV3's pooled head
    also changes it, but the expansion of the head is the seventh and last stage.
    """
    pooled = isinstance(plan.head, PoolHeadPlan)
    most = _TIMM_STAGES - pooled
    number, index, channels = -1, 0, None
    for stage in plan.stages:
        for position, block in enumerate(stage.blocks):
            begins = position == 0 or block.out_channels != channels
            number, index = (number + 1, 0) if begins and number + 1 < most else (number, index + 1)
            channels = block.out_channels
            bare = isinstance(block, InvertedResidualPlan) and block.expand is None
            parts = _TIMM_UNEXPANDED if bare else _TIMM_BLOCK
            yield f"stages.{stage.name}.{position}", (f"blocks.{number}.{index}", parts)
    last = f"blocks.{number + 1}.0"
    pool_head = {"expand.conv": f"{last}.conv", "expand.bn": f"{last}.bn1", "project.conv": "conv_head"}
    yield "stem", ("", {"conv": "conv_stem", "bn": "bn1"})
    yield "head", ("", pool_head if pooled else {"conv": "conv_head", "bn": "bn2"})
    yield "classifier", ("classifier", {})


def _mobile_vision(plan: NetworkPlan) -> Iterator[tuple[str, tuple[str, _Parts]]]:
    """Yield each of our blocks with mobile-vision's name and the names of its parts.

    Blocks are named `xif{stage}_{block}`; the stem is stage 0, the head the last. Skipped blocks count, stages without
    blocks do not.
    """
    trunk = "backbone.stages.xif"
    stages = [stage for stage in plan.stages if stage.blocks]
    for number, stage in enumerate(stages, start=1):
        for position, block in enumerate(stage.blocks):
            parts = _MOBILE_VISION_SKIP if isinstance(block, ConvPlan) else _MOBILE_VISION_BLOCK
            yield f"stages.{stage.name}.{position}", (f"{trunk}{number}_{position}", parts)
    yield "stem", (f"{trunk}0_0", {})
    yield "head", (f"{trunk}{len(stages) + 1}_0", _MOBILE_VISION_HEAD)
    yield "classifier", ("head.conv", {})
