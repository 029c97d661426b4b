"""`fbnet-zoo deploy`: a folder with a network, ready for apps."""

from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table
from rich.text import Text
from typer.core import TyperCommand

from fbnet_zoo.cli import convert, network, options, screen
from fbnet_zoo.converters.targets import TARGETS
from fbnet_zoo.deploy.options import DeployOptions
from fbnet_zoo.deploy.platforms import PLATFORMS
from fbnet_zoo.errors import did_you_mean

if TYPE_CHECKING:
    from fbnet_zoo.benchmarks.measure import Measurement
    from fbnet_zoo.deploy.record import Bundle, Deployed

NO_DEVICE = "none"
IMAGENET: Literal["imagenet"] = "imagenet"

EPILOG = options.examples(
    "deploy fbnet_b --target iphone,android,onnx --out build/fbnet_b",
    "deploy fbnet_b --target android onnx --precision int8 --device host --out build/fbnet_b",
    "deploy my.yaml --weights my.safetensors --labels my.txt --target iphone --precision fp16 --out build/my",
)

To = Annotated[
    list[str],
    typer.Option(
        "--target",
        metavar="TARGET...",
        help=f"One or more of {', '.join(PLATFORMS)}.",
        autocompletion=lambda incomplete: [name for name in PLATFORMS if name.startswith(incomplete)],
    ),
]
Out = Annotated[Path, typer.Option(metavar="DIR", help="The folder to make; it must not exist.")]
Labels = Annotated[
    str | None,
    typer.Option(metavar="FILE|imagenet", help="Names of the classes, one per line; ImageNet's for 1000 if not said."),
]
Device = Annotated[str, typer.Option(metavar="NAME", help="Measure on host, android, android:SERIAL, ios or mac.")]
Runner = Annotated[
    Path | None,
    typer.Option(metavar="PATH", help="ExecuTorch's executor_runner for Android; else what FBNET_ZOO_RUNNER names."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace a bundle that is there.")]


class Command(TyperCommand):
    """Lets several platforms follow one `--target`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, convert.spread(args, "--target", _is_platform))


def _is_platform(word: str) -> bool:
    parts = convert.split([word])
    return bool(parts) and all(part.isalpha() and did_you_mean(part, PLATFORMS) for part in parts)


def command(  # noqa: PLR0913 - one per option
    name: options.Name,
    to: To,
    out: Out,
    weights: options.Weights = None,
    seed: options.Seed = None,
    precision: options.Precision = None,
    calibration: options.Calibration = None,
    keep: options.Keep = None,
    allow_degraded: options.AllowDegraded = False,
    labels: Labels = None,
    input_size: options.InputSize = None,
    device: Device = NO_DEVICE,
    runner: Runner = None,
    force: Force = False,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Make a folder with a network for apps: checked files, code that runs them, a model card and a report."""
    names = network.read_labels(Path(labels)) if labels and labels != IMAGENET else None
    chosen = DeployOptions(
        to=tuple(convert.split(to)),
        precision=precision or "fp32",
        labels=names or (IMAGENET if labels else None),
        input_size=input_size,
        calibration=calibration,
        keep=tuple(keep or ()),
        allow_degraded=allow_degraded,
    )
    bundle = _deploy(name, chosen, weights=weights, seed=seed, device=device, runner=runner, out=out, force=force)
    measurements = _measurements(out)
    if as_json:
        screen.show_json(_summary(bundle, measurements, out))
        return
    screen.show(_table(bundle, measurements, out))
    for note in bundle.notes:
        screen.say("note", note, "cyan")


def _deploy(
    name: str,
    chosen: DeployOptions,
    *,
    weights: str | None,
    seed: int | None,
    device: str,
    runner: Path | None,
    out: Path,
    force: bool,
) -> "Bundle":
    from fbnet_zoo.benchmarks.devices.discovery import open_device
    from fbnet_zoo.deploy.build import check_place, deploy

    check_place(out, force=force)
    measured = device != NO_DEVICE
    with open_device(device, runner=runner) if measured else nullcontext() as opened:
        labels = chosen.labels if isinstance(chosen.labels, tuple) else None
        model = network.load(name, weights=weights, seed=seed, labels=labels)
        steps = convert.count_steps(chosen.precision, [TARGETS[platform.target] for platform in chosen.platforms])
        with screen.steps(model.spec.name, steps + measured + 1) as progress:
            return deploy(model, chosen, out=out, device=opened, force=force, progress=progress)


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
    lines = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for header in ("for", "file", "precision"):
        lines.add_column(header, overflow="fold")
    for header in ("size\nMB", "SNR\ndB", "top-1\nsame", "median\nms"):
        lines.add_column(header, justify="right")
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
