"""The registry of search methods, for command line, records and pages; a method is imported when it is used."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from fbnet_zoo.errors import InputError, did_you_mean
from fbnet_zoo.search.config import MethodConfig
from fbnet_zoo.search.evolution import EvolutionConfig
from fbnet_zoo.search.gradient.config import DmaskingConfig, DnasConfig
from fbnet_zoo.search.predictive.config import ChamnetConfig, NarsConfig
from fbnet_zoo.search.random_search import RandomConfig

if TYPE_CHECKING:
    from fbnet_zoo.search.method import Method

AnyConfig = Annotated[
    DnasConfig | DmaskingConfig | RandomConfig | EvolutionConfig | ChamnetConfig | NarsConfig,
    Field(discriminator="method"),
]
"""The configuration of any method, discriminated by `method`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodEntry:
    """A registered method.

    Attributes:
        title: name on pages.
        summary: description in help texts.
        config: configuration class.
        noun: what a history record stands for: `epoch` or `network`.
        home: where the class is defined, `module:class`.
    """

    title: str
    summary: str
    config: type[MethodConfig]
    noun: str
    home: str

    def load(self) -> "Method":
        """Import the method and return an instance."""
        module, name = self.home.split(":")
        return getattr(importlib.import_module(module), name)()


class _Methods(dict[str, MethodEntry]):
    def __missing__(self, name: str) -> MethodEntry:
        hint = did_you_mean(name, self) or f"; expected {', '.join(self)}"
        raise InputError(f"no search method is named {name!r}{hint}")


METHODS: Mapping[str, MethodEntry] = _Methods(
    dnas=MethodEntry(
        title="DNAS, the stochastic supernet of FBNet",
        summary="a block for each layer, by gradients on a supernet (FBNet)",
        config=DnasConfig,
        noun="epoch",
        home="fbnet_zoo.search.dnas.method:Dnas",
    ),
    dmasking=MethodEntry(
        title="DMaskingNAS, the masked supernet of FBNetV2",
        summary="channels, expansions and image size as well, by masks (FBNetV2)",
        config=DmaskingConfig,
        noun="epoch",
        home="fbnet_zoo.search.dmasking.method:Dmasking",
    ),
    random=MethodEntry(
        title="random search",
        summary="the best of networks drawn at random",
        config=RandomConfig,
        noun="network",
        home="fbnet_zoo.search.random_search:RandomSearch",
    ),
    evolution=MethodEntry(
        title="regularized evolution",
        summary="mutations of good networks; the oldest is dropped (Real et al.)",
        config=EvolutionConfig,
        noun="network",
        home="fbnet_zoo.search.evolution:Evolution",
    ),
    chamnet=MethodEntry(
        title="ChamNet's search, by a Gaussian process",
        summary="networks that a predictor of accuracy proposes, batch by batch (ChamNet)",
        config=ChamnetConfig,
        noun="network",
        home="fbnet_zoo.search.predictive.method:Chamnet",
    ),
    nars=MethodEntry(
        title="NARS, the joint search of FBNetV3",
        summary="architecture and training recipe together, by a pretrained predictor (FBNetV3)",
        config=NarsConfig,
        noun="network",
        home="fbnet_zoo.search.predictive.method:Nars",
    ),
)
