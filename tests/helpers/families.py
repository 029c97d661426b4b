"""Which networks of the zoo a test takes: all of them, few that have everything, or the smallest of each family."""

from typing import Any

import pytest

from fbnet_zoo.registry import get_spec, list_models

FEW = ["fbnet_96", "fbnet_a_2019", "chamnet_f", "fbnetv2_f1", "fbnetv3_a0", "fbnetv3_a_gpu", "mobilenet_v3_small"]
"""Of each kind of block, layer and head one, at least."""


def all_or_few() -> list[Any]:
    """Return all names as parameters of a test that takes long: all but `FEW` are slow."""
    return [pytest.param(name, marks=() if name in FEW else pytest.mark.slow) for name in list_models()]


def smallest_of_each() -> list[str]:
    """Return the name of the cheapest entry of each family of the zoo."""
    cheapest: dict[str, tuple[int, str]] = {}
    for name in list_models():
        spec = get_spec(name)
        assert spec.counts is not None
        cost = (spec.counts.macs, name)
        cheapest[spec.family] = min(cheapest.get(spec.family, cost), cost)
    return [name for _, name in cheapest.values()]
