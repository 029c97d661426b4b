"""From a model to the exported program that every converter starts from.

The deploy form is the graph that all formats are converted from:

- batch norm is folded into the convolutions; dropout and drop-path are removed;
- activations are single out-of-place functions: `aten.relu`, `aten.hardtanh` (ReLU6), `aten.hardswish`, `aten.silu`,
  `aten.sigmoid`;
- the hard-sigmoid gate is a clamp to 0..1 whose `x / 6 + 1 / 2` is folded into the preceding convolution: XNNPACK has
  no hard-sigmoid, and in fp16 the scalars of its parts would not be delegated;
- views give the batch as -1, since with a symbol they would not be delegated when the batch is dynamic;
- the head stays 4-D: pool, the classifier as a 1x1 convolution, and a single flatten at the end;
- pooling is `aten.adaptive_avg_pool2d` to 1x1, and is omitted after a head that pools.

A target that needs a different form of one of these replaces it while lowering.
"""

import json
import math
from collections import deque
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from fbnet_zoo._require import CONVERTING, quiet
from fbnet_zoo.class_names import check_label_count, check_labels
from fbnet_zoo.converters.artifact import LARGEST_BATCH, ConvertOptions, Precision
from fbnet_zoo.converters.cases import photograph_batch
from fbnet_zoo.converters.parity import snr_db, tensors
from fbnet_zoo.converters.quantization.calibration import CalibrationImages
from fbnet_zoo.converters.respell import respell, respell_end
from fbnet_zoo.errors import ConversionError
from fbnet_zoo.layers import check_batch, walk
from fbnet_zoo.model import FBNet, fused
from fbnet_zoo.modules import in_channels, num_outputs, output_shapes, plain_copy
from fbnet_zoo.networks import Network, class_names_of, has_classifier, network_of
from fbnet_zoo.spec import ArchSpec, PreprocessSpec

INPUT_NAME, OUTPUT_NAME = "image", "logits"
MODULE_PREFIX = "network."
"""Prefix of the deploy form's modules and parameters in exported programs."""

PREPROCESS = "fbnet_zoo.preprocess"
"""Metadata key of the preprocessing, as JSON."""

NetworkT = TypeVar("NetworkT", bound=Network)

LAST_OF_BLOCK = "project"
_MINIMUM_SNR_DB = 110.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Quantization:
    """How to quantize a program.

    Attributes:
        calibration: images for the ranges of activations, and others for the comparison.
        kept: modules that stay in a higher precision, submodules included, by their names in the deploy form.
    """

    calibration: CalibrationImages
    kept: frozenset[str] = frozenset()

    def keeps(self, name: str) -> bool:
        """Return whether the operators of a module itself stay in a higher precision.

        The sum of a residual block has the precision of the block's last layer.
        """
        parts = name.split(".")
        above = {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
        return not self.kept.isdisjoint(above | {f"{name}.{LAST_OF_BLOCK}"})


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureOutput:
    """A feature map: its name in files, and its shape `(C, H, W)`."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Program:
    """An exported network with everything that a converter needs to know about it.

    Attributes:
        exported: graph from `(batch, in_channels, input_size, input_size)` to `(batch, num_classes)`, both float32.
        module: the exported module; computes in `precision`.
        num_classes: number of outputs; without a classifier, of features.
        preprocess: preprocessing for `input_size`.
        labels: names of the `num_classes` classes, if known: from the user, else from the weights.
        class_names: names of the classes in the weights, if known.
        license: license of the weights.
        weights: source of the weights: a tag, a URL, a file name or a seed.
        quantization: how to quantize the program; `None` for 16 and 32 bits.
        features: the outputs of a program of features, which has no classes.
        input_name: name of the graph's input.
        output_name: name of the graph's output.
    """

    exported: torch.export.ExportedProgram
    module: nn.Module
    spec: ArchSpec
    precision: Precision
    input_size: int
    batch: int
    dynamic_batch: bool
    in_channels: int
    num_classes: int
    preprocess: PreprocessSpec
    labels: tuple[str, ...] | None
    class_names: tuple[str, ...] | None = None
    license: str | None
    weights: str | None
    quantization: Quantization | None = None
    features: tuple["FeatureOutput", ...] = ()
    input_name: str = INPUT_NAME
    output_name: str = OUTPUT_NAME

    @property
    def output_names(self) -> list[str]:
        """Names of the graph's outputs: of the feature maps, if it has any."""
        return [each.name for each in self.features] or [self.output_name]

    @property
    def description(self) -> str:
        """Name, summary and paper of the network, for the metadata of a file."""
        paper = f" {self.spec.paper.title} (arXiv:{self.spec.paper.arxiv})." if self.spec.paper else ""
        return f"{self.spec.name}: {self.spec.summary}{paper}"

    @property
    def metadata(self) -> dict[str, str]:
        """Custom metadata of a file: name, weights, preprocessing and, if known, labels."""
        labels = {"fbnet_zoo.labels": json.dumps(self.labels, ensure_ascii=False)} if self.labels else {}
        return {
            "fbnet_zoo.name": self.spec.name,
            "fbnet_zoo.weights": self.weights or "not stated",
            PREPROCESS: self.preprocess.model_dump_json(),
            **labels,
        }


class FullPrecision(nn.Module):
    """A float32 network whose input has the name used in files."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        return self.network(image)


class HalfPrecision(nn.Module):
    """A float16 network with float32 input and output."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.half()

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        output = self.network(image.half())
        return output.float() if isinstance(output, Tensor) else [each.float() for each in output]


WRAPPERS = {"fp32": FullPrecision, "fp16": HalfPrecision}
"""Wrapper of an exported network by its precision."""


def deploy_form(model: NetworkT) -> NetworkT:
    """Return a copy of a network, or of features, in the form that converters need.

    The rewrite is done and checked in float64, which shows a wrong rewrite but not the order of sums or the rounding of
    folded weights. The result has the precision of the model.

    Raises:
        ConversionError: in float64, the copy agrees with the model to less than 110 dB.
    """
    exact = plain_copy(model)
    exact.eval().double()
    network = fused(exact)
    if isinstance(network, FBNet):
        respell_end(network)
    respell(network)
    _check(exact, network)
    network.to(next(model.parameters()).dtype)
    return network


@torch.no_grad()
def _check(model: Network, network: Network) -> None:
    images = photograph_batch(model.spec.eval_preprocess(), in_channels(model)).double()
    pairs = zip(tensors(model(images)), tensors(network(images)), strict=True)
    snr = min(snr_db(expected, got) for expected, got in pairs)
    if not snr >= _MINIMUM_SNR_DB:
        raise ConversionError(
            f"{model.spec.name}: the deploy form agrees with the model to {snr:.1f} dB, expected at least "
            f"{_MINIMUM_SNR_DB:.0f} dB; are all weights finite?"
        )


def export(network: nn.Module, options: ConvertOptions) -> Program:
    """Export the deploy form of a network, or of features.

    Shapes are those of the module, which may have another stem or classifier than its plan.

    Args:
        network: the network, also wrapped by `torch.compile` or `DataParallel`; not modified.
        options: `precision`, `batch`, `dynamic_batch`, `input_size` and `labels` are used.

    Raises:
        InputError: the module is not a network of this library, or the labels or the input size do not fit it.
        ConversionError: PyTorch cannot export it, or the deploy form does not compute what the model computes.
    """
    model = network_of(network)
    preprocess, channels = _preprocess(model, options.input_size), in_channels(model)
    if isinstance(model, FBNet):
        deque(walk(model.plan, preprocess.crop), maxlen=0)  # rejects images that are too small
    check_batch(model.plan, preprocess.crop, LARGEST_BATCH if options.dynamic_batch else options.batch)
    features = _features(model, preprocess.crop)
    num_classes = num_outputs(model, preprocess.crop) if isinstance(model, FBNet) else 0
    names = class_names_of(model, num_classes) if isinstance(model, FBNet) else None
    labels = names if options.labels is None else options.labels
    if labels is not None:
        check_label_count(labels, num_classes if has_classifier(model) else 0)
        check_labels(labels, names)
    module = WRAPPERS[options.precision](deploy_form(model))
    batch = None if options.dynamic_batch else options.batch
    return Program(
        exported=export_module(module, (batch, channels, preprocess.crop, preprocess.crop)),
        module=module,
        spec=model.spec,
        precision=options.precision,
        input_size=preprocess.crop,
        batch=options.batch,
        dynamic_batch=options.dynamic_batch,
        in_channels=channels,
        num_classes=num_classes,
        features=features,
        preprocess=preprocess,
        labels=tuple(labels) if labels else None,
        class_names=names,
        license=model.license,
        weights=model.weights,
    )


def _features(model: Network, input_size: int) -> tuple[FeatureOutput, ...]:
    if isinstance(model, FBNet):
        return ()
    shapes = output_shapes(model, input_size)
    names = [level.module.replace(".", "_") for level in model.feature_info]
    return tuple(FeatureOutput(name=name, shape=shape) for name, shape in zip(names, shapes, strict=True))


def of_network(program: Program, network: nn.Module, outputs: int) -> Program:
    """Export another network with the input and settings of a program, but without labels.

    Args:
        program: the program to take settings from.
        network: the network to export.
        outputs: number of outputs of the network.

    Raises:
        ConversionError: PyTorch cannot export it.
    """
    module = WRAPPERS[program.precision](network)
    batch = None if program.dynamic_batch else program.batch
    exported = export_module(module, (batch, program.in_channels, program.input_size, program.input_size))
    return replace(program, exported=exported, module=module, num_classes=outputs, labels=None)


def export_module(module: nn.Module, shape: tuple[int | None, int, int, int]) -> torch.export.ExportedProgram:
    """Export a module for images `(N, C, H, W)`, where N may be `None`: 1 to 64.

    Raises:
        ConversionError: PyTorch cannot export it.
    """
    batch, *image = shape
    dynamic = ({0: torch.export.Dim("batch", min=1, max=LARGEST_BATCH)},) if batch is None else None
    # With the largest batch: PyTorch specializes convolutions to fewer than 16 images or more, which would bound N.
    example = torch.randn(batch or LARGEST_BATCH, *image, generator=torch.Generator().manual_seed(0))
    try:
        with CONVERTING, quiet():
            return torch.export.export(module, (example,), dynamic_shapes=dynamic)
    except Exception as error:
        raise ConversionError(f"PyTorch cannot export the network: {error}") from error


def _preprocess(model: Network, input_size: int | None) -> PreprocessSpec:
    """Return the preprocessing of the weights, scaled to `input_size` if given."""
    usual = model.spec.eval_preprocess(model.weights)
    if input_size in {None, usual.crop}:
        return usual
    return usual.model_copy(update={"crop": input_size, "resize": math.ceil(usual.resize * input_size / usual.crop)})
