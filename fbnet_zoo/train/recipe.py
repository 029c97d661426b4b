"""Recipes: all settings of a training, as one record that a YAML file may hold."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from fbnet_zoo import limits, yaml_reader
from fbnet_zoo.errors import InputError
from fbnet_zoo.space.records import RecipeSpec
from fbnet_zoo.spec import MAX_SEED, Positive, Record, Text

Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Strength = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class _Extended(Record):
    """A record to which later versions added fields."""

    @model_serializer(mode="wrap")
    def _recorded(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out added fields at their defaults, so that earlier runs and records stay the same."""
        fields = type(self).model_fields
        usual = {name for name in _ADDED & fields.keys() if getattr(self, name) == fields[name].default}
        return {key: value for key, value in serialize(self).items() if key not in usual}


class Augmentation(_Extended):
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
        randaugment_ops: number of operations that RandAugment draws for each image (Cubuk et al., arXiv:1909.13719),
            torchvision's.
        randaugment_magnitude: their magnitude.
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
    randaugment_ops: Annotated[int, Field(ge=0, le=10)] = 0
    randaugment_magnitude: Annotated[int, Field(ge=0, le=30)] = 9


class Recipe(_Extended):
    """How a network is trained.

    Attributes:
        epochs: passes over the training images.
        batch_size: images per step; an incomplete last batch is dropped.
        optimizer: `adamw`, `sgd` with Nesterov momentum, or `rmsprop` with momentum, a decay of 0.9 and an epsilon of
            0.0316, as usual for mobile networks.
        lr: highest learning rate.
        sgd_lr_factor: factor of the learning rate of `sgd`, so that one range of `lr` serves several optimizers
            (FBNetV3: 4).
        momentum: momentum of `sgd` and `rmsprop`.
        weight_decay: weight decay, except for biases and batch norm.
        schedule: learning rate after the warm-up: `cosine` decay to 0, or `constant`.
        warmup_epochs: epochs over which the learning rate rises linearly.
        label_smoothing: share of the probability that is spread over all classes.
        mixup: alpha of mixup (Zhang et al., arXiv:1710.09412); 0 for none. The images of a batch are averaged in pairs,
            as are their labels, with a share drawn from Beta(alpha, alpha) in every step.
        cutmix: alpha of CutMix (Yun et al., arXiv:1905.04899), which pastes a rectangle of the other image; 0 for none.
            With both, each step draws one of them.
        ema_decay: decay of the moving average of weights and statistics, which becomes the result; `null` for none. At
            step n it is at most (1 + n) / (10 + n).
        drop_rate: dropout rate before the classifier.
        drop_path_rate: drop path rate (stochastic depth) of the last residual block, rising linearly from 0 at the
            first.
        teacher: network to learn from (Hinton et al., arXiv:1503.02531): name or path of its definition, as for
            `create`; `null` for none.
        teacher_weights: weights of the teacher, as for `create` (`null`: those of its name, else the first entry).
        distill_share: share of the distillation in the loss, if there is a teacher.
        distill_temperature: temperature that both networks' logits are divided by; the distillation is multiplied by
            its square.
        freeze: names of modules whose weights and batch norm statistics stay fixed, such as `stem` or `stages.4`; they
            work as in evaluation.
        layer_lr_decay: factor of the learning rate from each block to the one before it, counted from the last layers;
            1 for equal rates.
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
    optimizer: Literal["adamw", "sgd", "rmsprop"] = "adamw"
    lr: Positive = 4e-3
    sgd_lr_factor: Positive = 1
    momentum: Rate = 0.9
    weight_decay: Strength = 0.05
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_epochs: Strength = 2
    label_smoothing: Rate = 0.1
    mixup: Strength = 0
    cutmix: Strength = 0
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = 0.99
    drop_rate: Rate = 0
    drop_path_rate: Rate = 0
    teacher: Text | None = None
    teacher_weights: Text | None = None
    distill_share: Share = 0.5
    distill_temperature: Positive = 1
    freeze: tuple[Text, ...] = ()
    layer_lr_decay: Annotated[float, Field(gt=0, le=1)] = 1
    augmentation: Augmentation = Augmentation()
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0
    threads: Annotated[Count, AfterValidator(limits.within("threads"))] | None = None
    workers: Annotated[int, Field(ge=0, le=256)] | None = None
    evaluate_epochs: Count = 1
    checkpoint_steps: Count = 500

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.teacher_weights is not None and self.teacher is None:
            raise InputError("'teacher_weights' requires 'teacher'; add it", location=("teacher_weights",))
        return self

    @property
    def peak_lr(self) -> float:
        """Highest learning rate of the optimizer."""
        return self.lr * (self.sgd_lr_factor if self.optimizer == "sgd" else 1)


_ADDED = frozenset(
    {
        "cutmix",
        "distill_share",
        "distill_temperature",
        "freeze",
        "layer_lr_decay",
        "mixup",
        "randaugment_magnitude",
        "randaugment_ops",
        "sgd_lr_factor",
        "teacher",
        "teacher_weights",
    }
)
"""Fields that recipes of earlier versions do not have."""

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


def recipe_over(base: Recipe, values: Mapping[str, Any]) -> Recipe:
    """Return a recipe with other values for some fields, such as a joint search chooses them.

    Args:
        base: recipe that has all other values.
        values: name of each field to its value; `augmentation.zoom` is a field inside another.

    Raises:
        InputError: there is no such field, or a value is invalid; the text names the key.

    >>> recipe_over(Recipe(), {"lr": 0.02, "augmentation.flip": True}).augmentation.flip
    True
    """
    merged = base.model_dump()
    for name, value in values.items():
        key, _, inner = name.partition(".")
        merged = _merged(merged, {key: {inner: value} if inner else value})
    try:
        return Recipe.model_validate(merged)
    except ValidationError as error:
        location, problem = yaml_reader.first_mistake(Recipe, error)
        raise InputError(f"recipe: {problem}", location=location) from error


def require_ranges(base: Recipe, ranges: Sequence[RecipeSpec]) -> None:
    """Check that every value of the `recipe` of a search space is valid in a recipe.

    Args:
        base: recipe that has all other values.
        ranges: the space's, `space.spec.recipe`.

    Raises:
        InputError: there is no such field, or a value is invalid; the text names the key.
    """
    first = {each.name: each.values[0] for each in ranges}
    for each in ranges:
        for value in each.values:
            recipe_over(base, {**first, each.name: value})


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
