"""Search spaces as data: a definition whose rows leave values open, and the networks that it holds.

`Space.encode`, `decode` and `sample` go between networks and choices; `places` and `operators` tell what a supernet
and a latency table of the space are made of.
"""

from fbnet_zoo.space.choices import Choices, LayerChoice
from fbnet_zoo.space.files import list_spaces, load_space
from fbnet_zoo.space.places import Place, PlacedBlock
from fbnet_zoo.space.space import Space

__all__ = ["Choices", "LayerChoice", "Place", "PlacedBlock", "Space", "list_spaces", "load_space"]
