"""`fbnet-zoo deploy`: a folder with a network, ready for apps."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table
from rich.text import Text

from fbnet_zoo.cli import convert, network, options, screen
from fbnet_zoo.cli.parameters import from_records, given, several, split
from fbnet_zoo.converters.targets import TARGETS
from fbnet_zoo.deploy.options import DeployOptions
from fbnet_zoo.deploy.platforms import PLATFORMS

if TYPE_CHECKING:
    from fbnet_zoo.benchmarks.measure import Measurement
    from fbnet_zoo.deploy.record import Bundle, Deployed

NO_DEVICE = "none"
IMAGENET: Literal["imagenet"] = "imagenet"

Command = several(target=PLATFORMS)
EPILOG = options.examples(
    "deploy fbnet_b --target iphone,android,onnx --out build/fbnet_b",
    "deploy fbnet_b --target android onnx --precision int8 --device host --out build/fbnet_b",
    "deploy my.yaml --weights my.safetensors --labels my.txt --target iphone --precision fp16 --out build/my",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployRequest:
    """What to deploy, and where to.

    Attributes:
        name: network.
        to: names of platforms.
        out: folder to create.
        weights: a tag, path or address, as in `fbnet_zoo.cli.network.load`.
        seed: seed of random weights.
        labels: file with the names of the classes, or `imagenet`.
        device: name of the device to measure on, or `none`.
        runner: ExecuTorch's runner for Android.
        force: whether to replace an existing bundle.
    """

    name: options.Name
    to: Annotated[
        list[str],
        typer.Option(
            "--target",
            metavar="TARGET...",
            help=f"one or more of {', '.join(PLATFORMS)}",
            autocompletion=lambda incomplete: [name for name in PLATFORMS if name.startswith(incomplete)],
            callback=split,
        ),
    ]
    out: Annotated[Path, typer.Option(metavar="DIR", help="folder to create; must not exist")]
    weights: options.Weights = None
    seed: options.Seed = None
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|imagenet",
            help="names of the classes, one per line (default: those of the weights, else ImageNet's for 1000 classes)",
        ),
    ] = None
    device: Annotated[
        str, typer.Option(metavar="NAME", help="device to measure on: host, android, android:SERIAL, ios or mac")
    ] = NO_DEVICE
    runner: options.Runner = None
    force: Annotated[bool, typer.Option("--force", help="replace an existing bundle")] = False


@from_records
def command(
    request: DeployRequest, chosen: options.FileOptions, as_json: options.Json = False, verbose: options.Verbose = False
) -> None:
    """Make a folder for apps: checked files of a network, code that runs them, a model card and a report."""
    labels: Any = request.labels and (
        IMAGENET if request.labels == IMAGENET else network.read_labels(Path(request.labels))
    )
    bundle = _deploy(request, DeployOptions(to=tuple(request.to), labels=labels, **given(chosen)))
    measurements = _measurements(request.out)
    if as_json:
        screen.show_json(_summary(bundle, measurements, request.out))
        return
    screen.show(_table(bundle, measurements, request.out))
    for note in bundle.notes:
        screen.say("note", note, "cyan")


def _deploy(request: DeployRequest, chosen: DeployOptions) -> "Bundle":
    from fbnet_zoo.benchmarks.devices.discovery import open_device
    from fbnet_zoo.deploy.build import check_place, deploy

    check_place(request.out, force=request.force)
    measured = request.device != NO_DEVICE
    with open_device(request.device, runner=request.runner) if measured else nullcontext() as opened:
        labels = chosen.labels if isinstance(chosen.labels, tuple) else None
        model = network.load(request.name, weights=request.weights, seed=request.seed, labels=labels)
        steps = convert.count_steps(chosen.precision, [TARGETS[platform.target] for platform in chosen.platforms])
        with screen.steps(model.spec.name, steps + measured + 1) as progress:
            return deploy(model, chosen, out=request.out, device=opened, force=request.force, progress=progress)


def _measurements(out: Path) -> "tuple[Measurement, ...]":
    from fbnet_zoo.benchmarks import store
    from fbnet_zoo.deploy.build import MEASUREMENTS

    path = out / MEASUREMENTS
    return store.read(path) if path.exists() else ()


def _summary(bundle: "Bundle", measurements: "tuple[Measurement, ...]", out: Path) -> dict[str, Any]:
    return {
        "bundle": str(out),
        "model": bundle.model,
        "weights": bundle.weights,
        "license": bundle.license,
        "files": [_file(each, measurements, out) for each in bundle.deployed],
        "notes": list(bundle.notes),
    }


def _file(each: "Deployed", measurements: "tuple[Measurement, ...]", out: Path) -> dict[str, Any]:
    manifest = each.manifest
    return {
        "platform": each.platform,
        "path": str(out / each.path),
        "precision": manifest.precision,
        "size": manifest.file.size,
        "sha256": manifest.file.sha256,
        "snr_db": each.snr_db,
        "max_abs_error": each.worst.max_abs_error,
        "top1_agreement": each.top1_agreement,
        "quantization": manifest.quantization and manifest.quantization.model_dump(mode="json", exclude={"layers"}),
        "choice": each.choice and each.choice.model_dump(mode="json"),
        "p50_ms": next((_p50_ms(one) for one in measurements if one.file == manifest.file.file), None),
    }


def _p50_ms(measurement: "Measurement") -> float:
    return median(measurement.samples_ms)


def _table(bundle: "Bundle", measurements: "tuple[Measurement, ...]", out: Path) -> Table:
    """Return the files as a table."""
    lines = screen.table("for", "file", "precision", ">size\nMB", ">SNR\ndB", ">top-1\nsame", ">median\nms")
    for each in bundle.deployed:
        record = _file(each, measurements, out)
        time = "" if record["p50_ms"] is None else f"{record['p50_ms']:.2f}"
        lines.add_row(
            PLATFORMS[each.platform].title,
            Text(record["path"], style="bold"),
            record["precision"],
            f"{record['size'] / 1e6:.1f}",
            f"{record['snr_db']:.1f}",
            f"{record['top1_agreement']:.0%}",
            time,
        )
    return lines
