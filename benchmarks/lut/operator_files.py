"""Writing model files of single operators and of whole networks, for the runtime of a latency table."""

import importlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from fbnet_zoo import blocks
from fbnet_zoo._require import CONVERTING, quiet
from fbnet_zoo.benchmarks.lut.operator_modules import operator_module
from fbnet_zoo.benchmarks.measure import ModelFile
from fbnet_zoo.converters.artifact import ConvertOptions, Precision
from fbnet_zoo.converters.program import WRAPPERS, Program, Quantization, export, export_module
from fbnet_zoo.converters.quantization import calibration
from fbnet_zoo.converters.quantization.quantize_onnx import STEM
from fbnet_zoo.converters.respell import respell
from fbnet_zoo.converters.targets import TARGETS, TORCH, runtimes_on
from fbnet_zoo.converters.tflite import writer
from fbnet_zoo.latency.operators import Operator
from fbnet_zoo.model import FBNet
from fbnet_zoo.plans import ConvPlan
from fbnet_zoo.spec import ArchSpec

TFLITE = "tflite"

_IMAGE_CHANNELS = 3
"""Input channels of a stem, which may have another precision than the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """Writes files for one runtime, with random but reproducible weights.

    Attributes:
        target: target of `fbnet_zoo.converters.targets`, `torch`, or `tflite` for Ethos-U.
        precision: fp32, fp16 or int8, with ranges from noise; `tflite` is always int8.
        frame: a network of the search space, for preprocessing and error messages.
        folder: folder of the files; existing files are not written again.
    """

    target: str
    precision: Precision
    frame: ArchSpec
    folder: Path

    def operator(self, operator: Operator, name: str) -> ModelFile:
        """Write a single operator.

        Raises:
            InputError: the operator has more than one input.
            ConversionError: the runtime's exporter fails.
        """
        part = STEM if operator.in_channels == _IMAGE_CHANNELS else "part"

        def program() -> Program:
            holder = nn.Sequential(OrderedDict({part: operator_module(operator)}))
            return self._part(holder, operator.in_channels, operator.input_size)

        return self._file(name, program)

    def layers(self, count: int, channels: int, size: int, name: str) -> ModelFile:
        """Write `count` depthwise 1x1 convolutions on an input of `size` px.

        Raises:
            ConversionError: the runtime's exporter fails.
        """
        return self._file(name, lambda: self._part(nn.Sequential(_layers(count, channels)), channels, size))

    def network(self, spec: ArchSpec, name: str, *, num_classes: int) -> ModelFile:
        """Write a whole network with random weights.

        Raises:
            InputError: the network cannot be built.
            ConversionError: the runtime's exporter fails.
        """
        options = ConvertOptions(precision=self._program_precision)

        def program() -> Program:
            exported = export(FBNet(spec, num_classes=num_classes).eval(), options)
            return replace(exported, quantization=self._quantization(exported.in_channels, exported.input_size))

        return self._file(name, program)

    @property
    def _program_precision(self) -> Precision:
        return TARGETS[self.target].program_precision(self.precision) if self.target in TARGETS else "fp32"

    def _quantization(self, channels: int, size: int) -> Quantization | None:
        if self.precision != "int8" or self.target not in TARGETS:
            return None
        return Quantization(calibration=calibration.noise(channels, size))

    def _part(self, holder: nn.Sequential, channels: int, size: int) -> Program:
        respell(holder)  # only children of a module are
        module = WRAPPERS[self._program_precision](holder)
        return Program(
            exported=export_module(module, (1, channels, size, size)),
            module=module,
            spec=self.frame,
            precision=self._program_precision,
            input_size=size,
            batch=1,
            dynamic_batch=False,
            in_channels=channels,
            num_classes=1,
            preprocess=self.frame.eval_preprocess(),
            labels=None,
            license=None,
            weights=None,
            quantization=self._quantization(channels, size),
        )

    def _file(self, name: str, make: Callable[[], Program]) -> ModelFile:
        """Write a file atomically, unless it exists."""
        runtime = runtimes_on("host").get(self.target)  # none runs a file for Ethos-U
        path = self.folder / f"{name}.{runtime.suffix if runtime else TFLITE}"
        if not path.exists():
            half = path.with_name(f"partial_{path.name}")
            with CONVERTING, torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                self._write(make(), half)
            half.replace(path)
        backend = runtime.backend if runtime else None
        return ModelFile(path=path, name=name, target=self.target, precision=self.precision, backend=backend)

    def _write(self, program: Program, path: Path) -> None:
        if self.target == TORCH:
            with quiet():
                torch.export.save(program.exported, path)
        elif self.target == TFLITE:
            writer.write(program, path)
        else:
            module = importlib.import_module(TARGETS[self.target].module)
            module.write(program, path, ConvertOptions(precision=self.precision))


def _layers(count: int, channels: int) -> nn.Module:
    plan = ConvPlan(in_channels=channels, out_channels=channels, groups=channels, bias=True, norm=False)
    module = nn.Sequential(*(blocks.block(plan, bn_eps=0.0) for _ in range(count)))
    blocks.init_weights(module)
    return module.eval().requires_grad_(False)
