"""What `fbnet-zoo convert` does: several networks, several targets, all of which are tried."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from fbnet_zoo.cli import choose, network, screen
from fbnet_zoo.converters import targets
from fbnet_zoo.converters.artifact import FLOATING
from fbnet_zoo.converters.targets import TARGETS, Target
from fbnet_zoo.deploy.options import AUTO, PrecisionOrAuto
from fbnet_zoo.errors import FbnetZooError, InputError, did_you_mean

if TYPE_CHECKING:
    from fbnet_zoo.converters.artifact import Artifact
    from fbnet_zoo.model import FBNet


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What shall be converted.

    Attributes:
        names: of networks.
        to: names of targets.
        out: folder of the files.
        weights: as `fbnet_zoo.cli.network.load` takes it.
        seed: likewise.
        options: of `ConvertOptions`, those that the user gave.
    """

    names: Sequence[str]
    to: Sequence[str]
    out: Path
    weights: str | None
    seed: int | None
    options: Mapping[str, Any]


def spread(words: Sequence[str], flag: str, belongs: Callable[[str], bool] | None = None) -> list[str]:
    """Repeat `flag` before each of the values that follow it, since an option takes one at a time.

    What follows belongs to the flag while `belongs` says so: if not said otherwise, while it is a target or nearly one.

    >>> spread(["fbnet_b", "--to", "onnx", "coreml", "fbnet_c", "--seed", "0"], "--to")
    ['fbnet_b', '--to', 'onnx', '--to', 'coreml', 'fbnet_c', '--seed', '0']
    """
    result: list[str] = []
    belongs = belongs or _is_target
    previous, open_flag = "", False
    for word in words:
        if open_flag and previous != flag and belongs(word):
            result.append(flag)
        elif previous != flag:
            open_flag = word.partition("=")[0] == flag
        result.append(word)
        previous = word
    return result


def split(words: Iterable[str]) -> list[str]:
    """Split at commas: `["onnx,coreml"]` is `["onnx", "coreml"]`."""
    return [part.strip() for word in words for part in word.split(",") if part.strip()]


def _is_target(word: str) -> bool:
    parts = split([word])
    return bool(parts) and all(part.isalpha() and did_you_mean(part, TARGETS) for part in parts)


def run(request: Request) -> list[dict[str, Any]]:
    """Convert everything that is asked for.

    Returns:
        A record for each file; where it failed, with an `error` in place of the figures.

    Raises:
        InputError: something does not exist or does not go together; nothing was done yet.
    """
    chosen = targets.find(request.to)
    if _is_auto(request):
        choose.check(chosen, request.options)
    else:
        targets.make_options(chosen, request.options)
    _check_names(request)
    return [record for name in request.names for record in _convert(request, name, chosen)]


def _check_names(request: Request) -> None:
    by_spec: dict[str, str] = {}
    for name in request.names:
        spec, _ = network.resolve(name, weights=request.weights, seed=request.seed)
        if spec.name in by_spec:
            twins = f"{by_spec[spec.name]} and {name}" if by_spec[spec.name] != name else f"{name}, given twice,"
            raise InputError(f"{twins} would be written to the same files, {spec.name}.*; leave one out")
        by_spec[spec.name] = name


def _convert(request: Request, name: str, chosen: Sequence[Target]) -> Iterator[dict[str, Any]]:
    """Yield the record of each file of one network; what is wrong for all of them is said once."""
    try:
        labels = request.options.get("labels")
        model = network.load(name, weights=request.weights, seed=request.seed, labels=labels)
        precision = request.options.get("precision", "fp32")
        with screen.steps(model.spec.name, count_steps(precision, chosen)) as progress:
            yield from _files(request, model, chosen, progress)
    except FbnetZooError as error:
        yield _failure(name, None, error)


def _files(
    request: Request, model: "FBNet", chosen: Sequence[Target], progress: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    from fbnet_zoo.converters.convert import convert_each

    names, started = [target.name for target in chosen], time.perf_counter()
    if _is_auto(request):
        outcomes = choose.convert(model, chosen, out=request.out, options=request.options, progress=progress)
    else:
        outcomes = convert_each(model, to=names, out=request.out, progress=progress, **request.options)
    said = set()
    for name, outcome in zip(names, outcomes, strict=True):
        if isinstance(outcome, Exception):
            yield _failure(model.spec.name, name, outcome, quietly=str(outcome) in said)
            said.add(str(outcome))
        else:
            yield _record(outcome) | {"seconds": round(time.perf_counter() - started, 3)}
        started = time.perf_counter()


def _is_auto(request: Request) -> bool:
    return request.options.get("precision") == AUTO


def count_steps(precision: PrecisionOrAuto, chosen: Sequence[Target]) -> int:
    """Count what is announced: an export and perhaps a calibration for each program, write, check and done of files."""
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
    """Return 0 if every file passed, 1 if one failed, 2 if all that failed was asked for wrongly."""
    return min((record["error"]["exit_code"] for record in records if "error" in record), default=0)


def table(records: Iterable[dict[str, Any]]) -> Table:
    """Return the records as a table."""
    lines = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    lines.add_column("file", overflow="fold")
    for header in ("size\nMB", "SNR\ndB", "max error", "top-1\nsame", "time\ns"):
        lines.add_column(header, justify="right")
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
