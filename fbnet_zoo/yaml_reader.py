"""YAML text to plain data with line numbers, and from there to a record, with errors worth reading.

The text is read event by event with the safe loader's scalar rules: size and nesting are limited,
anchors and tags are refused, a doubled key is an error (PyYAML would keep the last).
"""

import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from fbnet_zoo.errors import DefinitionError, InputError, did_you_mean

MAX_BYTES = 256 * 1024
MAX_DEPTH = 12

RecordT = TypeVar("RecordT", bound=BaseModel)
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Scalar = str | int | float | bool | None


@dataclass(slots=True)
class Node:
    """A value of a YAML document and the line (1-based) it starts at."""

    value: "_Scalar | dict[str | int, Node] | list[Node]"
    line: int

    def plain(self) -> Any:
        """Return the value without lines; sequences become tuples."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return tuple(child.plain() for child in self.value)
        return self.value


def load_text(path: Path) -> str:
    """Read a small UTF-8 file.

    Raises:
        InputError: the file cannot be read.
        DefinitionError: it is too large or no text.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DefinitionError(f"{path}:1: larger than {MAX_BYTES // 1024} KiB, which no definition is; check the path")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DefinitionError(f"{path}:1: not UTF-8 text (byte {error.start}); expected a YAML definition") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; expected a YAML definition") from error


def read(text: str, origin: str) -> Node:
    """Read one YAML document whose root is a mapping; `origin` names it in errors.

    Raises:
        DefinitionError: the text is not such a document, or is over a limit.
    """
    if len(text) > MAX_BYTES:
        raise DefinitionError(f"{origin}:1: larger than {MAX_BYTES // 1024} KiB, which no definition is")
    try:
        root = _Reader(origin).read(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        _fail(origin, mark.line + 1 if mark else 1, f"not valid YAML: {error.problem or error.context}")
    except yaml.YAMLError as error:
        _fail(origin, 1, f"not valid YAML: {str(error).splitlines()[0]}")
    if root is None or not isinstance(root.value, dict):
        _fail(origin, 1, "expected a mapping of keys such as 'name', 'stem' and 'stages'")
    return root


def validate(
    record: type[RecordT], data: Mapping[str, Any], root: Node, origin: str, letters: Mapping[str, str]
) -> RecordT:
    """Build a record; the first thing wrong becomes one sentence with file and line.

    Args:
        record: the pydantic model to build.
        data: its fields, made from `root`.
        root: the document, for the line numbers.
        origin: names the document in errors.
        letters: short names of fields, which a document may use.

    Raises:
        DefinitionError: the data do not make a record.
    """
    try:
        return record.model_validate(data)
    except ValidationError as error:
        # The shallowest error is the cause; deeper ones of the same place are its alternatives.
        first = min(error.errors(), key=lambda item: (item["type"] != "extra_forbidden", len(item["loc"])))
        spelled = {field: letter for letter, field in letters.items()}
        problem = _sentence(record, first["type"], first["loc"], first["msg"], first.get("input"), letters)
        raise DefinitionError(f"{origin}:{_line(root, first['loc'], spelled)}: {problem}") from error


class _Reader:
    """Builds nodes from parser events with an explicit stack, so nesting cannot exhaust Python's."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.scalars = yaml.SafeLoader("")
        self.root: Node | None = None
        self.open: list[tuple[Node, Node | None]] = []  # containers, each with the key that waits for a value

    def read(self, text: str) -> Node | None:
        for event in yaml.parse(text, Loader=_Loader):
            line = event.start_mark.line + 1
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                _fail(self.origin, line, "anchors and aliases are not allowed; write the value out")
            if isinstance(event, yaml.ScalarEvent):
                self.add(Node(self.scalar(event, line), line))
            elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                self.start(event, line)
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                self.open.pop()
        return self.root

    def start(self, event: yaml.CollectionStartEvent, line: int) -> None:
        if event.tag is not None:
            _fail(self.origin, line, f"the tag {event.tag!r} is not allowed; a definition is plain data")
        if len(self.open) >= MAX_DEPTH:
            _fail(self.origin, line, f"nested deeper than {MAX_DEPTH} levels, which no definition is")
        node = Node({} if isinstance(event, yaml.MappingStartEvent) else [], line)
        self.add(node)
        self.open.append((node, None))

    def scalar(self, event: yaml.ScalarEvent, line: int) -> _Scalar:
        if event.tag is not None:
            _fail(self.origin, line, f"the tag {event.tag!r} is not allowed; a definition is plain data")
        tag = self.scalars.resolve(yaml.ScalarNode, event.value, event.implicit)
        try:
            value = self.scalars.construct_object(yaml.ScalarNode(tag, event.value))
        except (ValueError, yaml.YAMLError):
            value = event.value
        return value if isinstance(value, str | int | float | bool | None) else event.value

    def add(self, node: Node) -> None:
        if not self.open:
            if self.root is not None:
                _fail(self.origin, node.line, "a second document starts here; a file holds one definition")
            self.root = node
            return
        container, key = self.open[-1]
        if isinstance(container.value, list):
            container.value.append(node)
        elif key is None:
            self.open[-1] = (container, node)
        else:
            self.open[-1] = (container, None)
            self.put(container, key, node)

    def put(self, mapping: Node, key: Node, node: Node) -> None:
        name, entries = key.value, mapping.value
        if not isinstance(name, str | int) or isinstance(name, bool):
            _fail(self.origin, key.line, f"{key.plain()!r} is no key: keys are words (quote it if YAML reads it otherwise)")
        if not isinstance(entries, dict) or name in entries:
            _fail(self.origin, key.line, f"key {name!r} stands twice; keep one")
        entries[name] = Node(node.value, key.line if isinstance(node.value, dict | list) else node.line)


def _fail(origin: str, line: int, problem: str) -> NoReturn:
    raise DefinitionError(f"{origin}:{line}: {problem}")


def _line(root: Node, location: tuple[str | int, ...], spelled: Mapping[str, str]) -> int:
    """Return the line of the deepest part of a pydantic location that the document has."""
    node = root
    for part in location:
        child = None
        if isinstance(node.value, dict):
            child = node.value.get(part) or node.value.get(spelled.get(str(part), ""))
            if child is None and isinstance(part, int) and part < len(node.value):
                child = list(node.value.values())[part]
        elif isinstance(node.value, list) and isinstance(part, int):
            child = node.value[part]
        node = child or node
    return node.line


def _sentence(
    record: type[BaseModel],
    kind: str,
    location: tuple[str | int, ...],
    message: str,
    value: Any,
    letters: Mapping[str, str],
) -> str:
    """Say one pydantic error as a person would."""
    key = next((part for part in reversed(location) if isinstance(part, str)), "")
    if kind == "extra_forbidden":
        known = _fields_at(record, location[:-1])
        known += [letter for letter, field in letters.items() if field in known]
        hint = did_you_mean(key, known) or "; expected one of " + ", ".join(sorted(known))
        return f"unknown key {key!r}{hint}"
    if kind == "missing":
        return f"{key!r} is missing; add it"
    if kind == "value_error":
        return message.removeprefix("Value error, ")
    if kind == "literal_error":
        choices = message.removeprefix("Input should be ")
        near = did_you_mean(str(value), re.findall(r"\w+", choices))
        return f"{key!r} cannot be {value!r}: expected {choices}{near}"
    return f"{key!r} cannot be {value!r}: {message[0].lower()}{message[1:]}"


def _fields_at(record: type[BaseModel], location: tuple[str | int, ...]) -> list[str]:
    for part in location:
        if isinstance(part, str) and part in record.model_fields:
            record = _record_in(record.model_fields[part].annotation) or record
    return list(record.model_fields)


def _record_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, BaseModel) else None
    return next(filter(None, map(_record_in, typing.get_args(annotation))), None)
