"""fbnet_zoo: the FBNet family as data, as PyTorch models and as files for phones.

>>> import fbnet_zoo
>>> fbnet_zoo.get_spec("fbnet_b").input_size
224
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fbnet_zoo.complexity import Cost, cost
    from fbnet_zoo.converters.convert import convert
    from fbnet_zoo.errors import FbnetZooError
    from fbnet_zoo.registry import get_spec, list_models, register
    from fbnet_zoo.spec import ArchSpec
    from fbnet_zoo.zoo import create, install, transforms

__version__ = "0.1.0"

__all__ = [
    "ArchSpec",
    "Cost",
    "FbnetZooError",
    "convert",
    "cost",
    "create",
    "get_spec",
    "install",
    "list_models",
    "register",
    "transforms",
]

_HOMES = {
    "ArchSpec": "spec",
    "Cost": "complexity",
    "FbnetZooError": "errors",
    "convert": "converters.convert",
    "cost": "complexity",
    "create": "zoo",
    "get_spec": "registry",
    "install": "zoo",
    "list_models": "registry",
    "register": "registry",
    "transforms": "zoo",
}
"""Public name to its module, which is imported at first use, so that `import fbnet_zoo` takes no time."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
