"""Damage to files, always the same: the ways of the run folder, and random changes from a seed."""

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

BOM = b"\xef\xbb\xbf"

ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 0.5, 10**30, 1e300, float("nan"), float("inf")),
    *("", "nan", "../outside", "/etc/passwd", "\x1b[31m", "9" * 5000, "ä" * 300),
    *([], [[]], {}, {"": None}, [1, "a"]),
)
"""Values that are rarely right."""

_WORDS = (b"NaN", b"-1", b"1e999", b"1.2.3", b"null", b'"', b"{", b"[", b"]]", b",", b":", b"\n", b"\0", b"\xff", BOM)


def places(content: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of every value inside a JSON value."""
    keys = content.keys() if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ()
    for key in keys:
        yield (*at, key)
        yield from places(content[key], (*at, key))


def changed(content: Any, place: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    """Return a copy of a JSON value, changed by a function of the container and the key of a place."""
    copy = json.loads(json.dumps(content))
    inner = copy
    for key in place[:-1]:
        inner = inner[key]
    change(inner, place[-1])
    return copy


def _put(value: Any) -> Callable[[Any, Any], None]:
    return lambda container, key: container.__setitem__(key, value)


def _drop(container: Any, key: Any) -> None:
    del container[key]


def odd_json(content: Any, seed: int, count: int) -> Iterator[tuple[str, Any]]:
    """Yield JSON values with one odd or missing part each, and what was changed."""
    generator, known = random.Random(seed), list(places(content))
    for _ in range(count if known else 0):
        place = generator.choice(known)
        value = generator.choice((*ODD, _drop))
        change = _drop if value is _drop else _put(value)
        told = f"{'.'.join(map(str, place))} {'dropped' if value is _drop else repr(value)[:30]}"
        yield told, changed(content, place, change)


def odd_bytes(content: bytes, seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Yield bytes that were cut, repeated, flipped, or got a word put in, and what was changed."""
    generator = random.Random(seed)
    for _ in range(count):
        at, size = generator.randrange(len(content) + 1), generator.randrange(1, 20)
        kind = generator.choice(("cut", "repeat", "flip", "word", "end"))
        before, piece, after = content[:at], content[at : at + size], content[at + size :]
        middle = {
            "cut": b"",
            "repeat": piece * 2,
            "flip": bytes(byte ^ 1 << generator.randrange(8) for byte in piece),
            "word": generator.choice(_WORDS),
            "end": b"",
        }[kind]
        yield f"{kind} at {at}", before + middle + (b"" if kind == "end" else after)
