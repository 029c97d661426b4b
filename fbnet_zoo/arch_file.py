"""YAML text to `ArchSpec` and back, strictly; `dump` writes the one canonical layout."""

import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from fbnet_zoo import layers, yaml_reader
from fbnet_zoo.errors import DefinitionError, InputError
from fbnet_zoo.spec import LETTERS, ArchSpec, BlockSpec
from fbnet_zoo.yaml_reader import Node

_SPELLED = {field: letter for letter, field in LETTERS.items()}
_ROW_ORDER = ("op", "k", "e", "c", "s", "r", "g", "se", "pad", "dw", "dwg")
_PLAIN = re.compile(r"[A-Za-z][\w ./()%+-]*\w|[A-Za-z]")
_LEGEND = "  # k kernel, e expansion, c output channels, s stride of the first, r repeats\n"


def load(path: Path) -> ArchSpec:
    """Read a definition from a file.

    Raises:
        DefinitionError: the file is no valid definition; the text says where and why.
        InputError: the file cannot be read.
    """
    return parse(yaml_reader.load_text(path), origin=str(path))


def parse(text: str, origin: str = "<text>") -> ArchSpec:
    """Turn the text of a definition into a record; `origin` names it in errors.

    Raises:
        DefinitionError: the text is no valid definition.
    """
    root = yaml_reader.read(text, origin)
    spec = yaml_reader.validate(ArchSpec, _fields(root, origin), root, origin, LETTERS)
    try:
        layers.plan(spec)
    except InputError as error:
        raise DefinitionError(f"{origin}:1: {error}") from error
    return spec


def save(spec: ArchSpec, path: Path) -> None:
    """Write a definition, whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(dump(spec))
    Path(temporary).replace(path)


def dump(spec: ArchSpec) -> str:
    """Write a definition in the canonical layout: `parse(dump(spec)) == spec`."""
    return "".join(_lines(spec))


def _fields(root: Node, origin: str) -> dict[str, Any]:
    """Turn the document's layout into the record's: letters spelled out, stages as a sequence."""
    data = dict(root.plain())
    for key in ("stem", "head"):
        if isinstance(data.get(key), dict):
            data[key] = _spell_out(data[key], root, origin)
    if isinstance(data.get("stages"), dict):
        data["stages"] = tuple(
            {"output_stride": stride, "blocks": _rows(rows, root, origin)} for stride, rows in data["stages"].items()
        )
    return data


def _rows(rows: Any, root: Node, origin: str) -> Any:
    if not isinstance(rows, tuple):
        return rows
    return tuple(_spell_out(row, root, origin) if isinstance(row, dict) else row for row in rows)


def _spell_out(row: dict[str, Any], root: Node, origin: str) -> dict[str, Any]:
    spelled = {LETTERS.get(key, key): value for key, value in row.items()}
    if len(spelled) < len(row):
        twice = next(key for key in row if LETTERS.get(key) in row)
        raise DefinitionError(
            f"{origin}:{root.line}: a row says both {twice!r} and {LETTERS[twice]!r}, which are the same; keep one"
        )
    return spelled


def _lines(spec: ArchSpec) -> Iterator[str]:
    said = spec.model_fields_set
    for key in ("name", "aliases", "family", "summary", "reconstruction", "input_size", "bn_eps", "zero_init_residual"):
        if key in said:
            yield f"{key}: {_value(getattr(spec, key))}\n"
    if "defaults" in said:
        yield f"defaults: {_flow(spec.defaults)}\n"
    yield _LEGEND.lstrip()
    yield f"stem: {_row(spec.stem)}\n"
    yield "stages:  # keyed by output stride\n"
    for stage in spec.stages:
        yield f"  {stage.output_stride}:{'' if stage.blocks else ' []'}\n"
        yield from (f"    - {_row(block)}\n" for block in stage.blocks)
    yield f"head: {_row(spec.head)}\n"
    if "classifier" in said:
        yield f"classifier: {spec.classifier}\n"
    for key in ("counts", "paper", "source", "deviations", "preprocess", "weights", "reported"):
        if key in said:
            yield from _entry(key, getattr(spec, key))


def _entry(key: str, value: Any) -> Iterator[str]:
    if not isinstance(value, tuple):
        yield f"{key}: {_value(value)}\n"
        return
    yield f"{key}:\n"
    yield from (f"  - {_value(item)}\n" for item in value)


def _row(row: BlockSpec) -> str:
    said = {_SPELLED.get(key, key): getattr(row, key) for key in row.model_fields_set}
    order = [key for key in _ROW_ORDER if key in said]
    rest = [key for key in type(row).model_fields if key in said and key not in order]
    return _mapping({key: said[key] for key in order + rest})


def _flow(record: BaseModel) -> str:
    said = (key for key in type(record).model_fields if key in record.model_fields_set)
    return _mapping({key: getattr(record, key) for key in said})


def _mapping(values: dict[str, Any]) -> str:
    return "{" + ", ".join(f"{key}: {_value(value)}" for key, value in values.items()) + "}"


def _value(value: Any) -> str:
    if isinstance(value, BaseModel):
        return _flow(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, float):
        return _float(value)
    return json.dumps(value)


def _float(value: float) -> str:
    """Write a float so that YAML 1.1 reads one: it wants a dot before an exponent."""
    text = repr(int(value) if value.is_integer() else value)
    return text.replace("e", ".0e") if "e" in text and "." not in text else text


def _string(value: str) -> str:
    plain = _PLAIN.fullmatch(value) and isinstance(yaml.safe_load(value), str)
    return value if plain else json.dumps(value, ensure_ascii=False)
