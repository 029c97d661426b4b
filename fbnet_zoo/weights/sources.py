"""Where a checkpoint comes from, as users and definitions write it; the only place that parses such text."""

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from fbnet_zoo.errors import InputError

SAFETENSORS = ".safetensors"
"""Suffix of files with nothing but tensors and text."""

_HUB = re.compile(r"hf://(?P<repository>[^/\s]+/[^/\s]+)(?:/(?P<file>\S+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsSource:
    """A source of weights.

    Attributes:
        text: the source as it was written.
        kind: `hub` for a repository of the Hugging Face Hub, `url` for a file on a server, `local` for a tag or a path.
        repository: `owner/name` on the Hub.
        file: file in the repository; empty if the address names none.
    """

    text: str
    kind: Literal["hub", "url", "local"]
    repository: str = ""
    file: str = ""

    @classmethod
    def parse(cls, text: str) -> "WeightsSource":
        """Return the source that a text names.

        Raises:
            InputError: the text is neither a tag, a path nor a valid address.

        >>> WeightsSource.parse("hf://timm/fbnetc_100.rmsp_in1k").repository
        'timm/fbnetc_100.rmsp_in1k'
        >>> WeightsSource.parse("weights/model.pth").kind
        'local'
        """
        if "://" not in text:
            return cls(text=text, kind="local")
        if match := _HUB.fullmatch(text):
            return cls(text=text, kind="hub", repository=match["repository"], file=match["file"] or "")
        if not _is_url(text):
            expected = "hf://owner/repository[/file] or https://…"
            raise InputError(f"{text!r} is not a valid address of weights; expected {expected}")
        return cls(text=text, kind="url")


def _is_url(text: str) -> bool:
    """Return whether a text is an address of a server: its brackets match, and its port is a number in range."""
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0 and text.isprintable()
    except ValueError:
        return False
