"""Lazy public names: imported at first use, so that importing the package itself is fast."""

import importlib
import sys
from collections.abc import Callable
from typing import Any


def public_names(package: str, **homes: tuple[str, ...]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` for a package whose public names are defined in its modules.

    Args:
        package: `__name__` of the package.
        homes: module of the package to the public names that it defines.

    >>> get, names = public_names("fbnet_zoo.space", choices=("Choices",))
    >>> get("Choices").__name__
    'Choices'
    """
    modules = {name: module for module, names in homes.items() for name in names}

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{modules[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted({*vars(sys.modules[package]), *modules})
