"""Recipes: everything that says how a network is trained, as one record that a YAML file may hold."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from fbnet_zoo import yaml_reader
from fbnet_zoo.spec import Positive, Record

Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Strength = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class Augmentation(Record):
    """What may happen to an image that is trained on, in this order; whatever is 0, false or null does not.

    Attributes:
        resized_crop: smallest share of the image's area that is cut out and scaled to the input, with a ratio of sides
            from 3/4 to 4/3. When null, images are scaled as they are evaluated.
        pad: share of the input that is added around an image before the input is cut out of it anywhere.
        flip: mirror half of the images; not for digits.
        degrees: rotation, either way.
        shift: as a share of the input, either way.
        zoom: by up to this share, either way.
        shear: degrees, either way.
        brightness: change of it, by up to this share, either way.
        contrast: likewise.
        saturation: likewise.
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
        epochs: passes over the images to train on.
        batch_size: images per step; what is left over at the end of an epoch is not used in it.
        optimizer: `adamw`, or `sgd` with Nesterov's momentum.
        lr: highest learning rate.
        momentum: of `sgd`.
        weight_decay: of weights; never of biases and batch norm.
        schedule: of the learning rate after the warm-up: `cosine` down to 0, or `constant`.
        warmup_epochs: over which it rises linearly.
        label_smoothing: share of the probability that is spread over all classes.
        ema_decay: of the moving average of weights and statistics, which then is the result; `null` for none. At step
            n it is at most (1 + n) / (10 + n).
        drop_rate: dropout before the classifier.
        drop_path_rate: of the last residual block; rises linearly from 0 at the first.
        augmentation: of the images.
        seed: of the first weights, the order of images, augmentation and dropout.
        threads: of PyTorch; `null` is its own choice. The same number gives the same weights.
        workers: processes that read images; 0 reads them in this one. They change no result.
        evaluate_epochs: how often the held-out images are classified meanwhile; they are at the end in any case.
        checkpoint_steps: steps between two checkpoints; there is one after every epoch in any case.
    """

    epochs: Count = 60
    batch_size: Count = 32
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
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    threads: Count | None = None
    workers: Annotated[int, Field(ge=0, le=256)] = 0
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
    """Return what suits a kind of images: `digits`, `cifar` or `folder`.

    >>> default_recipe("digits").augmentation.flip
    False
    """
    return _DEFAULTS[kind]


def qat_recipe(kind: str) -> Recipe:
    """Return what suits a fine-tuning of trained weights with simulated rounding: few epochs, small steps, no average.

    >>> qat_recipe("digits").ema_decay is None
    True
    """
    usual = default_recipe(kind)
    update = {"epochs": max(1, usual.epochs // 6), "lr": usual.lr / 20, "warmup_epochs": 0.0, "ema_decay": None}
    return usual.model_copy(update=update)


def load_recipe(path: Path, base: Recipe) -> Recipe:
    """Read a recipe from YAML; what it does not say is as in `base`.

    Raises:
        InputError: the file cannot be read.
        DefinitionError: it is no valid recipe; the text says where and why.
    """
    return load_over(path, base)


RecordT = TypeVar("RecordT", bound=Record)


def load_over(path: Path, base: RecordT) -> RecordT:
    """Read a record from YAML; what the file does not say is as in `base`.

    Raises:
        InputError: the file cannot be read.
        DefinitionError: it makes no valid record; the text says where and why.
    """
    root = yaml_reader.read(yaml_reader.load_text(path), str(path))
    merged = _merged(base.model_dump(), root.plain())
    return yaml_reader.validate(type(base), merged, root, str(path), {})


def _merged(base: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    return {**base, **{key: _merged_value(base.get(key), value) for key, value in said.items()}}


def _merged_value(base: Any, value: Any) -> Any:
    both = isinstance(base, Mapping) and isinstance(value, Mapping)
    return _merged(base, value) if both else value
