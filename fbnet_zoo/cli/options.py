"""The arguments and options of the commands, with their help."""

from pathlib import Path
from typing import Annotated, get_args

import typer

from fbnet_zoo import __version__
from fbnet_zoo.cli import predict, screen
from fbnet_zoo.converters import artifact
from fbnet_zoo.converters.targets import TARGETS
from fbnet_zoo.deploy.options import AUTO, PRECISIONS, PrecisionOrAuto
from fbnet_zoo.registry import list_models
from fbnet_zoo.spec import Family

_NAME = "Name, alias, name.tag or path of a YAML definition."


def examples(*lines: str) -> str:
    """Return the text that ends the help of a command."""
    return "\n".join(("Examples:", *(f"  fbnet-zoo {line}" for line in lines)))


def _complete_name(incomplete: str) -> list[str]:
    return [name for name in list_models() if name.startswith(incomplete)]


def _complete_target(incomplete: str) -> list[str]:
    return [name for name in TARGETS if name.startswith(incomplete)]


def _some(option: str, text: str) -> str:
    """Add which targets take an option."""
    takers = [target.name for target in TARGETS.values() if option in target.options]
    return f"{text} [dim]({' and '.join(takers)})[/dim]"


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"fbnet-zoo {__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        callback=screen.set_verbose,
        help="Let the libraries talk, and show where an error comes from.",
    ),
]

Pattern = Annotated[str, typer.Argument(metavar="PATTERN", help="Shell pattern of names.")]
InFamily = Annotated[Family | None, typer.Option(metavar="FAMILY", help=f"Only {', '.join(get_args(Family))}.")]
Pretrained = Annotated[bool | None, typer.Option(help="Only networks with, or without, published weights.")]

Name = Annotated[str, typer.Argument(metavar="NAME", help=_NAME, autocompletion=_complete_name)]
InputSize = Annotated[int | None, typer.Option(metavar="PX", help="Side of the image; the definition's if not said.")]
Layers = Annotated[bool, typer.Option("--layers", help="Also the cost of every layer.")]

Weights = Annotated[
    str | None,
    typer.Option(
        metavar="TAG|PATH",
        help="Published weights, a checkpoint file, hf://owner/repo, or none; the definition's default if not said.",
    ),
]
Seed = Annotated[int | None, typer.Option(metavar="N", min=0, help="Of random weights, beside --weights none.")]
Labels = Annotated[Path | None, typer.Option(metavar="FILE", help="Names of the classes, one per line.")]

Images = Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Image files.")]
Top = Annotated[int, typer.Option(metavar="K", min=1, help="Classes to print for each image.")]
Device = Annotated[predict.Device, typer.Option(metavar="cpu|cuda|mps", help="Where to compute.")]

Names = Annotated[list[str], typer.Argument(metavar="NAME", help=_NAME, autocompletion=_complete_name)]
To = Annotated[
    list[str],
    typer.Option(metavar="TARGET...", help=f"One or more of {', '.join(TARGETS)}.", autocompletion=_complete_target),
]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder of the files; made where needed.")]
Precision = Annotated[
    PrecisionOrAuto | None,
    typer.Option(
        metavar="NAME", help=f"{', '.join(PRECISIONS[:-1])}; or {AUTO}: the fastest that passes; fp32 if not said."
    ),
]
Calibration = Annotated[
    str | None,
    typer.Option(metavar="DIR|digits", help="Images to quantize with; crops of two shipped photographs if not said."),
]
Keep = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LAYER", help="Layer that mixed leaves alone, or a pattern such as '*.se'; it finds them if not said."
    ),
]
AllowDegraded = Annotated[
    bool, typer.Option("--allow-degraded", help="Keep a quantized file that has lost the network's answers.")
]
Batch = Annotated[int | None, typer.Option(metavar="N", help="Images per run; 1 if not said.")]
DynamicBatch = Annotated[
    bool, typer.Option("--dynamic-batch", help=f"Take 1 to {artifact.LARGEST_BATCH} images per run.")
]
ImageInput = Annotated[
    bool, typer.Option("--image-input", help=_some("image_input", "Take 8-bit images, normalise them inside."))
]
DeploymentTarget = Annotated[
    str | None,
    typer.Option(metavar="OS", help=_some("deployment_target", "Oldest system that shall run it, such as iOS16.")),
]
Opset = Annotated[int | None, typer.Option(metavar="N", help=_some("opset", "Version of the operators."))]
Bundled = Annotated[
    bool, typer.Option("--bundled", help=_some("bundled", "Also write a file that carries its own test."))
]
Backend = Annotated[
    artifact.Backend | None,
    typer.Option(metavar="NAME", help=_some("backend", "xnnpack, coreml or vulkan; xnnpack if not said.")),
]
MinSnr = Annotated[
    float | None,
    typer.Option(
        "--min-snr",
        metavar="DB",
        help="Smallest signal-to-noise ratio of the logits; else 100, for fp16 40, for fewer bits 0.",
    ),
]
MaxError = Annotated[
    float | None,
    typer.Option(metavar="X", help="Largest error of a logit, as a share of the largest; else 1e-4, 0.03 and 1."),
]
MinTop1 = Annotated[
    float | None,
    typer.Option("--min-top1", metavar="X", help="Smallest share of images of the same best class; else 1, 1 and 0.9."),
]
AllowUnchecked = Annotated[
    bool, typer.Option("--allow-unchecked", help="Also write files that no runtime here can check.")
]
