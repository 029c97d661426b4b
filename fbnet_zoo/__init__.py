"""fbnet_zoo: the FBNet family as data, as PyTorch models and as files for phones.

>>> import fbnet_zoo
>>> fbnet_zoo.get_spec("fbnet_b").input_size
224
"""

from typing import TYPE_CHECKING

from fbnet_zoo._lazy import public_names

if TYPE_CHECKING:
    from fbnet_zoo.complexity import Cost, cost
    from fbnet_zoo.converters.conversion import convert
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

__getattr__, __dir__ = public_names(
    __name__,
    complexity=("Cost", "cost"),
    converters=("convert",),
    errors=("FbnetZooError",),
    registry=("get_spec", "list_models", "register"),
    spec=("ArchSpec",),
    zoo=("create", "install", "transforms"),
)
