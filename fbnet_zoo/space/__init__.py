"""Search spaces as data: definitions whose rows leave values open.

`Space.encode`, `decode` and `sample` convert between networks and choices; `places` and `operators` give the parts of
a supernet and of a latency table.
"""

from fbnet_zoo.space.choices import Choices, LayerChoice
from fbnet_zoo.space.files import list_spaces, load_space
from fbnet_zoo.space.places import Place, PlacedBlock
from fbnet_zoo.space.space import Space

__all__ = ["Choices", "LayerChoice", "Place", "PlacedBlock", "Space", "list_spaces", "load_space"]
