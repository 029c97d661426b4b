"""From a model to checked files: `convert`, the entry point of the command line and of Python."""

import functools
import importlib
import itertools
import logging
import re
import tempfile
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch import nn

from fbnet_zoo._require import CONVERTING
from fbnet_zoo.atomic import require_space, storing_in
from fbnet_zoo.converters import targets
from fbnet_zoo.converters.artifact import Artifact, ConvertOptions, Precision, Progress, Written
from fbnet_zoo.converters.cases import Case, make_cases
from fbnet_zoo.converters.describe import describe
from fbnet_zoo.converters.half_precision import attainable
from fbnet_zoo.converters.manifest import ParityRecord, QuantizationRecord
from fbnet_zoo.converters.parity import ParityReport, Runner, check, first_divergence
from fbnet_zoo.converters.prefixes import first_divergent_part
from fbnet_zoo.converters.program import Program, deploy_form, export, of_network
from fbnet_zoo.converters.publish import companions, publish, workplace
from fbnet_zoo.converters.quantization.degradation import QuantizedFile, judge
from fbnet_zoo.converters.quantization.preparation import quantization
from fbnet_zoo.converters.targets import Target
from fbnet_zoo.errors import InputError, ParityError
from fbnet_zoo.model import FBNet, FeatureExtractor
from fbnet_zoo.modules import plain_copy
from fbnet_zoo.networks import Network, network_of

_QUANTIZED_CASES = 2
_COPIES = 2
"""Number of files as large as the weights that a converter writes, with those that it removes again."""

log = logging.getLogger(__name__)


@overload
def convert(
    model: nn.Module,
    *,
    to: str,
    out: str | Path,
    name: str | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Artifact: ...
@overload
def convert(
    model: nn.Module,
    *,
    to: Sequence[str],
    out: str | Path,
    name: str | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> list[Artifact]: ...
def convert(
    model: nn.Module,
    *,
    to: str | Sequence[str],
    out: str | Path,
    name: str | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Artifact | list[Artifact]:
    """Convert a network, run each file, and keep the files that match the network.

    A file appears at its final path, `<out>/<name>.<suffix>`, only after it has passed the check, with its manifest
    beside it, `<name>.<suffix>.json`. Targets share one `torch.export`. If a target fails, earlier files stay.

    Args:
        model: the network or its features (`create` with `features_only`), also wrapped by `torch.compile` or
            `DataParallel`; not modified. Shapes are the module's own, so it may have another stem or classifier.
        to: one or several targets of `fbnet_zoo.converters.targets.TARGETS`.
        out: output folder; created if missing.
        name: file name without suffix (default: the name of the definition).
        progress: called with each step as it begins: `fp32: export`, for `int8` also `int8: calibrate`, then
            `onnx: write`, `onnx: check` and `onnx: done`.
        options: fields of `fbnet_zoo.converters.artifact.ConvertOptions`.

    Returns:
        The artifact if `to` is a string, else a list of artifacts.

    Raises:
        InputError: a target, an option or the folder is invalid, or the module is not a network of this library.
        MissingExtraError: a target's libraries are not installed.
        ConversionError: the network cannot be written in a format.
        ParityError: a file does not compute what the network computes (the message names the first layer that
            differs), or a quantized file agrees with the network on too few images.
    """
    names, artifacts = [to] if isinstance(to, str) else to, []
    for target in targets.find(names):
        targets.require_libraries(target)
    with closing(convert_each(model, to=names, out=out, name=name, progress=progress, **options)) as each:
        for outcome in each:
            if isinstance(outcome, Exception):
                raise outcome
            artifacts.append(outcome)
    return artifacts[0] if isinstance(to, str) else artifacts


def convert_each(
    model: nn.Module,
    *,
    to: Sequence[str],
    out: str | Path,
    name: str | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Generator[Artifact | Exception]:
    """Convert like `convert`, but continue when a target fails.

    Yields:
        For each target in order, its artifact or the error that `convert` would raise.

    Raises:
        InputError: a target, an option or the folder is invalid.
    """
    chosen = targets.find(to)
    asked = targets.make_options(chosen, options)
    network = network_of(model)
    _check_features(network, asked)
    usual = network.spec.name if isinstance(network, FBNet) else f"{network.spec.name}_features"
    with workplace(Path(out)) as folder:
        require_space(folder, _COPIES * sum(weights.nbytes for weights in network.parameters()))
        conversion = _Conversion(
            reference=plain_copy(network).cpu().float(),
            options=asked,
            name=_file_name(name or usual),
            out=Path(out),
            folder=folder,
            progress=progress or log.debug,
        )
        for target in chosen:
            yield _attempt(conversion, target)


def _attempt(conversion: "_Conversion", target: Target) -> Artifact | Exception:
    try:
        targets.require_libraries(target)
        # ExecuTorch draws random numbers.
        with storing_in(conversion.out), CONVERTING, torch.random.fork_rng(devices=[]):
            return conversion.run(target)
    except Exception as error:  # including errors of the libraries: the next target uses a different one
        return error


def _check_features(network: Network, options: ConvertOptions) -> None:
    """Refuse options that only a classifier has, for features."""
    asked = {
        f"precision {options.precision}": options.is_quantized,
        "labels": options.labels is not None,
        "bundled": options.bundled,
    }
    if isinstance(network, FeatureExtractor) and (refused := [name for name, given in asked.items() if given]):
        raise InputError(f"{refused[0]} requires a classifier, but this network outputs features; leave it out")


def _file_name(name: str) -> str:
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise InputError(f"name cannot be {name!r}; expected letters, digits, '_', '-' and '.', without a folder")
    return name


@dataclass(frozen=True, slots=True, kw_only=True)
class _Conversion:
    """One call of `convert`: the state that its targets share."""

    reference: Network
    options: ConvertOptions
    name: str
    out: Path
    folder: Path
    progress: Progress
    programs: dict[Precision, Program] = field(default_factory=dict)

    def run(self, target: Target) -> Artifact:
        program = self.program(target)
        path = _own_folder(self.folder) / f"{self.name}.{target.suffix}"
        self.progress(f"{target.name}: write")
        written: Written = _module(target).write(program, path, self.options)
        self.progress(f"{target.name}: check")
        parity, quantized = self.check(target, program, path, written)
        manifest_path = path.with_name(f"{path.name}.json")
        files = [path, *companions(path, manifest_path)]
        precision = self.options.precision
        record = describe(program, target, precision, files, written, parity=parity, quantization=quantized)
        record.save(manifest_path)
        final, final_manifest = publish(path, manifest_path, self.out)
        self.progress(f"{target.name}: done")
        return Artifact(path=final, manifest_path=final_manifest, target=target.name, manifest=record)

    def program(self, target: Target) -> Program:
        precision = target.program_precision(self.options.precision)
        if precision not in self.programs:
            self.progress(f"{precision}: export")
            plain = replace(self.options, precision=precision, calibration=None, keep=())
            self.programs[precision] = self.calibrate(export(self.reference, plain))
        return self.programs[precision]

    def calibrate(self, program: Program) -> Program:
        if not self.options.is_quantized:
            return program
        self.progress(f"{self.options.precision}: calibrate")
        return replace(program, quantization=quantization(program, self.options))

    def check(
        self, target: Target, program: Program, path: Path, written: Written
    ) -> tuple[ParityRecord, QuantizationRecord | None]:
        reason = targets.unchecked_reason(target, self.options)
        if reason:
            return ParityRecord(checked=False, reason=reason), None
        runner, quantized = _module(target).load(path), None
        if program.quantization is not None:
            file = QuantizedFile(path.name, runner, self.reference, program, program.quantization, written)
            quantized = judge(file, self.options)
        # A quantized file that matches its simulation may still be noise: allowed unless the user sets a limit.
        binding = quantized is None or written.simulation is None or self._limited
        return self.parity(target, program, runner, path.name, binding=binding), quantized

    def parity(self, target: Target, program: Program, runner: Runner, name: str, *, binding: bool) -> ParityRecord:
        tolerances = self.options.tolerances
        # `judge` has checked the top-1 classes of quantized files, on more images; features have no classes.
        if self.options.is_quantized or program.features:
            tolerances = replace(tolerances, min_top1_agreement=0.0)
        cases = self.cases(target, program)
        report = check(self.reference, runner, cases, tolerances)
        if not report.passed and self.options.precision == "fp16" and not self._limited:
            report = self.relative_to_half(report, runner, cases)
        if binding and not report.passed:
            outputs = len(report.cases) // len(cases)
            worst = min(range(len(report.cases)), key=lambda index: report.cases[index].snr_db) // outputs
            where = self.divergence(target, program, runner, cases[worst].images, report.tolerances.min_snr_db)
            raise ParityError(f"{name} does not compute what the model computes: {report.failures()[0]}; {where}")
        return ParityRecord.of(report)

    @property
    def _limited(self) -> bool:
        """Whether the user has set a limit for the error."""
        return self.options.min_snr_db is not None or self.options.max_error is not None

    def relative_to_half(self, report: ParityReport, runner: Runner, cases: Sequence[Case]) -> ParityReport:
        """Check again, with the tolerances that PyTorch's own fp16 allows for if it also exceeds the default ones."""
        tolerances, kept = attainable(self.reference, cases, report.tolerances)
        if tolerances == report.tolerances:
            return report
        log.warning(
            "%s: PyTorch's own fp16 keeps %.1f dB of this network, so the file must keep %.1f dB instead of %.1f dB; "
            "use fp32 if that is too little",
            *(self.name, kept, tolerances.min_snr_db, report.tolerances.min_snr_db),
        )
        return check(self.reference, runner, cases, tolerances)

    def cases(self, target: Target, program: Program) -> list[Case]:
        if program.quantization is not None:  # images within the calibrated ranges
            batches = program.quantization.calibration.evaluate.batches(program.batch)
            chosen = itertools.islice(batches, _QUANTIZED_CASES)
            return [Case(name=f"evaluation {number}", images=images) for number, images in enumerate(chosen, start=1)]
        return make_cases(
            program.preprocess,
            channels=program.in_channels,
            batch=self.options.batch,
            dynamic_batch=self.options.dynamic_batch,
            image_input=self.options.image_input and "image_input" in target.options,
        )

    def divergence(
        self, target: Target, program: Program, runner: Runner, images: np.ndarray, min_snr_db: float
    ) -> str:
        """Name the first diverging layer, from the runtime's trace or else by converting parts of the network."""
        self.progress(f"{target.name}: locate")
        network = deploy_form(self.reference)
        if traced := list(runner.trace(images)):
            name = first_divergence(network, traced, images, min_snr_db)
        else:
            name = first_divergent_part(network, functools.partial(self.lower, target, program), images, min_snr_db)
        return f"the first diverging layer is {name}" if name else f"no single layer is below {min_snr_db:.1f} dB"

    def lower(self, target: Target, program: Program, network: nn.Module, outputs: int) -> Runner:
        path = _own_folder(self.folder) / f"part.{target.suffix}"
        plain = replace(self.options, labels=None, bundled=False)
        part = of_network(replace(program, features=()), network, outputs)
        _module(target).write(part, path, plain)
        return _module(target).load(path)


def _own_folder(folder: Path) -> Path:
    """Create a folder for one file, so that no other file is mistaken for its companion."""
    return Path(tempfile.mkdtemp(dir=folder))


def _module(target: Target) -> Any:
    return importlib.import_module(target.module)
