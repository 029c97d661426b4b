"""The sizes up to which work is accepted, all in one place; they are checked before anything is allocated.

They protect from typing errors and hostile files, and can be raised: the variable `FBNET_ZOO_LIMITS` of the environment
has new values by name, such as `params=2e9,rows=1000000`. What is within the limits may still not fit into the memory
of a machine; `memory_error` recognizes that.
"""

import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from fbnet_zoo.errors import InputError, did_you_mean

VARIABLE = "FBNET_ZOO_LIMITS"

ItemT = TypeVar("ItemT")


class Limit(NamedTuple):
    """The largest accepted number of something: its default, its unit, and what is counted."""

    default: int
    unit: str
    what: str


LIMITS: Mapping[str, Limit] = MappingProxyType(
    {
        "params": Limit(1_000_000_000, "parameters", "parameters of a network or a supernet"),
        "activations": Limit(4_000_000_000, "activation values", "values in the output of a layer, over a batch"),
        "blocks": Limit(1_024, "blocks", "blocks of a network"),
        "layers": Limit(256, "layers", "layers of a search space"),
        "options": Limit(256, "options", "options of one value of a search space"),
        "candidates": Limit(200_000, "blocks", "blocks of a search space, in all channels and expansions"),
        "rows": Limit(500_000, "rows", "rows of a table or lines of a text file"),
        "file_bytes": Limit(64_000_000, "bytes", "size of a table, a record or a text file"),
        "download_bytes": Limit(4_000_000_000, "bytes", "size of a download from a plain URL"),
        "threads": Limit(1_024, "threads", "threads of a run or a training"),
        "batch": Limit(65_536, "images in a batch", "images in a batch"),
    }
)
"""The limits by name."""

_MEMORY = re.compile(
    r"out of memory|(can't|cannot|failed to|unable to) allocate|bad.alloc|storage size calculation overflowed",
    re.IGNORECASE,
)
_BYTES = re.compile(r"allocate (\d+) bytes|allocate ([\d.]+ [KMGTPE]iB)")


def limit(name: str) -> int:
    """Return the limit with a name.

    Raises:
        InputError: the variable `FBNET_ZOO_LIMITS` is not valid.

    >>> limit("blocks")
    1024
    """
    return _limits(os.environ.get(VARIABLE, ""))[name]


def check(name: str, value: int, subject: str) -> None:
    """Check that a number is within a limit.

    Args:
        name: name of the limit.
        value: the number.
        subject: start of the sentence, up to the number.

    Raises:
        InputError: the number is too large.

    >>> check("blocks", 4096, "the network has")
    Traceback (most recent call last):
    ...
    fbnet_zoo.errors.InputError: the network has 4,096 blocks; expected at most 1,024, a limit that ...
    """
    if value > (largest := limit(name)):
        raise InputError(
            f"{subject} {value:,} {LIMITS[name].unit}; expected at most {largest:,}, a limit that protects this "
            f"machine and can be raised with {VARIABLE}={name}={value}"
        )


def within(name: str) -> Callable[[int | None], int | None]:
    """Return a function that returns its argument if that is within a limit, for options and fields of records."""

    def validate(value: int | None) -> int | None:
        if value is not None:
            check(name, value, "there are")
        return value

    return validate


def checked(items: Iterable[ItemT], name: str, subject: str) -> Iterator[ItemT]:
    """Yield items up to a limit on their number.

    Raises:
        InputError: there are more.
    """
    for number, item in enumerate(items, start=1):
        check(name, number, subject)
        yield item


def read_bytes(path: Path) -> bytes:
    """Return the content of a text file; also of a pipe, which has no size beforehand.

    Raises:
        InputError: the file is larger than the limit `file_bytes`.
        OSError: the file cannot be read.
    """
    check("file_bytes", path.stat().st_size, f"{path} has")
    with path.open("rb") as file:
        content = file.read() if path.is_file() else file.read(limit("file_bytes") + 1)
    check("file_bytes", len(content), f"{path} has at least")
    return content


def memory_error(error: BaseException) -> str | None:
    """Return a sentence about an error of an allocator: Python's, NumPy's or PyTorch's; `None` for any other error.

    >>> memory_error(MemoryError())
    'there is not enough memory; use a smaller network, image size or batch, or a machine with more memory'
    >>> memory_error(ValueError("a typing error")) is None
    True
    """
    each: BaseException | None = error
    while each is not None:
        if isinstance(each, MemoryError) or (isinstance(each, RuntimeError) and _MEMORY.search(str(each))):
            found = _BYTES.search(str(each))
            size = f" for {_readable(found)}" if found else ""
            return (
                f"there is not enough memory{size}; use a smaller network, image size or batch, or a machine with more "
                "memory"
            )
        each = each.__cause__
    return None


def _readable(found: re.Match[str]) -> str:
    return f"{int(found[1]) / 1e9:.3g} GB" if found[1] else found[2]


@functools.cache
def _limits(text: str) -> dict[str, int]:
    limits = {name: each.default for name, each in LIMITS.items()}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = (part.strip() for part in entry.partition("="))
        if name not in LIMITS:
            hint = did_you_mean(name, LIMITS) or f"; expected {', '.join(LIMITS)}"
            raise InputError(f"the variable {VARIABLE} names the unknown limit {name!r}{hint}")
        if not re.fullmatch(r"\d{1,18}|\d(\.\d+)?e\d{1,2}", value) or float(value) < 1:
            raise InputError(
                f"the variable {VARIABLE} sets {name} to {value!r}; expected a number, such as 5000000 or 5e6"
            )
        limits[name] = int(float(value)) if "e" in value else int(value)
    return limits
