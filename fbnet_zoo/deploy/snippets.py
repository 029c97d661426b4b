"""Code that runs a converted file in an app: templates, filled with what the file's manifest says."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2

import fbnet_zoo
from fbnet_zoo.converters.manifest import Manifest
from fbnet_zoo.errors import InputError

_SUFFIX = ".jinja"
_DIGITS = 16
"""Of a digest, where it only tells one file from the next version of it."""


def render(snippet: str, manifest: Manifest, *, classes: int) -> str:
    """Return a snippet for a converted file.

    Args:
        snippet: its name; `<snippet>.jinja` is a template of this package.
        manifest: of the file.
        classes: how many scores it puts out.

    Raises:
        InputError: the file does not take one colour image.
    """
    (image,), preprocess = manifest.inputs, manifest.preprocess
    square = (preprocess.crop, preprocess.crop)
    if image.shape not in {(1, 3, *square), (*square, 3)}:
        raise InputError(f"{manifest.file.file} takes {image.shape}; there are snippets for one colour image only")
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
        },
    )


def fill(name: str, values: Mapping[str, Any]) -> str:
    """Return a template of this package, `<name>.jinja`, with its values."""
    return _environment().get_template(name + _SUFFIX).render(values)


@cache
def _environment() -> jinja2.Environment:
    folder = files("fbnet_zoo.deploy") / "templates"
    environment = jinja2.Environment(  # noqa: S701  not HTML alone, and no value comes from a stranger
        loader=jinja2.FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8")),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["suffixed"] = lambda text, suffix: text + suffix
    return environment
