"""`fbnet-zoo train`: train a network on a data set, from scratch or from weights."""

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fbnet_zoo import registry
from fbnet_zoo._require import quiet
from fbnet_zoo.cli import network, options, predict, screen
from fbnet_zoo.errors import InputError
from fbnet_zoo.spec import ArchSpec

if TYPE_CHECKING:
    from fbnet_zoo.datasets import ImageDataset
    from fbnet_zoo.train import EpochMetrics, Recipe, Trained
    from fbnet_zoo.train.processes import Precision, Processes

EPILOG = options.examples(
    "train fbnet_b --data digits --epochs 5 --out runs/b",
    "train fbnet_b --data photos/ --weights auto --recipe recipe.yaml",
    "train my_network.yaml --data cifar10 --data-root data --out runs/mine --resume",
)
AUTO = "auto"

Data = Annotated[
    str,
    typer.Option(
        metavar="D", help="digits, digits_cluttered, cifar10, cifar100, or a folder of train/ and val/ or of classes"
    ),
]
DataRoot = Annotated[Path | None, typer.Option(metavar="DIR", help="folder that holds CIFAR")]
Download = Annotated[bool, typer.Option("--download", help="download CIFAR to --data-root if it is missing")]
Out = Annotated[
    Path | None, typer.Option(metavar="RUN", help="folder of the run (default: runs/NAME_DATA)", show_default=False)
]
Epochs = Annotated[int | None, typer.Option(metavar="N", min=1, help="training epochs (default: the recipe's)")]
RecipeFile = Annotated[Path | None, typer.Option("--recipe", metavar="FILE", help="training recipe (YAML)")]
Resume = Annotated[bool, typer.Option("--resume", help="resume the run in the folder")]
Weights = Annotated[
    str | None,
    typer.Option(
        metavar="auto|TAG|PATH",
        help="weights to start from; auto: the definition's first entry (default: from scratch)",
    ),
]
TeacherName = Annotated[
    str | None,
    typer.Option("--teacher", metavar="NAME", help="trained network to learn from (default: the recipe's, else none)"),
]
Qat = Annotated[bool, typer.Option("--qat", help="fine-tune with simulated 8-bit arithmetic, for conversion to int8")]
Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=0,
        max=256,
        help="processes that read images (default: for image files a core less than there are, else none)",
    ),
]
MixedPrecision = Annotated[
    Literal["no", "fp16", "bf16"] | None,
    typer.Option(metavar="no|fp16|bf16", help="mixed precision (default: accelerate's setting, else no)"),
]
Seed = Annotated[
    int | None,
    typer.Option(metavar="N", callback=options.in_range, help="random seed of the training (default: the recipe's)"),
]


def command(  # noqa: PLR0913 - one per option
    name: options.Name,
    data: Data,
    out: Out = None,
    epochs: Epochs = None,
    recipe: RecipeFile = None,
    seed: Seed = None,
    weights: Weights = None,
    teacher: TeacherName = None,
    qat: Qat = False,
    data_root: DataRoot = None,
    download: Download = False,
    resume: Resume = False,
    workers: Workers = None,
    device: options.Device | None = None,
    mixed_precision: MixedPrecision = None,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Train a network on a data set, from scratch or from weights."""
    processes = _processes(device, mixed_precision)
    spec, pretrained = _source(name, weights)
    dataset = open_data(data, data_root, download=download)
    overrides = {"epochs": epochs, "seed": seed, "workers": workers, "teacher": teacher}
    chosen = recipe_for(dataset.kind, recipe, overrides, qat=qat)
    folder = out or Path("runs") / f"{spec.name}_{dataset.name}"
    with quiet():
        from fbnet_zoo.train import train
    shown = screen.steps(spec.name, chosen.epochs) if processes.is_main else nullcontext(_silent)
    with shown as step:
        trained = train(
            name,
            dataset,
            chosen,
            folder,
            pretrained=pretrained,
            qat=qat,
            resume=resume,
            processes=processes,
            progress=_reporter(step, chosen.epochs),
            track=screen.track if processes.is_main else None,
        )
    processes.leave()
    if not processes.is_main:
        return
    record = _record(spec.name, dataset, trained)
    if as_json:
        screen.show_json(record)
    else:
        screen.show(f"{record['weights']}: top-1 {record['top1']:.2f} % of {record['held_out']} held-out images")


def _silent(_: str) -> None:
    """Show no progress: the main process does."""


def _processes(device: "options.DeviceName | None", precision: "Precision | None") -> "Processes":
    """Return the processes that a launcher started, or this one."""
    with quiet():
        from fbnet_zoo.train.processes import Processes
    if "WORLD_SIZE" in os.environ:
        return Processes.launched(device, precision)
    predict.check_device(device or "cpu")
    return Processes(device=device or "cpu", precision=precision or "no")


def open_data(name: str, root: Path | None, *, download: bool) -> "ImageDataset":
    """Return the data set that `--data` names."""
    with quiet():
        from fbnet_zoo.datasets import open_dataset
    return open_dataset(name, root=root, download=download)


def _source(name: str, weights: str | None) -> tuple[ArchSpec, bool | str]:
    """Return the definition, and the `pretrained` argument of `create`."""
    spec, tag = registry.resolve(name)
    if weights is None or (weights == network.NO_WEIGHTS and tag is None):
        return spec, False
    if weights == network.NO_WEIGHTS:
        raise InputError(f"{name} already names weights, but --weights is none; give one of the two")
    return spec, True if weights == AUTO else weights


def recipe_for(kind: str, path: Path | None, overrides: dict[str, Any], *, qat: bool) -> "Recipe":
    """Return the recipe of `--recipe`, or of the kind of data, updated with the other options."""
    from fbnet_zoo.train import default_recipe, load_recipe, qat_recipe

    base = qat_recipe(kind) if qat else default_recipe(kind)
    recipe = load_recipe(path, base) if path else base
    return recipe.model_copy(update={key: value for key, value in overrides.items() if value is not None})


def _record(name: str, dataset: "ImageDataset", trained: "Trained") -> dict[str, Any]:
    metrics = trained.metrics
    return {
        "model": name,
        "data": dataset.name,
        "run": str(trained.weights.parent),
        "weights": str(trained.weights),
        "license": trained.network.license,
        "epochs": metrics.epoch,
        "steps": metrics.step,
        "loss": metrics.loss,
        "top1": metrics.top1,
        "held_out": len(dataset.held_out.labels),
    }


def _reporter(step: Callable[[str], None], epochs: int) -> "Callable[[EpochMetrics], None]":
    def report(metrics: "EpochMetrics") -> None:
        top1 = "" if metrics.top1 is None else f", top-1 {metrics.top1:.2f} %"
        step(f"epoch {metrics.epoch} of {epochs}: loss {metrics.loss:.3f}{top1}")

    return report
