"""Names of classes: they travel with weights and data, and are compared wherever the two meet."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence

from fbnet_zoo.errors import InputError

_LISTED = 5
"""Maximum number of names in a message."""


def require_names(names: Sequence[str], num_classes: int) -> tuple[str, ...]:
    """Return names of classes as a tuple, once they are verified.

    Raises:
        InputError: the number of names is not that of the classes, or they are not distinct texts.

    >>> require_names(["cat", "dog"], 2)
    ('cat', 'dog')
    """
    if isinstance(names, str) or not all(isinstance(name, str) and name for name in names):
        raise InputError(f"class names cannot be {names!r}; expected a sequence of texts, one per class")
    if len(names) != num_classes:
        raise InputError(f"there are {len(names)} class names for {num_classes} classes; expected one per class")
    if repeated := [name for name, times in Counter(names).items() if times > 1]:
        raise InputError(f"the class name {repeated[0]!r} is repeated; expected distinct names")
    return tuple(names)


def to_text(names: Sequence[str]) -> str:
    """Return names as JSON, for the metadata of a file."""
    return json.dumps(names, ensure_ascii=False)


def from_text(text: str, num_classes: int) -> tuple[str, ...]:
    """Return names from the metadata of a file.

    Raises:
        InputError: the text is not a list of distinct names, one per class.
    """
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list):
        raise InputError("class names are not a list; expected JSON such as ['cat', 'dog']")
    return require_names(names, num_classes)


def difference(weights: Sequence[str], data: Sequence[str]) -> str:
    """Return the difference between the class names of weights and of data, in words.

    >>> difference(["a", "b", "c"], ["b", "c", "d"])
    "only the weights have 'a', only the data have 'd'"
    """
    sides = {"weights": sorted(set(weights) - set(data)), "data": sorted(set(data) - set(weights))}
    found = [f"only the {side} have {_listed(names)}" for side, names in sides.items() if names]
    return ", ".join(found) or "the order differs"


def _listed(names: Sequence[str]) -> str:
    """Return names as a short list.

    >>> _listed("abcdefg")
    "'a', 'b', 'c', 'd', 'e' and 2 more"
    """
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(map(repr, names[:_LISTED])) + more


def check_label_count(labels: Sequence[str], num_classes: int) -> None:
    """Raise `InputError` unless there is one label per class."""
    if len(labels) != num_classes:
        raise InputError(f"{len(labels)} labels for {num_classes} classes; expected one per class")


def check_labels(labels: Sequence[str], names: Sequence[str] | None) -> None:
    """Refuse labels in an order other than that of the classes; labels may rename classes.

    Args:
        labels: labels from the user, one per class.
        names: names of the classes, if known.

    Raises:
        InputError: a label is the name of another class.
    """
    places = {name: index for index, name in enumerate(names or ())}
    for index, label in enumerate(labels):
        if places.get(label, index) != index:
            raise InputError(
                f"label {index} is {label!r}, which the weights have as class {places[label]}; give the labels in the "
                f"order of the weights, {_listed(list(names or ()))}, or omit them"
            )


def in_order(names: Iterable[str]) -> list[str]:
    """Return names of folders in the order of their classes: whole numbers by value, other names alphabetically.

    >>> in_order(["10", "9", "0"]), in_order(["10", "9", "b"])
    (['0', '9', '10'], ['10', '9', 'b'])
    """
    found = list(names)
    numbered = all(name.isascii() and name.isdecimal() for name in found)
    return sorted(found, key=lambda name: (int(name), name)) if numbered else sorted(found)
