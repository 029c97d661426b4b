"""YAML text to plain data with line numbers, and from there to a record, with errors worth reading.

The text is read event by event: size and nesting are limited; anchors, tags and duplicate keys are errors (PyYAML
would keep the last of two keys). An unquoted word is text, a decimal number, `true`, `false` or `null`, nothing else:
YAML 1.1 would read `n` as a boolean, `3:30` as 210 and `1e-5` as text.
"""

import json
import re
import types
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from fbnet_zoo.errors import DefinitionError, InputError, did_you_mean
from fbnet_zoo.reading import Location, decode

MAX_BYTES = 256 * 1024
MAX_DEPTH = 12

RecordT = TypeVar("RecordT", bound=BaseModel)
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Scalar = str | int | float | bool | None

_WORDS: dict[str, _Scalar] = {"": None, "~": None, "null": None, "true": True, "false": False}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"[-+]?((0|[1-9][0-9]{0,17})(\.[0-9]{0,30})?|\.[0-9]{1,30})([eE][-+]?[0-9]{1,3})?")
_EXPECTED = {
    "model_type": "expected a mapping of keys to values",
    "string_type": "expected text; put it in quotes",
    "int_type": "expected a whole number",
    "float_type": "expected a number",
    "bool_type": "expected true or false",
}
"""Texts for the pydantic error types whose own message is about Python."""

_DEEPER = f"nested deeper than {MAX_DEPTH} levels, the limit for a definition"
_TOO_DEEP = "nesting depth"
"""What PyYAML 6.0.4 says of texts that it does not read to their depth: it looks ahead, and has a limit of its own."""

_QUOTED = re.compile(r"'(\w+)'")
# Control characters, and the line breaks of YAML 1.1 that editors do not count as lines.
_UNREADABLE = re.compile("[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(slots=True)
class Node:
    """A value of a YAML document and the line (1-based) where it, or its key, starts. Keys are text, even `8`."""

    value: "_Scalar | dict[str, Node] | list[Node]"
    line: int

    @property
    def entries(self) -> "dict[str, Node]":
        """Entries of a mapping; none for any other value."""
        return self.value if isinstance(self.value, dict) else {}

    def plain(self) -> Any:
        """Return the value without lines; sequences become tuples."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return tuple(child.plain() for child in self.value)
        return self.value


def load_text(path: Path) -> str:
    """Read a UTF-8 file of at most `MAX_BYTES`, without its byte-order mark.

    Raises:
        InputError: the file cannot be read.
        DefinitionError: the file is too large or not text.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; expected a YAML definition") from error
    _check_length(len(data), str(path))
    try:
        return decode(data, str(path), "a YAML definition")
    except InputError as error:
        raise DefinitionError(str(error)) from error


def read(text: str, origin: str) -> Node:
    """Read one YAML document whose root is a mapping; `origin` is its name in errors.

    Raises:
        DefinitionError: the text is not such a document, or exceeds a limit.
    """
    _check_length(len(text), origin)
    control = _UNREADABLE.search(text)
    if control:
        line = text.count("\n", 0, control.start()) + 1
        fail(origin, line, f"the character {control.group()!r} is not allowed; expected a YAML definition")
    try:
        root = _Reader(origin).read(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = min(mark.line, text.count("\n")) + 1 if mark else 1  # the end of a text may count as a line more
        if _TOO_DEEP in str(error.problem):
            fail(origin, line, _DEEPER)
        fail(origin, line, f"not valid YAML: {error.problem or error.context}")
    if root is None or not isinstance(root.value, dict):
        fail(origin, 1, "expected a mapping of keys such as 'name', 'stem' and 'stages'")
    return root


def _check_length(length: int, origin: str) -> None:
    if length > MAX_BYTES:
        fail(origin, 1, f"larger than {MAX_BYTES // 1024} KiB, the limit for a definition; check the path")


def mapping(node: Node, origin: str, expected: str) -> dict[str, Node]:
    """Return the entries of a mapping; `expected` describes it in the error.

    Raises:
        DefinitionError: the node is not a mapping.
    """
    if not isinstance(node.value, dict):
        fail(origin, node.line, f"expected {expected}")
    return node.value


def validate(
    record: type[RecordT], data: Mapping[str, Any], root: Node, origin: str, letters: Mapping[str, str]
) -> RecordT:
    """Return a record; the first mistake becomes one sentence with file and line.

    Args:
        record: the pydantic model to build.
        data: fields of the record, made from `root`.
        root: the document, for the line numbers.
        origin: name of the document in errors.
        letters: short names of fields that a document may use.

    Raises:
        DefinitionError: the data are not valid.
    """
    try:
        return record.model_validate(data)
    except ValidationError as error:
        location, problem = first_mistake(record, error, letters)
        raise DefinitionError(f"{origin}:{line_of(root, location, letters)}: {problem}") from error


def first_mistake(
    record: type[BaseModel], error: ValidationError, letters: Mapping[str, str] | None = None
) -> tuple[Location, str]:
    """Return the place of the first mistake in a record, and what is wrong in one sentence.

    Args:
        record: the pydantic model.
        error: what it raised.
        letters: short names of fields that a document may use.
    """
    # The shallowest error is the cause; deeper ones at the same place belong to alternatives of a union.
    first: Mapping[str, Any] = min(
        error.errors(), key=lambda item: (item["type"] != "extra_forbidden", len(item["loc"]))
    )
    cause = first.get("ctx", {}).get("error")
    location = first["loc"] + (cause.location if isinstance(cause, InputError) else ())
    return location, str(cause) if cause else _sentence(record, first, letters or {})


@contextmanager
def errors_at(root: Node, origin: str, letters: Mapping[str, str]) -> Iterator[None]:
    """Turn an `InputError` raised inside into a `DefinitionError` with the file and the line of its location."""
    try:
        yield
    except InputError as error:
        fail(origin, line_of(root, error.location, letters), str(error))


def line_of(root: Node, location: Location, letters: Mapping[str, str]) -> int:
    """Return the line of the deepest part of a record's location that the document has.

    Positions also index the entries of a mapping: stages are a mapping in the document and a sequence in the record.
    """
    spelled = {field: letter for letter, field in letters.items()}
    node = root
    for part in location:
        if isinstance(part, str):
            node = node.entries.get(part) or node.entries.get(spelled.get(part, "")) or node
        else:
            children = node.value if isinstance(node.value, list) else list(node.entries.values())
            node = children[part] if part < len(children) else node
    return node.line


def fail(origin: str, line: int, problem: str) -> NoReturn:
    """Raise a `DefinitionError` with file and line."""
    raise DefinitionError(f"{origin}:{line}: {problem}")


class _Reader:
    """Builds nodes from parser events with an explicit stack, so that nesting cannot exhaust Python's."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.root: Node | None = None
        self.open: list[tuple[Node, Node | None]] = []  # containers, each with the key that waits for a value

    def read(self, text: str) -> Node | None:
        for event in yaml.parse(text, Loader=_Loader):
            line = event.start_mark.line + 1 if event.start_mark else 1
            if isinstance(event, yaml.NodeEvent):
                self.check(event, line)
            if isinstance(event, yaml.ScalarEvent):
                self.add(Node(_scalar(event), line))
            elif isinstance(event, yaml.CollectionStartEvent):
                self.start(Node({} if isinstance(event, yaml.MappingStartEvent) else [], line))
            elif isinstance(event, yaml.CollectionEndEvent):
                self.open.pop()
        return self.root

    def check(self, event: yaml.NodeEvent, line: int) -> None:
        if event.anchor is not None:
            fail(self.origin, line, "anchors and aliases are not allowed; write the value out")
        tag = getattr(event, "tag", None)
        if tag is not None:
            fail(self.origin, line, f"the tag {tag!r} is not allowed; a definition is plain data")

    def start(self, node: Node) -> None:
        if len(self.open) >= MAX_DEPTH:
            fail(self.origin, node.line, _DEEPER)
        self.add(node)
        self.open.append((node, None))

    def add(self, node: Node) -> None:
        if not self.open:
            if self.root is not None:
                fail(self.origin, node.line, "a second document starts here; a file holds one definition")
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
        name, entries = key.value, mapping.entries
        if not isinstance(name, str | int) or isinstance(name, bool):
            fail(self.origin, key.line, f"{_short(key.plain())} is not a valid key; expected a word or a whole number")
        if str(name) in entries:
            fail(self.origin, key.line, f"duplicate key {str(name)!r}; keep one")
        entries[str(name)] = Node(node.value, key.line)


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _scalar(event: yaml.ScalarEvent) -> _Scalar:
    quoted = not event.implicit[0]
    if quoted or not _NUMBER.fullmatch(event.value):
        return event.value if quoted else _WORDS.get(event.value, event.value)
    return int(event.value) if _INTEGER.fullmatch(event.value) else float(event.value)


def _sentence(record: type[BaseModel], error: Mapping[str, Any], letters: Mapping[str, str]) -> str:
    """Return one sentence for a pydantic error."""
    kind, location = error["type"], error["loc"]
    key = next((part for part in reversed(location) if isinstance(part, str)), "")
    if kind == "extra_forbidden":
        known = [*_fields_at(record, location[:-1])]
        known += [letter for letter, field in letters.items() if field in known]
        hint = did_you_mean(key, known) or "; expected one of " + ", ".join(sorted(known))
        return f"unknown key {key!r}{hint}"
    if kind == "missing":
        return f"{key!r} has too few values; add the others" if location[-1] != key else f"{key!r} is missing; add it"
    return f"{key!r} cannot be {_short(error['input'])}: {_expected(record, error, key)}"


def _expected(record: type[BaseModel], error: Mapping[str, Any], key: str) -> str:
    message = error["msg"]
    if error["type"] == "literal_error":
        choices = message.removeprefix("Input should be ")
        return f"expected {choices}{did_you_mean(str(error['input']), re.findall(_QUOTED, choices))}"
    if error["type"] in _EXPECTED:
        return _EXPECTED[error["type"]]
    field = _fields_at(record, error["loc"][:-1]).get(key)
    if error["type"] == "string_pattern_mismatch" and field is not None and field.description:
        return f"expected {field.description}"
    return f"{message[0].lower()}{message[1:]}".replace("tuple", "list").replace(" after validation", "")


def _fields_at(record: type[BaseModel], location: Location) -> dict[str, FieldInfo]:
    for part in location:
        if isinstance(part, str) and part in record.model_fields:
            record = record_in(record.model_fields[part].annotation) or record
    return record.model_fields


def record_in(annotation: Any) -> type[BaseModel] | None:
    """Return the record in the annotation of a field, if there is one."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, BaseModel) else None
    return next(filter(None, map(record_in, typing.get_args(annotation))), None)
