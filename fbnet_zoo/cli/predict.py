"""What `fbnet-zoo predict` computes and says of images."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fbnet_zoo.cli import screen
from fbnet_zoo.cli.network import IMAGENET_CLASSES
from fbnet_zoo.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from fbnet_zoo.model import FBNet

Device = Literal["cpu", "cuda", "mps"]

_BAR_WIDTH = 24
_COLOURS = 3


def check_files(images: Sequence[Path]) -> None:
    """Make sure that there is something to classify, before weights are fetched for it.

    Raises:
        InputError: there is no such file, or it is a folder.
    """
    missing = [str(path) for path in images if path.is_dir() or not path.exists()]
    if missing:
        raise InputError(f"{', '.join(missing)}: no such file; expected paths of image files")


def classify(
    model: "FBNet", images: Sequence[Path], *, labels: tuple[str, ...] | None, top: int, device: Device
) -> list[dict[str, Any]]:
    """Classify image files.

    Args:
        model: to classify with; it is moved to the device.
        images: files; one that is no image gets an `error` instead of its classes.
        labels: names of the classes; `None` is ImageNet-1k's, or their numbers where there are not 1000.
        top: classes to return for each image, most probable first.
        device: where to compute.

    Raises:
        InputError: this machine has no such device, or labels or network are not for such images.
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
    return given or (imagenet_labels() if classes == IMAGENET_CLASSES else tuple(f"class {i}" for i in range(classes)))


def _classifier(model: "FBNet", device: Device) -> Callable[[Path], "Tensor"]:
    """Return a function from an image file to the probabilities of its classes, `(num_classes,)`."""
    import torch

    from fbnet_zoo.data import load_image
    from fbnet_zoo.zoo import transforms

    if model.plan.stem.in_channels != _COLOURS:
        raise InputError(f"these weights are for {model.plan.stem.in_channels} channels; predict reads colour images")
    check_device(device)
    transform, model = transforms(model), model.to(device)

    @torch.inference_mode()
    def probabilities(path: Path) -> "Tensor":
        image = transform(load_image(path))[None]  # (1, 3, S, S)
        return model(image.to(device))[0].softmax(0).cpu()

    return probabilities


def check_device(device: Device) -> None:
    """Make sure that this machine has a device.

    Raises:
        InputError: PyTorch finds no such one.
    """
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available[device]:
        here = " or ".join(name for name, there in available.items() if there)
        raise InputError(f"PyTorch finds no device {device!r} on this machine; say --device {here}")


def tables(results: list[dict[str, Any]]) -> Iterator[RenderableType]:
    """Yield the classes of each image as a table, with a bar for each probability."""
    for result in results:
        if "classes" in result:
            yield Text(result["path"], style="bold")
            yield _bars(result["classes"])


def _bars(classes: list[dict[str, Any]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right")
    for guess in classes:
        bar = ProgressBar(total=1.0, completed=guess["probability"], width=_BAR_WIDTH)
        table.add_row(f"{guess['probability']:.1%}", bar, guess["label"])
    return table
