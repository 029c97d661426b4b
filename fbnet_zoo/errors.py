"""Every exception that fbnet_zoo raises deliberately.

```
FbnetZooError
├── InputError (ValueError)           a value, file or option from the user
│   ├── DefinitionError               an architecture definition, with file and line
│   └── UnknownNameError (KeyError)   a model, weights tag or target that does not exist
├── WeightsError                      a checkpoint that does not fit or cannot be read
│   └── WeightsUnavailableError       a checkpoint that cannot be downloaded, or is missing from its folder
├── TrainingError                     a training that cannot continue
├── ConversionError                   a model that could not be written in a format
│   └── ParityError                   a file that does not compute what the model computes
├── DeviceError                       a device that could not be measured on
│   ├── DeviceUnavailableError        no adb, no such device, or no access to it
│   ├── DeviceLostError               the connection to a device broke twice
│   ├── DeviceTimeoutError            something on a device did not end in time
│   ├── DeviceStorageError            a file that a device could not store, or that arrived damaged
│   └── RunnerError                   the program that runs models on a device failed
│       ├── RunnerUnusableError       it does not start, lacks an option or prints nothing
│       ├── RunnerInputError          its command line, its inputs or a path is wrong
│       ├── MissingBackendError       it lacks the backend that the model was lowered to
│       ├── MissingKernelError        it lacks an operator of the model
│       └── ModelFileError            the model file is damaged, or has another format
└── MissingExtraError (ImportError)   an optional library is not installed
```
"""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class FbnetZooError(Exception):
    """Base of all errors of this package; the text is one sentence for the user."""

    def __str__(self) -> str:
        return " ".join(str(arg) for arg in self.args)


class InputError(FbnetZooError, ValueError):
    """A value, file or option from the user is wrong.

    Attributes:
        location: keys and positions of the value in its record; empty for a value outside records.
    """

    def __init__(self, *args: object, location: tuple[str | int, ...] = ()) -> None:
        super().__init__(*args)
        self.location = location


class DefinitionError(InputError):
    """An architecture definition is wrong; the text starts with `file:line:`."""


class UnknownNameError(InputError, KeyError):
    """A model, weights tag or target does not exist."""


class WeightsError(FbnetZooError):
    """A checkpoint does not fit the network, is damaged or unavailable."""


class WeightsUnavailableError(WeightsError):
    """A checkpoint cannot be downloaded, or is missing from the folder of its definition."""


class TrainingError(FbnetZooError):
    """A training cannot continue: its loss or its weights are NaN or infinite."""


class ConversionError(FbnetZooError):
    """A model could not be written in a format."""


class ParityError(ConversionError):
    """A converted file does not compute what the PyTorch model computes."""


class DeviceError(FbnetZooError):
    """A device could not be measured on."""


class DeviceUnavailableError(DeviceError):
    """There is no adb, no such device, or no access to it; nothing was started on it."""


class DeviceLostError(DeviceError):
    """The connection to a device broke, and broke again after it was restored once."""


class DeviceTimeoutError(DeviceError):
    """Something on a device did not end in time."""


class DeviceStorageError(DeviceError):
    """A device could not store a file, or the file arrived damaged."""


class EnergyUnavailableError(DeviceError):
    """A device reports no energy, or none that can be trusted at the moment."""


class RunnerError(DeviceError):
    """The program that runs models on a device failed."""


class RunnerUnusableError(RunnerError):
    """The program does not start on the device, lacks an option or prints nothing."""


class RunnerInputError(RunnerError):
    """The program cannot use its command line, its inputs or a path."""


class MissingBackendError(RunnerError):
    """The program was built without the backend that the model was lowered to."""


class MissingKernelError(RunnerError):
    """The program was built without an operator of the model."""


class ModelFileError(RunnerError):
    """The model file is damaged, or has a format that the program cannot read."""


class MissingExtraError(FbnetZooError, ImportError):
    """An optional library is not installed; the text names the extra to install."""


@contextmanager
def located(*location: str | int) -> Iterator[None]:
    """Set the `location` of an `InputError` that is raised inside."""
    try:
        yield
    except InputError as error:
        error.location = location
        raise


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


def require_whole(name: str, value: object, *, low: int, high: int) -> None:
    """Check that a value is a whole number from `low` to `high`.

    Raises:
        InputError: the value is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InputError(f"{name} cannot be {value!r}; expected a whole number from {low} to {high}")
