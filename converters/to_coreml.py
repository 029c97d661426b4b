"""Write an exported program as a Core ML package, and run it in Core ML or, off macOS, in the reference interpreter.

coremltools lowers the precision itself, so files of all precisions are converted from the float32 program. Hard-swish
is written as `x * hard_sigmoid(x)`: coremltools' own form puts a redundant threshold before it.

Two options extend the network. With `image_input` the file accepts 8-bit images: Core ML scales by 1/255 and subtracts
the mean, and a multiplication by 1/std follows. With labels and a batch of one, it is a classifier: besides `logits`
it outputs `classLabel` and `classLabel_probs`, a dictionary from label to softmax probability.
"""

import platform
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import fbnet_zoo
from fbnet_zoo._require import quiet, quiet_with_compiled_code, require
from fbnet_zoo.converters.artifact import LARGEST_BATCH, ConvertOptions, Precision, Written
from fbnet_zoo.converters.manifest import TensorRecord
from fbnet_zoo.converters.mil import interpreter, passes
from fbnet_zoo.converters.mil.interpreter import MilModel
from fbnet_zoo.converters.parity import joined
from fbnet_zoo.converters.program import PREPROCESS, Program
from fbnet_zoo.converters.quantization import compress_coreml
from fbnet_zoo.errors import ConversionError, InputError, did_you_mean
from fbnet_zoo.spec import PreprocessSpec

DEFAULT_TARGET, OLDEST_TARGET = "iOS16", "iOS15"
LABEL, PROBABILITIES = "classLabel", "classLabel_probs"

_DEBUG_FILE = "executorch_debug_handle_mapping.json"
"""Written into every package for ExecuTorch's Core ML backend; not needed."""


def write(program: Program, path: Path, options: ConvertOptions) -> Written:
    """Write a program as an ML Program, with its model card filled in.

    Args:
        program: the network, in float32.
        path: path of the package, a folder with suffix `.mlpackage`.
        options: `precision`, `image_input`, `deployment_target` and `verbose` are used. The default target is iOS 16,
            which has fp16 arrays and compressed weights, or iOS 17 for 8-bit activations.

    Returns:
        Facts: the deployment target, the version of the specification and the number of operators by type.

    Raises:
        InputError: the deployment target is unknown or too old for the precision, the network does not accept a single
            color image, or a label occurs twice.
        ConversionError: coremltools cannot convert the network.
        MissingExtraError: coremltools is not installed.
    """
    tools = require("coremltools", extra="coreml")
    target_name = options.deployment_target or _default_target(options.precision)
    target = _target(tools, target_name, options.precision)
    _check(program, options)
    try:
        with quiet(verbose=options.verbose or None):
            exported = respelled(program)
            package = tools.convert(
                exported,
                inputs=[_image(tools, program) if options.image_input else _tensor(tools, program)],
                outputs=[tools.TensorType(name=name, dtype=np.float32) for name in program.output_names],
                classifier_config=_classifier(tools, program),
                pass_pipeline=passes.pipeline(
                    compress=compress_coreml.compression(program, options.precision, exported),
                    std=program.preprocess.std if options.image_input else None,
                    probabilities=_is_classifier(program),
                ),
                compute_precision=tools.precision.FLOAT32 if options.precision == "fp32" else tools.precision.FLOAT16,
                convert_to="mlprogram",
                minimum_deployment_target=target,
                skip_model_load=True,
            )
            _fill_card(package, program, image_input=options.image_input)
            package.save(str(path))
            (path / _DEBUG_FILE).unlink(missing_ok=True)
    except Exception as error:  # coremltools raises whatever its passes raise
        raise ConversionError(f"{program.spec.name} cannot be converted to Core ML: {error}") from error
    return Written(
        facts=_facts(package.get_spec(), target_name),
        inputs=_inputs(program) if options.image_input else (),
        outputs=_outputs(program) if _is_classifier(program) else (),
        scheme=compress_coreml.SCHEME if options.precision in {"int8", "mixed"} else None,
    )


def _default_target(precision: Precision) -> str:
    return compress_coreml.OLDEST_TARGET.get(precision, (DEFAULT_TARGET, ""))[0]


def _target(tools: Any, name: str, precision: Precision) -> Any:
    members = tools.target.__members__
    known = [each for each, target in members.items() if target >= members[OLDEST_TARGET]]
    if name not in known:
        hint = did_you_mean(name, known) or f"; expected one of {', '.join(known)}"
        raise InputError(f"deployment_target cannot be {name!r}{hint}")
    oldest, feature = compress_coreml.OLDEST_TARGET.get(precision, (OLDEST_TARGET, ""))
    if members[name] < members[oldest]:
        raise InputError(
            f"{precision} needs {feature}, which {name} lacks; expected deployment_target {oldest} or newer"
        )
    return members[name]


def _check(program: Program, options: ConvertOptions) -> None:
    if options.image_input and (program.dynamic_batch or program.batch > 1):
        raise InputError("image_input requires a batch of one; leave out batch and dynamic_batch")
    if options.image_input and program.in_channels != len(program.preprocess.mean):
        raise InputError(f"image_input requires 3 channels, the network has {program.in_channels}; leave it out")
    if _is_classifier(program) and (repeated := Counter(program.labels).most_common(1)[0])[1] > 1:
        raise InputError(f"the label {repeated[0]!r} occurs {repeated[1]} times, but Core ML needs distinct labels")


def _is_classifier(program: Program) -> bool:
    return program.labels is not None and program.batch == 1 and not program.dynamic_batch


def respelled(program: Program) -> torch.export.ExportedProgram:
    """Return the exported graph in the form for coremltools, hard-swish as `x * hard_sigmoid(x)`."""
    aten = torch.ops.aten
    return program.exported.run_decompositions({aten.hardswish.default: lambda x: x * aten.hardsigmoid.default(x)})


def _tensor(tools: Any, program: Program) -> Any:
    batch = tools.RangeDim(1, LARGEST_BATCH, default=1) if program.dynamic_batch else program.batch
    shape = tools.Shape((batch, program.in_channels, program.input_size, program.input_size))
    return tools.TensorType(name=program.input_name, shape=shape, dtype=np.float32)


def _image(tools: Any, program: Program) -> Any:
    return tools.ImageType(
        name=program.input_name,
        shape=(1, program.in_channels, program.input_size, program.input_size),
        scale=1 / 255,
        bias=[-value for value in program.preprocess.mean],
        color_layout=tools.colorlayout.BGR if program.preprocess.order == "bgr" else tools.colorlayout.RGB,
    )


def _classifier(tools: Any, program: Program) -> Any:
    if not _is_classifier(program):
        return None
    return tools.ClassifierConfig(
        list(program.labels or ()),
        predicted_feature_name=LABEL,
        predicted_probabilities_output=passes.PROBABILITIES,
    )


def _fill_card(package: Any, program: Program, *, image_input: bool) -> None:
    package.short_description = program.description
    package.author = "fbnet_zoo"
    package.license = program.license or "not stated"
    package.version = fbnet_zoo.__version__
    preprocess, size = program.preprocess, program.input_size
    normalized = f"({preprocess.order.upper()} / 255 - {list(preprocess.mean)}) / {list(preprocess.std)}"
    package.input_description[program.input_name] = (
        f"An image of {size} x {size} pixels{'' if image_input else f', normalized: {normalized}'}."
    )
    for name in program.output_names:
        meaning = "A feature map." if program.features else "One score per class, before softmax."
        package.output_description[name] = meaning
    if _is_classifier(program):
        package.output_description[LABEL] = "The most probable class."
        package.output_description[PROBABILITIES] = "Probability of each class."
    package.user_defined_metadata.update(program.metadata)


def _facts(spec: Any, target: str) -> dict[str, Any]:
    main = spec.mlProgram.functions["main"]
    operators = Counter(op.type for op in main.block_specializations[main.opset].operations if op.type != "const")
    return {
        "deployment_target": target,
        "specification_version": spec.specificationVersion,
        "operators": dict(sorted(operators.items())),
    }


def _inputs(program: Program) -> tuple[TensorRecord, ...]:
    name, shape, order = program.input_name, (program.input_size, program.input_size, 3), program.preprocess.order
    return (TensorRecord(name=name, shape=shape, dtype="uint8", layout="image", channel_order=order),)


def _outputs(program: Program) -> tuple[TensorRecord, ...]:
    classes = program.num_classes
    return (
        TensorRecord(name=LABEL, shape=(), dtype="string", layout=""),
        TensorRecord(name=PROBABILITIES, shape=(classes,), dtype="float32", layout="C"),
        TensorRecord(name=program.output_name, shape=(1, classes), dtype="float32", layout="NC"),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CoreMLRunner:
    """A package in Core ML, or off macOS in the reference interpreter.

    Attributes:
        model: the package in the interpreter.
        predict: function from inputs to outputs, both by name.
        preprocess: normalization of the images, which is undone for files that accept 8-bit images.
        runtime: name and version of the runtime.
    """

    model: MilModel
    predict: Callable[[Mapping[str, np.ndarray]], Mapping[str, Any]]
    preprocess: PreprocessSpec
    runtime: str

    def __call__(self, images: np.ndarray) -> np.ndarray:
        found = self.predict(self._inputs(images))
        return joined([np.asarray(found[name]) for name in self.model.outputs if name not in {LABEL, PROBABILITIES}])

    def trace(self, images: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the output of every operation, computed by the interpreter."""
        return self.model.trace(self._inputs(images))

    def _inputs(self, images: np.ndarray) -> dict[str, np.ndarray]:
        (wanted,) = self.model.inputs
        return {wanted.name: _pixels(images, self.preprocess) if wanted.colour_layout else images}


def _pixels(images: np.ndarray, preprocess: PreprocessSpec) -> np.ndarray:
    """Undo the normalization of one image: `(1, 3, S, S)` to uint8 RGB `(S, S, 3)`."""
    pixels = np.rint((images[0].transpose(1, 2, 0) * preprocess.std + preprocess.mean) * 255).clip(0, 255)
    return np.ascontiguousarray(pixels[..., ::-1] if preprocess.order == "bgr" else pixels, np.uint8)


def load(path: Path) -> CoreMLRunner:
    """Load a package written by `write`.

    Raises:
        InputError: there is no package at `path`.
        ConversionError: the package is unreadable, not supported by the interpreter, or was not written by fbnet_zoo.
        MissingExtraError: coremltools is not installed.
    """
    tools = require("coremltools", extra="coreml")
    model = interpreter.load(path)
    metadata = tools.utils.load_spec(str(path)).description.metadata.userDefined
    if PREPROCESS not in metadata:
        raise ConversionError(f"{path.name} has no {PREPROCESS} in its metadata; it was not written by fbnet_zoo")
    on_apple = platform.system() == "Darwin"
    return CoreMLRunner(
        model=model,
        predict=_coreml_predict(tools, path) if on_apple else model.predict,
        preprocess=PreprocessSpec.model_validate_json(metadata[PREPROCESS]),
        runtime=f"Core ML of macOS {platform.mac_ver()[0]}" if on_apple else "fbnet_zoo's interpreter of ML Programs",
    )


def _coreml_predict(tools: Any, path: Path) -> Callable[[Mapping[str, np.ndarray]], Mapping[str, Any]]:
    with quiet_with_compiled_code():
        package = tools.models.MLModel(str(path))
    return lambda inputs: package.predict(
        {name: Image.fromarray(value) if value.dtype == np.uint8 else value for name, value in inputs.items()}
    )
