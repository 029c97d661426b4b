"""From a model to the exported program that every converter starts from.

The deploy form is the one graph that all formats are made of:

- batch norm is folded into the convolutions, dropout and drop-path are gone;
- activations are single functions out of place: `aten.relu`, `aten.hardtanh` (ReLU6), `aten.hardswish`, `aten.silu`,
  `aten.sigmoid`;
- the hard-sigmoid gate is a clamp to 0..1 whose `x / 6 + 1 / 2` is folded into the convolution before it: XNNPACK knows
  no hard-sigmoid, and in fp16 the scalars of its parts would stay outside the delegate;
- views give the batch as -1, since a symbol would keep them outside the delegate when the batch is dynamic;
- the head stays 4-D: pool, the classifier as a 1x1 convolution, and one flatten at the very end;
- pooling is `aten.adaptive_avg_pool2d` to 1x1, once: not again behind a head that has pooled.

A target that prefers another spelling of one of these replaces it while it lowers.
"""

import copy
import math
from collections import deque
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fbnet_zoo import blocks
from fbnet_zoo._require import quiet
from fbnet_zoo.converters.artifact import LARGEST_BATCH, ConvertOptions, Precision
from fbnet_zoo.converters.cases import photograph_batch
from fbnet_zoo.converters.parity import snr_db
from fbnet_zoo.converters.quantization.calibration import Calibration
from fbnet_zoo.converters.respell import respell
from fbnet_zoo.errors import ConversionError, InputError
from fbnet_zoo.layers import walk
from fbnet_zoo.model import FBNet
from fbnet_zoo.spec import ArchSpec, PreprocessSpec

INPUT_NAME, OUTPUT_NAME = "image", "logits"
MODULE_PREFIX = "network."
"""Before the names of the deploy form's modules and parameters, in exported programs."""

LAST_OF_BLOCK = "project"
_MINIMUM_SNR_DB = 110.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Quantization:
    """How a program shall be quantized.

    Attributes:
        calibration: images for the ranges of activations, and others for the comparison.
        kept: modules that stay in a higher precision, with all below them, by their names in the deploy form.
    """

    calibration: Calibration
    kept: frozenset[str] = frozenset()

    def keeps(self, name: str) -> bool:
        """Tell whether the operators of a module itself stay in a higher precision.

        The sum at the end of a residual block goes with its last layer: rounding it would undo what that keeps.
        """
        parts = name.split(".")
        above = {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
        return not self.kept.isdisjoint(above | {f"{name}.{LAST_OF_BLOCK}"})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Program:
    """An exported network with all that a converter needs to know about it.

    Attributes:
        exported: takes `(batch, in_channels, input_size, input_size)`, gives `(batch, num_classes)`, both float32.
        module: what was exported; fp16 inside if `precision` is.
        num_classes: outputs; of a network without classes, its features.
        preprocess: how an image becomes the input, at `input_size`.
        labels: names of the classes, `num_classes` of them.
        license: of the weights.
        weights: where the parameters come from: a tag, an address, the name of a file or a seed.
        quantization: how a writer shall quantize it; `None` for 16 and 32 bits.
        input_name: of the graph's input.
        output_name: of the graph's output.
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
    license: str | None
    weights: str | None
    quantization: Quantization | None = None
    input_name: str = INPUT_NAME
    output_name: str = OUTPUT_NAME


class Flatten(nn.Module):
    """What stands for the classifier of a network without classes: `(N, C, 1, 1)` to `(N, C)`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        return x.view(-1, self.channels)


class FullPrecision(nn.Module):
    """A network in float32, its input named as in the files."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return self.network(image)


class HalfPrecision(nn.Module):
    """A network in float16 whose images and logits are float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.half()

    def forward(self, image: Tensor) -> Tensor:
        return self.network(image.half()).float()


WRAPPERS = {"fp32": FullPrecision, "fp16": HalfPrecision}
"""What is exported of a network, by the precision inside."""


def deploy_form(model: FBNet) -> FBNet:
    """Return a copy of a network, spelled as the converters need it.

    It is made and checked in float64, where neither the order of the sums shows nor the rounding of folded weights,
    and a wrong rewrite does; then it gets the precision of the model.

    Raises:
        ConversionError: in float64, the copy is less than 110 dB from the model.
    """
    exact = copy.deepcopy(model).eval().double()
    network = exact.fuse()
    respell(network)
    if isinstance(network.head, blocks.PoolHead):
        network.set_submodule("pool", nn.Identity())
    if model.plan.num_classes == 0:
        network.classifier = Flatten(model.plan.features)
    _check(exact, network)
    return network.to(next(model.parameters()).dtype)


@torch.no_grad()
def _check(model: FBNet, network: FBNet) -> None:
    images = photograph_batch(model.spec.eval_preprocess(), model.plan.stem.in_channels).double()
    snr = snr_db(model(images), network(images))
    if not snr >= _MINIMUM_SNR_DB:
        raise ConversionError(
            f"{model.spec.name}: the form for deployment is {snr:.1f} dB from the model, expected at least "
            f"{_MINIMUM_SNR_DB:.0f} dB; are all weights finite?"
        )


def export(model: FBNet, options: ConvertOptions) -> Program:
    """Export the deploy form of a network.

    Args:
        model: the network; it is not changed.
        options: precision, batch, input size and labels are read.

    Raises:
        InputError: the labels or the input size do not fit the network.
        ConversionError: PyTorch cannot export it, or the deploy form does not compute what the model computes.
    """
    _check_labels(options.labels, model.plan.num_classes)
    preprocess = _preprocess(model, options.input_size)
    deque(walk(model.plan, preprocess.crop), maxlen=0)  # refuses images that are too small
    module = WRAPPERS[options.precision](deploy_form(model))
    batch = None if options.dynamic_batch else options.batch
    return Program(
        exported=export_module(module, (batch, model.plan.stem.in_channels, preprocess.crop, preprocess.crop)),
        module=module,
        spec=model.spec,
        precision=options.precision,
        input_size=preprocess.crop,
        batch=options.batch,
        dynamic_batch=options.dynamic_batch,
        in_channels=model.plan.stem.in_channels,
        num_classes=model.plan.num_classes or model.plan.features,
        preprocess=preprocess,
        labels=tuple(options.labels) if options.labels else None,
        license=model.license,
        weights=model.weights,
    )


def of_network(program: Program, network: nn.Module, outputs: int) -> Program:
    """Export another network as a program was: of the same input, without labels, with so many outputs.

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
    # Of the largest batch: PyTorch picks a convolution for fewer than 16 images or for more, and would bound N by it.
    example = torch.randn(batch or LARGEST_BATCH, *image, generator=torch.Generator().manual_seed(0))
    try:
        with quiet():
            return torch.export.export(module, (example,), dynamic_shapes=dynamic)
    except Exception as error:
        raise ConversionError(f"PyTorch cannot export the network: {error}") from error


def _check_labels(labels: tuple[str, ...] | None, num_classes: int) -> None:
    if labels is not None and len(labels) != num_classes:
        raise InputError(f"there are {len(labels)} labels for {num_classes} classes; give one per class")


def _preprocess(model: FBNet, input_size: int | None) -> PreprocessSpec:
    """Return the preprocessing of the weights, its sizes in proportion where another input size is asked for."""
    asked = model.spec.eval_preprocess(model.weights)
    if input_size in {None, asked.crop}:
        return asked
    return asked.model_copy(update={"crop": input_size, "resize": math.ceil(asked.resize * input_size / asked.crop)})
