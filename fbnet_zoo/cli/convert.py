"""`fbnet-zoo convert`: several networks to several targets, all of which are tried."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from fbnet_zoo.cli import choose, network, options, screen
from fbnet_zoo.cli.options import option
from fbnet_zoo.cli.parameters import from_records, given, several, split
from fbnet_zoo.converters import targets
from fbnet_zoo.converters.artifact import FLOATING, LARGEST_BATCH, Backend
from fbnet_zoo.converters.targets import TARGETS, Target
from fbnet_zoo.deploy.options import AUTO, PrecisionOrAuto
from fbnet_zoo.errors import FbnetZooError, InputError

if TYPE_CHECKING:
    from fbnet_zoo.converters.artifact import Artifact
    from fbnet_zoo.model import FBNet

Command = several(to=TARGETS)
EPILOG = options.examples(
    "convert fbnet_b --to onnx coreml executorch --out build",
    "convert fbnet_a fbnet_b --to coreml --precision fp16 --image-input --out build",
    "convert fbnet_b --to onnx executorch --precision int8 --calibration my_photos --out build",
    "convert fbnetv3_a --to executorch --precision mixed --keep stem --keep '*.se' --out build",
    "convert my.yaml --weights none --seed 0 --to onnx --dynamic-batch --out build --json",
)

_FILE, _CHECK = "The file", "The check of the file"


def _complete_target(incomplete: str) -> list[str]:
    return [name for name in TARGETS if name.startswith(incomplete)]


def _only(name: str, text: str) -> str:
    """Add to a help text which targets have an option."""
    having = [target.name for target in TARGETS.values() if name in target.options]
    return f"{text} [dim]({' and '.join(having)} only)[/dim]"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertRequest:
    """What to convert, and where to.

    Attributes:
        names: networks.
        to: names of targets.
        out: folder of the files.
        weights: a tag, path or address, as in `fbnet_zoo.cli.network.load`.
        seed: seed of random weights.
    """

    names: options.Names
    to: Annotated[
        list[str],
        typer.Option(
            metavar="TARGET...",
            help=f"one or more of {', '.join(TARGETS)}",
            autocompletion=_complete_target,
            callback=split,
        ),
    ]
    out: Annotated[Path, typer.Option(metavar="DIR", help="folder of the files; created if missing")]
    weights: options.Weights = None
    seed: options.Seed = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(options.FileOptions):
    """Options with the names that they have in `ConvertOptions`."""

    batch: Annotated[int | None, option(_FILE, "images per run (default: 1)", metavar="N")] = None
    dynamic_batch: Annotated[bool, option(_FILE, f"accept 1 to {LARGEST_BATCH} images per run", "--dynamic-batch")] = (
        False
    )
    image_input: Annotated[
        bool, option(_FILE, _only("image_input", "accept 8-bit images and normalize them inside"), "--image-input")
    ] = False
    deployment_target: Annotated[
        str | None,
        option(_FILE, _only("deployment_target", "oldest system to run on, such as iOS16"), metavar="OS"),
    ] = None
    opset: Annotated[int | None, option(_FILE, _only("opset", "version of the operators"), metavar="N")] = None
    bundled: Annotated[
        bool, option(_FILE, _only("bundled", "also write a file that carries its own test"), "--bundled")
    ] = False
    backend: Annotated[
        Backend | None,
        option(_FILE, _only("backend", "xnnpack, coreml or vulkan (default: xnnpack)"), metavar="NAME"),
    ] = None
    min_snr_db: Annotated[
        float | None,
        option(
            _CHECK,
            "lowest signal-to-noise ratio of the logits, dB (default: 100; fp16: 40, or 6 less than PyTorch's fp16; "
            "quantized: 0)",
            "--min-snr",
            metavar="DB",
            callback=options.finite,
        ),
    ] = None
    max_error: Annotated[
        float | None,
        option(
            _CHECK,
            "largest error of a logit, as a share of the largest logit (default: 1e-4; fp16: 0.03; quantized: 1)",
            metavar="X",
            callback=options.finite,
        ),
    ] = None
    min_top1_agreement: Annotated[
        float | None,
        option(
            _CHECK,
            "lowest share of images with the same top-1 class (default: 1; quantized: 0.9)",
            "--min-top1",
            metavar="X",
            callback=options.finite,
        ),
    ] = None
    allow_unchecked: Annotated[
        bool, option(_CHECK, "also write files that no runtime here can check", "--allow-unchecked")
    ] = False


@from_records
def command(
    request: ConvertRequest,
    chosen: Options,
    labels: options.Labels = None,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Convert networks, and keep each file that computes what the PyTorch model computes."""
    values = given(chosen) | ({"verbose": True} if verbose else {})
    records = run(request, values | ({"labels": network.read_labels(labels)} if labels else {}))
    if as_json:
        screen.show_json({"files": records})
    else:
        screen.show(table(records))
    raise typer.Exit(exit_code(records))


def run(request: ConvertRequest, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Convert every network to every target.

    Args:
        request: networks and targets.
        values: fields of `ConvertOptions`, those that the user gave.

    Returns:
        A record for each file; one that failed has an `error` instead of figures.

    Raises:
        InputError: a name or an option is wrong; nothing has been written.
    """
    chosen = targets.find(request.to)
    if _is_auto(values):
        choose.check(chosen, values)
    else:
        targets.make_options(chosen, values)
    _check_names(request)
    return [record for name in request.names for record in _convert(request, values, name, chosen)]


def _check_names(request: ConvertRequest) -> None:
    by_spec: dict[str, str] = {}
    for name in request.names:
        spec, _ = network.resolve(name, weights=request.weights, seed=request.seed)
        if spec.name in by_spec:
            twins = f"{by_spec[spec.name]} and {name}" if by_spec[spec.name] != name else f"{name}, given twice,"
            raise InputError(f"{twins} would be written to the same files, {spec.name}.*; leave one out")
        by_spec[spec.name] = name


def _convert(
    request: ConvertRequest, values: Mapping[str, Any], name: str, chosen: Sequence[Target]
) -> Iterator[dict[str, Any]]:
    """Yield the record of each file of one network; an error that all of them share is printed once."""
    try:
        model = network.load(name, weights=request.weights, seed=request.seed, labels=values.get("labels"))
        with screen.steps(model.spec.name, count_steps(values.get("precision", "fp32"), chosen)) as progress:
            yield from _files(model, chosen, request.out, values, progress)
    except FbnetZooError as error:
        yield _failure(name, None, error)


def _files(
    model: "FBNet", chosen: Sequence[Target], out: Path, values: Mapping[str, Any], progress: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    from fbnet_zoo.converters.conversion import convert_each

    names, started = [target.name for target in chosen], time.perf_counter()
    if _is_auto(values):
        outcomes = choose.convert(model, chosen, out=out, options=values, progress=progress)
    else:
        outcomes = convert_each(model, to=names, out=out, progress=progress, **values)
    printed = set()
    for name, outcome in zip(names, outcomes, strict=True):
        if isinstance(outcome, Exception):
            yield _failure(model.spec.name, name, outcome, quietly=str(outcome) in printed)
            printed.add(str(outcome))
        else:
            yield _record(outcome) | {"seconds": round(time.perf_counter() - started, 3)}
        started = time.perf_counter()


def _is_auto(values: Mapping[str, Any]) -> bool:
    return values.get("precision") == AUTO


def count_steps(precision: PrecisionOrAuto, chosen: Sequence[Target]) -> int:
    """Return the number of steps: export and, where quantized, calibration per program; write, check, done per file."""
    if precision == AUTO:
        return sum(choose.count_steps(target) for target in chosen)
    programs = {target.program_precision(precision) for target in chosen}
    return len(programs) * (1 if precision in FLOATING else 2) + 3 * len(chosen)


def _failure(model: str, target: str | None, error: Exception, *, quietly: bool = False) -> dict[str, Any]:
    if not quietly:
        screen.report(error, as_json=False)
    return {"model": model, "target": target, "error": screen.describe(error)}


def _record(artifact: "Artifact") -> dict[str, Any]:
    manifest, worst = artifact.manifest, artifact.manifest.parity.worst
    quantized = manifest.quantization
    return {
        "model": manifest.model,
        "target": artifact.target,
        "path": str(artifact.path),
        "manifest": str(artifact.manifest_path),
        "precision": manifest.precision,
        "weights": manifest.weights,
        "license": manifest.license,
        "size": manifest.file.size,
        "sha256": manifest.file.sha256,
        "checked": manifest.parity.checked,
        "snr_db": worst and worst.snr_db,
        "max_abs_error": worst and worst.max_abs_error,
        "top1_agreement": worst and worst.top1_agreement,
        "quantization": quantized and quantized.model_dump(mode="json", exclude={"layers"}),
    }


def exit_code(records: Iterable[dict[str, Any]]) -> int:
    """Return 0 if every file passed, 1 if one failed, 2 if only wrong options made files fail."""
    return min((record["error"]["exit_code"] for record in records if "error" in record), default=0)


def table(records: Iterable[dict[str, Any]]) -> Table:
    """Return the records as a table."""
    lines = screen.table("file", ">size\nMB", ">SNR\ndB", ">max error", ">top-1\nsame", ">time\ns")
    for record in records:
        lines.add_row(*(_failed(record) if "error" in record else _passed(record)))
    return lines


def _failed(record: dict[str, Any]) -> tuple[Text | str, ...]:
    target = record["target"]
    file = f"{record['model']}.{TARGETS[target].suffix}" if target else record["model"]
    return Text(file), "", Text("failed", style="bold red")


def _passed(record: dict[str, Any]) -> tuple[Text | str, ...]:
    file, size = Text(record["path"], style="bold"), f"{record['size'] / 1e6:.1f}"
    if not record["checked"]:
        return file, size, Text("unchecked", style="yellow"), "", "", f"{record['seconds']:.1f}"
    quantized = record["quantization"] or record
    style = "yellow" if quantized.get("degraded") else ""
    snr, same = quantized.get("sqnr_db", record["snr_db"]), Text(f"{quantized['top1_agreement']:.0%}", style=style)
    return file, size, f"{snr:.1f}", f"{record['max_abs_error']:.1e}", same, f"{record['seconds']:.1f}"
