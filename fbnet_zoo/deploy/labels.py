"""The names of the classes that a bundle carries."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from fbnet_zoo.data import imagenet_labels
from fbnet_zoo.errors import InputError

IMAGENET: Literal["imagenet"] = "imagenet"

_IMAGENET_CLASSES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Distinct names of all classes, and where they are from, in words."""

    names: tuple[str, ...]
    source: str


def choose(given: tuple[str, ...] | str | None, num_classes: int) -> Labels:
    """Return the labels of a network.

    Args:
        given: the user's own; `imagenet`; `None` takes those of ImageNet-1k for 1000 classes, else numbers.
        num_classes: how many are needed.

    Raises:
        InputError: their number is not that of the classes, two of them are equal, or one is not a line of text.

    >>> choose(None, 2)
    Labels(names=('class 0', 'class 1'), source='the numbers of the classes, since no names were given')
    """
    if isinstance(given, tuple):
        return Labels(names=_checked(given, num_classes), source="given by whoever made this bundle")
    if given == IMAGENET:
        return Labels(names=_checked(imagenet_labels(), num_classes), source="ImageNet-1k, as torchvision spells it")
    if num_classes == _IMAGENET_CLASSES:
        source = "ImageNet-1k, as torchvision spells it, since there are 1000 classes and no names were given"
        return Labels(names=imagenet_labels(), source=source)
    names = tuple(f"class {number}" for number in range(num_classes))
    return Labels(names=names, source="the numbers of the classes, since no names were given")


def _checked(names: tuple[str, ...], num_classes: int) -> tuple[str, ...]:
    if len(names) != num_classes:
        raise InputError(f"there are {len(names)} labels for {num_classes} classes; give one per class")
    if split := [name for name in names if len(name.splitlines()) != 1 or name != name.strip()]:
        raise InputError(f"the label {split[0]!r} is not one line of text without spaces around it; change it")
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"the label {repeated[0]!r} occurs more than once, but Core ML needs distinct ones; change it")
    return names
