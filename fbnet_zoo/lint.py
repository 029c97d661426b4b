"""Which layers of a definition go against the rules of an accelerator, and what that costs (no torch).

The rules of Apple's Neural Engine are those that Apple states for authors of models (github.com/apple/coreai-models,
"Neural Engine Rules"). A finding is a place to look at, not a measurement: Apple says, too, that tensors which stay in
the cache may be spared the padding, and that one cannot know beforehand which will.

Two of Apple's rules hold for every definition, and are only told: tensors have at most five axes, which is the limit,
and strides are 1 or 2, where Apple asks for the factors 2 and 3.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fbnet_zoo import planner, registry
from fbnet_zoo.complexity import cost
from fbnet_zoo.errors import UnknownNameError, did_you_mean
from fbnet_zoo.layers import Layer, walk
from fbnet_zoo.spec import ArchSpec

Severity = Literal["high", "medium", "low"]

_BYTES_PER_VALUE = 2
"""Of fp16, the widest type that the Neural Engine computes in."""

_ROW_BYTES = 64
_WORTH_TELLING = 2.0
"""Growth of a tensor from which it is a finding: more padding than values."""

_LARGEST_KERNEL = 5
"""The larger of Apple's own two examples of kernels that need not be split."""

_WIDER = f"rows are filled up to {_ROW_BYTES} bytes; prefer blocks where maps are 32 or more wide, or a larger image"
_POOLED = f"one value fills {_ROW_BYTES} bytes; leave it unless it is large, what is pooled has no other shape here"
_AS_CONVOLUTION = (
    "it may fall back to the CPU; fbnet_zoo's files have a 1x1 convolution, elsewhere say 'classifier: conv'"
)

_HIGH, _MEDIUM = 0.05, 0.01
_MADE_IN_PLACE = {"bn", "act"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A layer that goes against a rule.

    Attributes:
        layer: module name in the built network.
        rule: `width`, `kernel` or `linear`.
        severity: `high` and `medium` from 5 % and 1 % on, of what the rule is about: all bytes of activations, padding
            included, or all multiply-accumulates.
        found: what is there, in words.
        growth: of the layer's output by padding; 1 is none.
        padding_bytes: added to its output, for one image.
        activation_share: of the layer's padded output in those of all layers.
        mac_share: of the layer in all multiply-accumulates.
        advice: what to do.
    """

    layer: str
    rule: str
    severity: Severity
    found: str
    growth: float
    padding_bytes: int
    activation_share: float
    mac_share: float
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a check found, for one square image of `input_size` px.

    Attributes:
        name: of the definition.
        target: of the rules.
        findings: in the order of the layers.
        activation_bytes: of the input and of all outputs of layers, batch norm and activations in place.
        padded_bytes: the same with padding.
        largest_rank: of a tensor.
        strides: that occur.
        conditions: what the definition does not decide, and a conversion must keep.
    """

    name: str
    target: str
    input_size: int
    findings: tuple[Finding, ...]
    activation_bytes: int
    padded_bytes: int
    largest_rank: int
    strides: tuple[int, ...]
    conditions: tuple[str, ...]

    @property
    def growth(self) -> float:
        """By which padding makes all activations larger."""
        return self.padded_bytes / self.activation_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A layer, with its shares in the whole."""

    layer: Layer
    size: int
    padded: int
    all_padded: int
    mac_share: float

    def finding(self, rule: str, severity: Severity, found: str, advice: str) -> Finding:
        return Finding(
            layer=self.layer.name,
            rule=rule,
            severity=severity,
            found=found,
            growth=self.padded / self.size,
            padding_bytes=self.padded - self.size,
            activation_share=self.padded / self.all_padded,
            mac_share=self.mac_share,
            advice=advice,
        )


def _width(place: _Place) -> Iterator[Finding]:
    width = place.layer.size_out
    if place.layer.type not in _MADE_IN_PLACE and place.padded >= _WORTH_TELLING * place.size:
        advice = _WIDER if width > 1 else _POOLED
        severity = _severity((place.padded - place.size) / place.all_padded)
        yield place.finding("width", severity, f"rows of {width}", advice)


def _kernel(place: _Place) -> Iterator[Finding]:
    size = place.layer.kernel_size
    if size > _LARGEST_KERNEL:
        rest = size - _LARGEST_KERNEL + 1
        smaller = f"{_LARGEST_KERNEL} and {rest}" if rest <= _LARGEST_KERNEL else f"{_LARGEST_KERNEL} or less"
        advice = f"use kernels of {smaller} one after the other: k1 + k2 - 1 gives the same view"
        yield place.finding("kernel", _severity(place.mac_share), f"kernel {size}x{size}", advice)


def _linear(place: _Place) -> Iterator[Finding]:
    if place.layer.type == "linear":
        yield place.finding("linear", "low", "linear layer", _AS_CONVOLUTION)


def _severity(share: float) -> Severity:
    if share >= _HIGH:
        return "high"
    return "medium" if share >= _MEDIUM else "low"


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """What an accelerator asks for.

    Attributes:
        summary: what it is, for lists.
        rules: each yields what it finds at a layer.
        conditions: what a conversion must keep.
    """

    summary: str
    rules: tuple[Callable[[_Place], Iterator[Finding]], ...]
    conditions: tuple[str, ...]


TARGETS: Mapping[str, Accelerator] = {
    "ane": Accelerator(
        summary="Apple's Neural Engine",
        rules=(_width, _kernel, _linear),
        conditions=(
            "types: convert with --precision fp16 or fewer bits; float32 falls back to the GPU or the CPU",
            "shapes: leave out --dynamic-batch; only static shapes stay on the Neural Engine",
        ),
    ),
}


def lint(network: str | Path | ArchSpec, target: str = "ane", input_size: int | None = None) -> Report:
    """Check a definition against the rules of an accelerator.

    Args:
        network: a name, an alias, a YAML path or a definition.
        target: a key of `TARGETS`.
        input_size: side of the square image, px; `None` is the definition's.

    Raises:
        UnknownNameError: there is no such entry, or no such target.
        InputError: the image is too small for the network.

    >>> report = lint("fbnet_b")
    >>> {finding.rule for finding in report.findings}
    {'width'}
    >>> next(finding for finding in report.findings if finding.layer == "stages.32.0.depthwise.0.conv").found
    'rows of 7'
    """
    if target not in TARGETS:
        hint = did_you_mean(target, TARGETS) or f"; expected {' or '.join(TARGETS)}"
        raise UnknownNameError(f"there are no rules for {target!r}{hint}")
    spec = network if isinstance(network, ArchSpec) else registry.get_spec(network)
    counted = cost(spec, input_size)
    walked = tuple(walk(planner.plan(spec), counted.input_size))
    tensors = [(3, counted.input_size)]
    tensors += [(layer.out_channels, layer.size_out) for layer in walked if layer.type not in _MADE_IN_PLACE]
    all_padded = sum(_padded(*tensor) for tensor in tensors)
    macs = [layer.macs / counted.macs for layer in counted.layers]
    places = [_place(*pair, all_padded) for pair in zip(walked, macs, strict=True)]
    return Report(
        name=spec.name,
        target=target,
        input_size=counted.input_size,
        findings=tuple(found for place in places for rule in TARGETS[target].rules for found in rule(place)),
        activation_bytes=sum(_size(*tensor) for tensor in tensors),
        padded_bytes=all_padded,
        largest_rank=5 if any(layer.type == "shuffle" for layer in walked) else 4,  # (N, g, C / g, H, W)
        strides=tuple(sorted({layer.stride for layer in walked})),
        conditions=TARGETS[target].conditions,
    )


def _place(layer: Layer, mac_share: float, all_padded: int) -> _Place:
    tensor = layer.out_channels, layer.size_out
    return _Place(layer=layer, size=_size(*tensor), padded=_padded(*tensor), all_padded=all_padded, mac_share=mac_share)


def _size(channels: int, side: int) -> int:
    return channels * side * side * _BYTES_PER_VALUE


def _padded(channels: int, side: int) -> int:
    """Return the bytes of a tensor `(channels, side, side)` whose rows are filled up."""
    rows = -(-side * _BYTES_PER_VALUE // _ROW_BYTES) * _ROW_BYTES
    return channels * side * rows
