"""Times, energies and counts, from text such as `5ms`, `12mJ` and `300M`."""

import math
import re
from collections.abc import Callable, Mapping

from fbnet_zoo.errors import InputError

_MILLISECONDS = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}
_MILLIJOULES = {"uJ": 1e-3, "µJ": 1e-3, "mJ": 1.0, "J": 1e3}
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}
_COUNTS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}


def milliseconds(text: str) -> float:
    """Return a time in ms.

    Raises:
        InputError: the text is not a positive time.

    >>> milliseconds("5ms"), milliseconds("800 us"), milliseconds("0.5s")
    (5.0, 0.8, 500.0)
    """
    return _quantity(text, _MILLISECONDS, "a time, such as 5ms, 800us or 0.5s")


def millijoules(text: str) -> float:
    """Return an energy in mJ.

    Raises:
        InputError: the text is not a positive energy.

    >>> millijoules("12mJ"), millijoules("800 uJ"), millijoules("0.5J")
    (12.0, 0.8, 500.0)
    """
    return _quantity(text, _MILLIJOULES, "an energy, such as 12mJ, 800uJ or 0.5J")


def seconds(text: str) -> float:
    """Return a long time, seconds.

    Raises:
        InputError: the text is not a positive time.

    >>> seconds("90s"), seconds("20min"), seconds("1.5 h")
    (90.0, 1200.0, 5400.0)
    """
    return _quantity(text, _SECONDS, "a time, such as 90s, 20min or 2h")


def count(text: str) -> float:
    """Return a count.

    Raises:
        InputError: the text is not a positive number.

    >>> count("300M"), count("4.5k"), count("120")
    (300000000.0, 4500.0, 120.0)
    """
    return _quantity(text, _COUNTS, "a number, such as 300M, 1.2G or 5000")


READERS: Mapping[str, Callable[[str], float]] = {"ms": milliseconds, "mJ": millijoules}
"""Unit of a cost to the function that reads its values; those of other costs are counts."""


def _quantity(text: str, units: Mapping[str, float], expected: str) -> float:
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([^0-9]*?)\s*", text)
    if match and match[2] not in units:
        raise InputError(f"{text!r} {_unit_problem(match[1], match[2], units)}; expected {expected}")
    value = float(match[1]) * units[match[2]] if match else 0.0
    if not 0 < value < math.inf:
        raise InputError(f"{text!r} is not a positive quantity; expected {expected}")
    return value


def _unit_problem(number: str, unit: str, units: Mapping[str, float]) -> str:
    known = " or ".join(filter(None, units))
    if not unit:
        return f"has no unit, which is {known}"
    meant = next((each for each in units if each.lower() == unit.lower()), None)
    return f"has the unit {unit!r}, which is not {known}" + (f": write {number}{meant}" if meant else "")
