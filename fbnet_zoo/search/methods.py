"""The methods of search: one table for the command line, records and pages. A method is imported when it is used."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from fbnet_zoo.search.config import MethodConfig
from fbnet_zoo.search.evolution import EvolutionConfig
from fbnet_zoo.search.gradient.config import DmaskingConfig, DnasConfig
from fbnet_zoo.search.random_search import RandomConfig

if TYPE_CHECKING:
    from fbnet_zoo.search.method import Method

AnyConfig = Annotated[DnasConfig | DmaskingConfig | RandomConfig | EvolutionConfig, Field(discriminator="method")]
"""The configuration of any method, told apart by its `method`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodEntry:
    """A method.

    Attributes:
        title: for pages.
        summary: for help texts.
        config: class of its configuration.
        noun: what its history has a record for: `epoch`, or `network`.
        home: module and class, `module:class`.
    """

    title: str
    summary: str
    config: type[MethodConfig]
    noun: str
    home: str

    def load(self) -> "Method":
        """Import the method."""
        module, name = self.home.split(":")
        return getattr(importlib.import_module(module), name)()


METHODS: Mapping[str, MethodEntry] = {
    "dnas": MethodEntry(
        title="DNAS, the stochastic supernet of FBNet",
        summary="a block for each layer, by a supernet and gradients (FBNet)",
        config=DnasConfig,
        noun="epoch",
        home="fbnet_zoo.search.dnas.method:Dnas",
    ),
    "dmasking": MethodEntry(
        title="DMaskingNAS, the masked supernet of FBNetV2",
        summary="channels, expansions and image size as well, by masks (FBNetV2)",
        config=DmaskingConfig,
        noun="epoch",
        home="fbnet_zoo.search.dmasking.method:Dmasking",
    ),
    "random": MethodEntry(
        title="random search",
        summary="the best of networks drawn at random",
        config=RandomConfig,
        noun="network",
        home="fbnet_zoo.search.random_search:RandomSearch",
    ),
    "evolution": MethodEntry(
        title="regularized evolution",
        summary="mutations of the best of a population, whose oldest network goes (Real et al.)",
        config=EvolutionConfig,
        noun="network",
        home="fbnet_zoo.search.evolution:Evolution",
    ),
}
