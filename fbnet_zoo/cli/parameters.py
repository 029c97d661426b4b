"""Options that are declared once: as the fields of the record that they end up in."""

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import TYPE_CHECKING, Any, get_type_hints

from typer.core import TyperCommand

from fbnet_zoo.errors import did_you_mean

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def from_records(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command with an option for each field of the dataclasses among its parameters, which typer can read.

    >>> from dataclasses import dataclass
    >>> from typing import Annotated
    >>> import typer
    >>> @dataclass
    ... class Size:
    ...     width: Annotated[int, typer.Option(help="px")] = 1
    >>> @from_records
    ... def draw(size: Size, verbose: bool = False) -> None:
    ...     print(size, verbose)
    >>> list(inspect.signature(draw).parameters)
    ['width', 'verbose']
    >>> draw(width=3, verbose=True)
    Size(width=3) True
    """
    declared = inspect.signature(command).parameters.values()
    records: dict[str, Any] = {each.name: each.annotation for each in declared if is_dataclass(each.annotation)}
    parameters: list[inspect.Parameter] = []
    for each in declared:
        own = _parameters(each.annotation) if each.name in records else [each]
        parameters += (one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own)

    def call(**values: Any) -> None:
        for name, record in records.items():
            values[name] = record(**{each.name: values.pop(each.name) for each in fields(record)})
        command(**values)

    call.__doc__, call.__signature__ = command.__doc__, inspect.Signature(parameters)  # type: ignore[attr-defined]
    return call


def _parameters(record: type) -> list[inspect.Parameter]:
    hints = get_type_hints(record, include_extras=True)
    return [
        inspect.Parameter(
            each.name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=hints[each.name],
            default=inspect.Parameter.empty if each.default is MISSING else each.default,
        )
        for each in fields(record)
    ]


def given(record: "DataclassInstance") -> dict[str, Any]:
    """Return the fields of a record of options that the user gave."""
    values = {each.name: getattr(record, each.name) for each in fields(record)}
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values.items()
        if value is not None and value is not False
    }


def several(**names: Collection[str]) -> type[TyperCommand]:
    """Return the class of a command in which several values may follow one option: `--to onnx coreml`.

    Args:
        names: the values of each such option, by its name; a word that is nearly one is a misspelled value.
    """

    class Command(TyperCommand):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            return super().parse_args(ctx, spread(args, {f"--{name}": known for name, known in names.items()}))

    return Command


def spread(words: Sequence[str], names: Mapping[str, Collection[str]]) -> list[str]:
    """Repeat a flag before each of the values that follow it, since an option accepts one at a time.

    >>> spread(["fbnet_b", "--to", "onnx", "coreml", "fbnet_c", "--seed", "0"], {"--to": ["onnx", "coreml"]})
    ['fbnet_b', '--to', 'onnx', '--to', 'coreml', 'fbnet_c', '--seed', '0']
    """
    result: list[str] = []
    flag, previous = "", ""
    for word in words:
        if previous in names:  # its first value
            result.append(word)
        elif flag and _are_values(word, names[flag]):
            result += [flag, word]
        else:
            option = word.partition("=")[0]
            flag = option if option in names else ""
            result.append(word)
        previous = word
    return result


def _are_values(word: str, known: Collection[str]) -> bool:
    parts = split([word])
    return bool(parts) and all(part in known or (part.isalpha() and did_you_mean(part, known)) for part in parts)


def split(words: Iterable[str] | None) -> list[str]:
    """Split at commas: `["onnx,coreml"]` is `["onnx", "coreml"]`."""
    return [part.strip() for word in words or () for part in word.split(",") if part.strip()]
