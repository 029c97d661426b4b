"""Every exception that fbnet_zoo raises on purpose.

```
FbnetZooError
├── InputError (ValueError)           a value, file or option that the user gave
│   ├── DefinitionError               an architecture definition, with file and line
│   └── UnknownNameError (KeyError)   a model, weights tag or target that does not exist
├── WeightsError                      a checkpoint that does not fit, or cannot be had
├── ConversionError                   a model that could not be written in a format
│   └── ParityError                   a file that does not compute what the model computes
└── MissingExtraError (ImportError)   an optional library is not installed
```
"""

import difflib
from collections.abc import Iterable


class FbnetZooError(Exception):
    """Base of all errors of this package; its text is one sentence for the user."""

    def __str__(self) -> str:
        return " ".join(str(arg) for arg in self.args)


class InputError(FbnetZooError, ValueError):
    """A value, file or option that the user gave is wrong."""


class DefinitionError(InputError):
    """An architecture definition is wrong; the text starts with `file:line:`."""


class UnknownNameError(InputError, KeyError):
    """A model, weights tag or target of that name does not exist."""


class WeightsError(FbnetZooError):
    """A checkpoint does not fit the network, is damaged or cannot be had."""


class ConversionError(FbnetZooError):
    """A model could not be written in a format."""


class ParityError(ConversionError):
    """A converted file does not compute what the PyTorch model computes."""


class MissingExtraError(FbnetZooError, ImportError):
    """An optional library is not installed; the text names the extra to install."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the nearest of `known`, or an empty string.

    >>> did_you_mean("strid", ["stride", "kernel"])
    "; did you mean 'stride'?"
    >>> did_you_mean("zzz", ["stride", "kernel"])
    ''
    """
    candidates = sorted(known)
    by_lower = {name.lower(): name for name in candidates}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.5)
    return f"; did you mean {by_lower[close[0]]!r}?" if close else ""
