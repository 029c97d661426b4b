"""`fbnet-zoo predict`: the most probable classes of images."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fbnet_zoo.class_names import check_labels
from fbnet_zoo.cli import network, options, screen
from fbnet_zoo.cli.literal import literal
from fbnet_zoo.cli.network import IMAGENET_CLASSES
from fbnet_zoo.cli.options import DeviceName
from fbnet_zoo.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from fbnet_zoo.model import FBNet

EPILOG = options.examples(
    "predict fbnet_b dog.jpg cat.png",
    "predict fbnetv3_b *.jpg --weights hf://timm/fbnetv3_b.ra2_in1k --top 3",
    "predict my_network.yaml photo.jpg --weights my.safetensors --labels my.txt --json",
)
_BAR_WIDTH = 24
_COLORS = 3

Images = Annotated[list[Path], typer.Argument(metavar="IMAGE", help="image files")]
Top = Annotated[int, typer.Option(metavar="K", min=1, help="number of classes to print for each image")]


def command(  # noqa: PLR0913 - one per option
    name: options.Name,
    images: Images,
    weights: options.Weights = None,
    seed: options.Seed = None,
    top: Top = 5,
    labels: options.Labels = None,
    device: options.Device = "cpu",
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Classify image files."""
    names = network.read_labels(labels) if labels else None
    check_files(images)
    model = network.load(name, weights=weights, seed=seed, labels=names)
    if weights == network.NO_WEIGHTS:
        screen.say("warning", f"{model.spec.name} has weights from {model.weights}: its answers mean nothing", "yellow")
    results = classify(model, images, labels=names, top=top, device=device)
    if as_json:
        about = {"model": model.spec.name, "weights": model.weights, "license": model.license}
        screen.show_json({**about, "images": results})
    else:
        screen.show(*tables(results))
    raise typer.Exit(int(any("error" in result for result in results)))


def check_files(images: Sequence[Path]) -> None:
    """Check that the files exist, before weights are downloaded.

    Raises:
        InputError: a file does not exist, or is a folder.
    """
    missing = [str(path) for path in images if path.is_dir() or not path.exists()]
    if missing:
        raise InputError(f"{', '.join(missing)}: no such file; expected paths of image files")


def classify(
    model: "FBNet", images: Sequence[Path], *, labels: tuple[str, ...] | None, top: int, device: DeviceName
) -> list[dict[str, Any]]:
    """Classify image files.

    Args:
        model: network; it is moved to the device.
        images: image files; an unreadable one gets an `error` instead of classes.
        labels: names of the classes (default: those of the weights, else ImageNet-1k's for 1000 classes, else class
            numbers).
        top: number of classes to return for each image, most probable first.
        device: where to compute.

    Raises:
        InputError: the device is not available, the labels do not match the classes or are in another order, or the
            network does not accept color images.
    """
    labels = _labels(model, labels)
    probabilities = _classifier(model, device)

    def result(path: Path) -> dict[str, Any]:
        try:
            best = probabilities(path).topk(min(top, len(labels)))
        except InputError as error:
            screen.report(error, as_json=False)
            return {"path": str(path), "error": str(error)}
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        classes = [{"index": index, "label": labels[index], "probability": share} for index, share in pairs]
        return {"path": str(path), "classes": classes}

    return [result(path) for path in screen.track(images, "classifying")]


def _labels(model: "FBNet", given: tuple[str, ...] | None) -> tuple[str, ...]:
    from fbnet_zoo.data import imagenet_labels

    classes = model.plan.num_classes
    if given is not None and len(given) != classes:
        raise InputError(
            f"there are {len(given)} labels for the {classes} classes of these weights; give one per class"
        )
    if given is not None:
        check_labels(given, model.class_names)
        return given
    if model.class_names is not None:
        return model.class_names
    return imagenet_labels() if classes == IMAGENET_CLASSES else tuple(f"class {i}" for i in range(classes))


def _classifier(model: "FBNet", device: DeviceName) -> Callable[[Path], "Tensor"]:
    """Return a function from an image file to the probabilities of its classes, `(num_classes,)`."""
    import torch

    from fbnet_zoo.data import load_image
    from fbnet_zoo.zoo import transforms

    if model.plan.stem.in_channels != _COLORS:
        raise InputError(f"these weights are for {model.plan.stem.in_channels} channels; predict reads color images")
    check_device(device)
    transform, model = transforms(model), model.to(device)

    @torch.inference_mode()
    def probabilities(path: Path) -> "Tensor":
        image = transform(load_image(path))[None]  # (1, 3, S, S)
        return model(image.to(device))[0].softmax(0).cpu()

    return probabilities


def check_device(device: DeviceName) -> None:
    """Check that a device is available.

    Raises:
        InputError: PyTorch finds no such device.
    """
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available[device]:
        here = " or ".join(name for name, there in available.items() if there)
        raise InputError(f"PyTorch finds no device {device!r} on this machine; use --device {here}")


def tables(results: list[dict[str, Any]]) -> Iterator[RenderableType]:
    """Yield the classes of each image as a table, with a bar for each probability."""
    for result in results:
        if "classes" in result:
            yield Text(literal(result["path"]), style="bold")
            yield _bars(result["classes"])


def _bars(classes: list[dict[str, Any]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right")
    for guess in classes:
        bar = ProgressBar(total=1.0, completed=guess["probability"], width=_BAR_WIDTH)
        table.add_row(f"{guess['probability']:.1%}", bar, literal(guess["label"]))
    return table
