"""The public names: what they are, that they exist, that they are told."""

import inspect
import subprocess
import sys

import pytest

import fbnet_zoo

EXPECTED = [
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


def test_all_is_the_list_that_is_promised() -> None:
    assert fbnet_zoo.__all__ == EXPECTED


@pytest.mark.parametrize("name", EXPECTED)
def test_public_name_is_documented_and_found_by_dir(name: str) -> None:
    assert inspect.getdoc(getattr(fbnet_zoo, name))
    assert name in dir(fbnet_zoo)


def test_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'creat'"):
        fbnet_zoo.creat  # noqa: B018


def test_import_pulls_in_nothing_heavy() -> None:
    heavy = ["torch", "torchvision", "onnx", "coremltools", "executorch", "pydantic", "yaml"]
    code = f"import sys, fbnet_zoo; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
