"""Code that runs a converted file in an app: templates, rendered with values from the file's manifest."""

import re
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
    """Render a template of this package, `<name>.jinja`; in Markdown, text in values has no effect on the layout."""
    return _environment(name.endswith(".md")).get_template(name + _SUFFIX).render(values)


def markdown(value: object) -> object:
    r"""Return text that Markdown and HTML show as it is, on one line; other values unchanged.

    >>> markdown("<script> | a*b*")
    '&lt;script&gt; \\| a\\*b\\*'
    """
    if not isinstance(value, str) or isinstance(value, Code):
        return value
    line = " ".join(value.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"[\\`*\[\]|]|(?<!\w)_|_(?!\w)", r"\\\g<0>", line)


class Code(str):
    """Text that is code in Markdown already."""

    __slots__ = ()


def code(text: object) -> Code:
    r"""Return text as code in Markdown, also in a table.

    >>> print(code("a|b`c"))
    ``a\|b`c``
    """
    line = " ".join(str(text).split()).replace("|", r"\|")
    fence = "`" * (1 + max((len(each) for each in re.findall("`+", line)), default=0))
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return Code(f"{fence}{pad}{line}{pad}{fence}")


@cache
def _environment(in_markdown: bool) -> jinja2.Environment:
    folder = files("fbnet_zoo.deploy") / "templates"
    environment = jinja2.Environment(  # noqa: S701  not only HTML, and all values are trusted
        loader=jinja2.FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8")),
        undefined=jinja2.StrictUndefined,
        finalize=markdown if in_markdown else None,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = code
    environment.filters["one_line"] = lambda text: " ".join(text.split())
    environment.filters["suffixed"] = lambda text, suffix: text + suffix
    return environment
