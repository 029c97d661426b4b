"""Class names of a bundle."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from fbnet_zoo.class_names import check_label_count, check_labels
from fbnet_zoo.data import imagenet_labels
from fbnet_zoo.errors import InputError

IMAGENET: Literal["imagenet"] = "imagenet"

_IMAGENET_CLASSES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Distinct names of all classes, and their source in words."""

    names: tuple[str, ...]
    source: str


def choose(given: tuple[str, ...] | str | None, num_classes: int, class_names: tuple[str, ...] | None = None) -> Labels:
    """Return the labels of a network.

    Args:
        given: class names, or `imagenet` (default: those of the weights, else of ImageNet-1k for 1000 classes, else
            numbers).
        num_classes: number of classes.
        class_names: names of the classes in the weights, if known.

    Raises:
        InputError: the number of labels differs from that of the classes, their order from that of the weights, or a
            label is repeated or not a single line.

    >>> choose(None, 2)
    Labels(names=('class 0', 'class 1'), source='class numbers, since no names were given')
    """
    if isinstance(given, tuple):
        names = _checked(given, num_classes)
        check_labels(names, class_names)
        return Labels(names=names, source="provided by the creator of this bundle")
    if given == IMAGENET:
        names = _checked(imagenet_labels(), num_classes)
        check_labels(names, class_names)
        return Labels(names=names, source="ImageNet-1k, as torchvision spells it")
    if class_names is not None:
        return Labels(names=_checked(tuple(class_names), num_classes), source="stored with the weights")
    if num_classes == _IMAGENET_CLASSES:
        source = "ImageNet-1k, as torchvision spells it, assumed for 1000 classes, since no names were given"
        return Labels(names=imagenet_labels(), source=source)
    names = tuple(f"class {number}" for number in range(num_classes))
    return Labels(names=names, source="class numbers, since no names were given")


def _checked(names: tuple[str, ...], num_classes: int) -> tuple[str, ...]:
    check_label_count(names, num_classes)
    if split := [name for name in names if len(name.splitlines()) != 1 or name != name.strip()]:
        raise InputError(f"the label {split[0]!r} is not a single line without leading or trailing spaces; change it")
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"the label {repeated[0]!r} is repeated, but Core ML needs distinct labels; change it")
    return names
