"""Search spaces as data: definitions whose rows leave values open.

`Space.encode`, `decode` and `sample` convert between networks and choices; `places` and `operators` give the parts of
a supernet and of a latency table.
"""

from typing import TYPE_CHECKING

from fbnet_zoo._lazy import public_names

if TYPE_CHECKING:
    from fbnet_zoo.space.choices import Choices, LayerChoice
    from fbnet_zoo.space.encoding import Decision, Encoding, Population, Positions
    from fbnet_zoo.space.files import list_spaces, load_space
    from fbnet_zoo.space.operators import space_operators
    from fbnet_zoo.space.places import Place, PlacedBlock
    from fbnet_zoo.space.space import Space

__all__ = [
    "Choices",
    "Decision",
    "Encoding",
    "LayerChoice",
    "Place",
    "PlacedBlock",
    "Population",
    "Positions",
    "Space",
    "list_spaces",
    "load_space",
    "space_operators",
]

__getattr__, __dir__ = public_names(
    __name__,
    choices=(
        "Choices",
        "LayerChoice",
    ),
    encoding=(
        "Decision",
        "Encoding",
        "Population",
        "Positions",
    ),
    files=(
        "list_spaces",
        "load_space",
    ),
    operators=("space_operators",),
    places=(
        "Place",
        "PlacedBlock",
    ),
    space=("Space",),
)
