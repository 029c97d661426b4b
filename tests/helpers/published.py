"""Definitions with published weights, and how a test expects them to be unavailable."""

import pytest

import fbnet_zoo
from fbnet_zoo.errors import WeightsUnavailableError
from fbnet_zoo.spec import ArchSpec, WeightsSpec
from tests.helpers.paths import TINY


def entry(address: str, tiny_spec: ArchSpec, **known: object) -> ArchSpec:
    """The tiny definition with one published checkpoint, at an address of the test server."""
    published = WeightsSpec(tag="a", source="https://example.org/a", layout="fbnet_zoo", license="MIT")
    return tiny_spec.model_copy(update={"weights": (published.model_copy(update={"source": address, **known}),)})


def assert_unavailable(address: str, message: str) -> None:
    with pytest.raises(WeightsUnavailableError, match=message) as caught:
        fbnet_zoo.create(TINY, address)
    assert str(caught.value).startswith(address.removesuffix("/other.bin").removesuffix("/a.bin"))
    assert "\n" not in str(caught.value)
