"""Code that runs a converted file in an app: templates, rendered with values from the file's manifest."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2

import fbnet_zoo
from fbnet_zoo.converters.manifest import Manifest
from fbnet_zoo.data import FORMATS
from fbnet_zoo.errors import InputError

_SUFFIX = ".jinja"
_DIGITS = 16
"""Digits of a digest that distinguishes versions of a file."""


def render(snippet: str, manifest: Manifest, *, classes: int) -> str:
    """Return a snippet for a converted file.

    Args:
        snippet: name of the snippet; `<snippet>.jinja` is a template of this package.
        manifest: manifest of the file.
        classes: number of scores that the file outputs.

    Raises:
        InputError: the input of the file is not one color image.
    """
    (image,), preprocess = manifest.inputs, manifest.preprocess
    square = (preprocess.crop, preprocess.crop)
    if image.shape not in {(1, 3, *square), (*square, 3)}:
        raise InputError(f"{manifest.file.file}: the input has shape {image.shape}; snippets require one color image")
    return fill(
        snippet,
        {
            "model": manifest.model,
            "precision": manifest.precision,
            "version": fbnet_zoo.__version__,
            "runtime": manifest.versions.get("executorch"),
            "file": manifest.file.file,
            "stem": manifest.file.file.partition(".")[0],
            "digest": manifest.file.sha256[:_DIGITS],
            "input": image.name,
            "output": manifest.outputs[-1].name,
            "classes": classes,
            "size": preprocess.crop,
            "resize": preprocess.resize,
            "interpolation": preprocess.interpolation,
            "order": preprocess.order,
            "mean": preprocess.mean,
            "std": preprocess.std,
            "formats": FORMATS,
        },
    )


def fill(name: str, values: Mapping[str, Any]) -> str:
    """Render a template of this package, `<name>.jinja`."""
    return _environment().get_template(name + _SUFFIX).render(values)


@cache
def _environment() -> jinja2.Environment:
    folder = files("fbnet_zoo.deploy") / "templates"
    environment = jinja2.Environment(  # noqa: S701  not only HTML, and all values are trusted
        loader=jinja2.FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8")),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["suffixed"] = lambda text, suffix: text + suffix
    return environment
