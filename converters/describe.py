"""The manifest of a file that has just been written and checked."""

from collections.abc import Sequence
from pathlib import Path

from fbnet_zoo.converters import manifest
from fbnet_zoo.converters.artifact import Precision, Written
from fbnet_zoo.converters.manifest import FileRecord, Manifest, ParityRecord, QuantizationRecord, TensorRecord
from fbnet_zoo.converters.program import Program
from fbnet_zoo.converters.targets import Target


def describe(
    program: Program,
    target: Target,
    precision: Precision,
    files: Sequence[Path],
    written: Written,
    *,
    parity: ParityRecord,
    quantization: QuantizationRecord | None,
) -> Manifest:
    """Return the manifest of a file.

    Args:
        program: the program that was written.
        target: target of the file.
        precision: precision of the file.
        files: the file itself, then its companions.
        written: what the writer returned.
        parity: result of the parity check.
        quantization: result for a quantized file, else `None`.
    """
    main, *others = (FileRecord.of(path) for path in files)
    return Manifest(
        model=program.spec.name,
        target=target.name,
        precision=precision,
        weights=program.weights,
        license=program.license,
        class_names=program.labels,
        created=manifest.now(),
        file=main,
        companions=tuple(others),
        inputs=written.inputs or (_input(program),),
        outputs=written.outputs or _outputs(program),
        preprocess=program.preprocess,
        parity=parity,
        quantization=quantization,
        facts=written.facts,
        versions=manifest.versions(target.libraries),
    )


def _input(program: Program) -> TensorRecord:
    size = program.input_size
    return TensorRecord(
        name=program.input_name,
        shape=(_batch(program), program.in_channels, size, size),
        dtype="float32",
        layout="NCHW",
        channel_order=program.preprocess.order if program.in_channels == 3 else None,
    )


def _outputs(program: Program) -> tuple[TensorRecord, ...]:
    batch = _batch(program)
    if program.features:
        maps = program.features
        return tuple(
            TensorRecord(name=each.name, shape=(batch, *each.shape), dtype="float32", layout="NCHW") for each in maps
        )
    shape = (batch, program.num_classes)
    return (TensorRecord(name=program.output_name, shape=shape, dtype="float32", layout="NC"),)


def _batch(program: Program) -> int | str:
    return "batch" if program.dynamic_batch else program.batch
