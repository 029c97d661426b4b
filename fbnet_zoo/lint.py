"""Layers of a definition that break the rules of an accelerator, and what they cost (no torch).

The rules of Apple's Neural Engine are those that Apple gives to model authors (github.com/apple/coreai-models, "Neural
Engine Rules"). A finding is a place to look at, not a measurement: according to Apple, tensors that stay in the cache
may not be padded, and which ones do cannot be known in advance.

Every definition follows two of Apple's rules, which are only reported: tensors have at most five axes, the limit, and
strides are 1 or 2, where Apple asks for the factors 2 and 3.
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
"""Size of fp16, the widest type that the Neural Engine computes in."""

_ROW_BYTES = 64
_MIN_GROWTH = 2.0
"""Growth of a tensor by padding from which it is a finding: as much padding as values."""

_LARGEST_KERNEL = 5
"""The larger of Apple's two examples of kernels that need not be split."""

_WIDER = f"rows are padded to {_ROW_BYTES} bytes; prefer blocks on maps at least 32 wide, or a larger image"
_POOLED = f"one value takes {_ROW_BYTES} bytes; ignore it unless it is large, pooled features have no other shape"
_AS_CONVOLUTION = (
    "it may fall back to the CPU; files of fbnet_zoo have a 1x1 convolution instead, otherwise use 'classifier: conv'"
)

_HIGH, _MEDIUM = 0.05, 0.01
_MADE_IN_PLACE = {"bn", "act"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LintFinding:
    """A layer that breaks a rule.

    Attributes:
        layer: module name in the built network.
        rule: `width`, `kernel` or `linear`.
        severity: `high` from 5 %, `medium` from 1 % of all activation bytes (with padding) or, for kernels, of all
            multiply-accumulates.
        found: description of the problem.
        growth: factor by which padding enlarges the layer's output.
        padding_bytes: padding of the layer's output for one image, bytes.
        activation_share: the layer's share of all activation bytes, with padding.
        mac_share: the layer's share of all multiply-accumulates.
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
    """Result of a check, for one square image of `input_size` px.

    Attributes:
        name: name of the definition.
        target: target of the rules.
        findings: layers that break a rule, in order.
        activation_bytes: bytes of the input and of all outputs of layers, batch norm and activations in place.
        padded_bytes: these bytes with padding.
        largest_rank: largest number of axes of a tensor.
        strides: strides in the network.
        conditions: rules that depend on the conversion.
    """

    name: str
    target: str
    input_size: int
    findings: tuple[LintFinding, ...]
    activation_bytes: int
    padded_bytes: int
    largest_rank: int
    strides: tuple[int, ...]
    conditions: tuple[str, ...]

    @property
    def growth(self) -> float:
        """Factor by which padding enlarges all activations."""
        return self.padded_bytes / self.activation_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _LayerShare:
    """A layer with its bytes and its shares of the network."""

    layer: Layer
    size: int
    padded: int
    all_padded: int
    mac_share: float

    def finding(self, rule: str, severity: Severity, found: str, advice: str) -> LintFinding:
        return LintFinding(
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


def _width(share: _LayerShare) -> Iterator[LintFinding]:
    width = share.layer.size_out
    if share.layer.type not in _MADE_IN_PLACE and share.padded >= _MIN_GROWTH * share.size:
        advice = _WIDER if width > 1 else _POOLED
        severity = _severity((share.padded - share.size) / share.all_padded)
        yield share.finding("width", severity, f"rows of {width}", advice)


def _kernel(share: _LayerShare) -> Iterator[LintFinding]:
    size = share.layer.kernel_size
    if size > _LARGEST_KERNEL:
        rest = size - _LARGEST_KERNEL + 1
        smaller = f"{_LARGEST_KERNEL} and {rest}" if rest <= _LARGEST_KERNEL else f"{_LARGEST_KERNEL} or less"
        advice = f"use kernels of {smaller} in sequence: k1 + k2 - 1 is the same receptive field"
        yield share.finding("kernel", _severity(share.mac_share), f"kernel {size}x{size}", advice)


def _linear(share: _LayerShare) -> Iterator[LintFinding]:
    if share.layer.type == "linear":
        yield share.finding("linear", "low", "linear layer", _AS_CONVOLUTION)


def _severity(share: float) -> Severity:
    if share >= _HIGH:
        return "high"
    return "medium" if share >= _MEDIUM else "low"


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """An accelerator and its rules.

    Attributes:
        summary: description for lists.
        rules: functions that yield the findings for a layer.
        conditions: rules that depend on the conversion.
    """

    summary: str
    rules: tuple[Callable[[_LayerShare], Iterator[LintFinding]], ...]
    conditions: tuple[str, ...]


TARGETS: Mapping[str, Accelerator] = {
    "ane": Accelerator(
        summary="Apple's Neural Engine",
        rules=(_width, _kernel, _linear),
        conditions=(
            "types: convert with --precision fp16 or fewer bits; float32 falls back to the GPU or CPU",
            "shapes: omit --dynamic-batch; only static shapes run on the Neural Engine",
        ),
    ),
}


def lint(network: str | Path | ArchSpec, target: str = "ane", input_size: int | None = None) -> Report:
    """Check a definition against the rules of an accelerator.

    Args:
        network: a name, an alias, a YAML path or a definition.
        target: a key of `TARGETS`.
        input_size: side of the square image, px (default: the definition's).

    Raises:
        UnknownNameError: there is no such entry or target.
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
    shares = [_share(*pair, all_padded) for pair in zip(walked, macs, strict=True)]
    return Report(
        name=spec.name,
        target=target,
        input_size=counted.input_size,
        findings=tuple(found for share in shares for rule in TARGETS[target].rules for found in rule(share)),
        activation_bytes=sum(_size(*tensor) for tensor in tensors),
        padded_bytes=all_padded,
        largest_rank=5 if any(layer.type == "shuffle" for layer in walked) else 4,  # (N, g, C / g, H, W)
        strides=tuple(sorted({layer.stride for layer in walked})),
        conditions=TARGETS[target].conditions,
    )


def _share(layer: Layer, mac_share: float, all_padded: int) -> _LayerShare:
    tensor = layer.out_channels, layer.size_out
    return _LayerShare(
        layer=layer, size=_size(*tensor), padded=_padded(*tensor), all_padded=all_padded, mac_share=mac_share
    )


def _size(channels: int, side: int) -> int:
    return channels * side * side * _BYTES_PER_VALUE


def _padded(channels: int, side: int) -> int:
    """Return the bytes of a tensor `(channels, side, side)` with padded rows."""
    rows = -(-side * _BYTES_PER_VALUE // _ROW_BYTES) * _ROW_BYTES
    return channels * side * rows
