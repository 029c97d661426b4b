"""Recipes: all settings of a training, as one record that a YAML file may hold."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field

from fbnet_zoo import limits, yaml_reader
from fbnet_zoo.errors import InputError
from fbnet_zoo.spec import MAX_SEED, Positive, Record

Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Strength = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class Augmentation(Record):
    """Random changes to training images, in this order; 0, false or null disables a change.

    Attributes:
        resized_crop: smallest share of the image area that is cropped and scaled to the input, with an aspect ratio
            from 3/4 to 4/3; null scales images as for evaluation.
        pad: padding around the image before a random crop, as a share of the input size.
        flip: mirror half of the images; not for digits.
        degrees: largest rotation in either direction, degrees.
        shift: largest shift in either direction, as a share of the input size.
        zoom: largest relative change of scale, either way.
        shear: largest shear in either direction, degrees.
        brightness: largest relative change of brightness, either way.
        contrast: largest relative change of contrast, either way.
        saturation: largest relative change of saturation, either way.
    """

    resized_crop: Annotated[float, Field(gt=0, le=1)] | None = None
    pad: Share = 0
    flip: bool = False
    degrees: Annotated[float, Field(ge=0, le=180)] = 0
    shift: Share = 0
    zoom: Rate = 0
    shear: Annotated[float, Field(ge=0, le=45)] = 0
    brightness: Strength = 0
    contrast: Strength = 0
    saturation: Strength = 0


class Recipe(Record):
    """How a network is trained.

    Attributes:
        epochs: passes over the training images.
        batch_size: images per step; an incomplete last batch is dropped.
        optimizer: `adamw`, or `sgd` with Nesterov momentum.
        lr: highest learning rate.
        momentum: momentum of `sgd`.
        weight_decay: weight decay, except for biases and batch norm.
        schedule: learning rate after the warm-up: `cosine` decay to 0, or `constant`.
        warmup_epochs: epochs over which the learning rate rises linearly.
        label_smoothing: share of the probability that is spread over all classes.
        ema_decay: decay of the moving average of weights and statistics, which becomes the result; `null` for none. At
            step n it is at most (1 + n) / (10 + n).
        drop_rate: dropout rate before the classifier.
        drop_path_rate: drop path rate of the last residual block, rising linearly from 0 at the first.
        augmentation: random changes to training images.
        seed: seed of initial weights, image order, augmentation and dropout.
        threads: number of PyTorch threads (`null`: PyTorch's default); equal numbers give equal weights.
        workers: number of processes that read images; 0 reads them in the main process. Results do not depend on it.
            `null`: for image files, a core less than there are, at most 8; for images in memory, none.
        evaluate_epochs: epochs between evaluations on the held-out images; there is always one at the end.
        checkpoint_steps: steps between checkpoints; there is always one after every epoch.
    """

    epochs: Count = 60
    batch_size: Annotated[Count, AfterValidator(limits.within("batch"))] = 32
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: Positive = 4e-3
    momentum: Rate = 0.9
    weight_decay: Strength = 0.05
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_epochs: Strength = 2
    label_smoothing: Rate = 0.1
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = 0.99
    drop_rate: Rate = 0
    drop_path_rate: Rate = 0
    augmentation: Augmentation = Augmentation()
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0
    threads: Annotated[Count, AfterValidator(limits.within("threads"))] | None = None
    workers: Annotated[int, Field(ge=0, le=256)] | None = None
    evaluate_epochs: Count = 1
    checkpoint_steps: Count = 500


_DEFAULTS = {
    "digits": Recipe(epochs=30, augmentation=Augmentation(degrees=10, shift=0.1, zoom=0.1, shear=5)),
    "cifar": Recipe(
        epochs=100,
        batch_size=128,
        lr=2e-3,
        ema_decay=0.999,
        augmentation=Augmentation(pad=0.125, flip=True, brightness=0.2, contrast=0.2, saturation=0.2),
    ),
    "folder": Recipe(
        epochs=90,
        batch_size=128,
        lr=1e-3,
        ema_decay=0.999,
        drop_rate=0.2,
        augmentation=Augmentation(resized_crop=0.25, flip=True, brightness=0.4, contrast=0.4, saturation=0.4),
    ),
}


def default_recipe(kind: str) -> Recipe:
    """Return the default recipe for a kind of images: `digits`, `cifar` or `folder`.

    Raises:
        InputError: there is no such kind.

    >>> default_recipe("digits").augmentation.flip
    False
    """
    if kind not in _DEFAULTS:
        raise InputError(f"no kind of images is named {kind!r}; expected {', '.join(_DEFAULTS)}")
    return _DEFAULTS[kind]


def qat_recipe(kind: str) -> Recipe:
    """Return the default recipe for fine-tuning with simulated rounding: few epochs, small steps, no moving average.

    >>> qat_recipe("digits").ema_decay is None
    True
    """
    usual = default_recipe(kind)
    update = {"epochs": max(1, usual.epochs // 6), "lr": usual.lr / 20, "warmup_epochs": 0.0, "ema_decay": None}
    return usual.model_copy(update=update)


def load_recipe(path: Path, base: Recipe) -> Recipe:
    """Return a recipe from a YAML file (default of every key: its value in `base`).

    Raises:
        InputError: the file cannot be read.
        DefinitionError: the recipe is invalid; the text gives line and reason.
    """
    return load_over(path, base)


RecordT = TypeVar("RecordT", bound=Record)


def load_over(path: Path, base: RecordT) -> RecordT:
    """Return a record from a YAML file (default of every key: its value in `base`).

    Raises:
        InputError: the file cannot be read.
        DefinitionError: the record is invalid; the text gives line and reason.
    """
    root = yaml_reader.read(yaml_reader.load_text(path), str(path))
    merged = _merged(base.model_dump(), root.plain())
    return yaml_reader.validate(type(base), merged, root, str(path), {})


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {**base, **{key: _merged_value(base.get(key), value) for key, value in changes.items()}}


def _merged_value(base: Any, value: Any) -> Any:
    both = isinstance(base, Mapping) and isinstance(value, Mapping)
    return _merged(base, value) if both else value
