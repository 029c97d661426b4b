"""The arguments and options that several commands share, with their help."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from fbnet_zoo import __version__, limits
from fbnet_zoo.cli import screen
from fbnet_zoo.deploy.options import AUTO, PRECISIONS, PrecisionOrAuto
from fbnet_zoo.registry import list_models
from fbnet_zoo.spec import MAX_SEED, Family

if TYPE_CHECKING:
    from typer.models import OptionInfo

DeviceName = Literal["cpu", "cuda", "mps"]

_NAME = "name, alias, name.tag or path of a YAML definition"
_PRECISION = "Precision"


def option(panel: str, help_: str, *flags: str, **settings: Any) -> "OptionInfo":
    """Return an option in a panel of the help."""
    return typer.Option(*flags, help=help_, rich_help_panel=panel, **settings)


def examples(*lines: str) -> str:
    """Return the text that ends the help of a command."""
    return "\n".join(("Examples:", *(f"  fbnet-zoo {line}" for line in lines)))


def finite(value: float | None) -> float | None:
    """Refuse NaN and infinity, which Python reads as numbers; the callback of every option with a fraction."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number.")
    return value


def in_range(seed: int | None) -> int | None:
    """Refuse a seed that PyTorch cannot use; the callback of every option of a seed."""
    if seed is not None and not 0 <= seed <= MAX_SEED:
        raise typer.BadParameter(f"{seed} is not a whole number from 0 to {MAX_SEED}.")
    return seed


def _complete_name(incomplete: str) -> list[str]:
    return [name for name in list_models() if name.startswith(incomplete)]


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"fbnet-zoo {__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", is_eager=True, callback=_print_version, help="print the version and exit")
]
Json = Annotated[bool, typer.Option("--json", help="print one JSON object on stdout")]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose", "-v", callback=screen.set_verbose, help="show library output, and the traceback of an error"
    ),
]

Pattern = Annotated[str, typer.Argument(metavar="PATTERN", help="shell pattern of names")]
InFamily = Annotated[Family | None, typer.Option(metavar="FAMILY", help=f"only {', '.join(get_args(Family))}")]
Pretrained = Annotated[bool | None, typer.Option(help="only networks with, or without, published weights")]

Name = Annotated[str, typer.Argument(metavar="NAME", help=_NAME, autocompletion=_complete_name)]
Names = Annotated[list[str], typer.Argument(metavar="NAME", help=_NAME, autocompletion=_complete_name)]
InputSize = Annotated[int | None, typer.Option(metavar="PX", help="side of the image, px (default: the definition's)")]
Layers = Annotated[bool, typer.Option("--layers", help="also list the cost of every layer")]
Weights = Annotated[
    str | None,
    typer.Option(
        metavar="TAG|PATH",
        help="published weights, a checkpoint file, hf://owner/repo, or none (default: the definition's first entry)",
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(metavar="N", callback=in_range, help="seed of random weights; requires --weights none (default: 0)"),
]
Labels = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="names of the classes, one per line (default: those of the weights, if known)"),
]
Device = Annotated[DeviceName, typer.Option(metavar="cpu|cuda|mps", help="where to compute")]
Runner = Annotated[
    Path | None,
    typer.Option(metavar="PATH", help="ExecuTorch's executor_runner for Android (default: $FBNET_ZOO_RUNNER)"),
]
Runs = Annotated[int, typer.Option(metavar="N", min=1, help="number of timed runs in each process")]
Threads = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=1,
        callback=limits.within("threads"),
        help="number of threads, each bound to a core if possible",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOptions:
    """Options of every file that is written, with the names that they have in `ConvertOptions` and `DeployOptions`."""

    input_size: InputSize = None
    precision: Annotated[
        PrecisionOrAuto | None,
        option(
            _PRECISION,
            f"{', '.join(PRECISIONS[:-1])}; or {AUTO}: the fastest that passes (default: fp32)",
            metavar="NAME",
        ),
    ] = None
    calibration: Annotated[
        str | None,
        option(_PRECISION, "images for quantization (default: crops of two shipped photographs)", metavar="DIR|digits"),
    ] = None
    keep: Annotated[
        list[str] | None,
        option(
            _PRECISION,
            "layer that mixed keeps in a higher precision, or a pattern such as '*.se'; repeatable (default: found by "
            "sensitivity)",
            metavar="LAYER",
        ),
    ] = None
    allow_degraded: Annotated[
        bool, option(_PRECISION, "keep a quantized file whose answers have degraded", "--allow-degraded")
    ] = False
