"""YAML text to `ArchSpec` and back, strictly; `dump` writes the one canonical layout."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel

from fbnet_zoo import layers, planner, yaml_reader
from fbnet_zoo.atomic import write_atomically
from fbnet_zoo.errors import InputError, located
from fbnet_zoo.layers import walk
from fbnet_zoo.spec import LETTERS, ArchSpec, BlockSpec, CountsSpec, OutputStride
from fbnet_zoo.yaml_reader import Node

_SPELLED = {field: letter for letter, field in LETTERS.items()}
_STRIDES = {str(stride): stride for stride in get_args(OutputStride)}
_ROW_ORDER = ("op", "k", "e", "c", "s", "r", "g", "se", "pad", "dw", "dwg")
_PLAIN = re.compile(r"[A-Za-z][\w ./()%+-]*\w|[A-Za-z]")
_LEGEND = "  # k kernel, e expansion, c output channels, s stride of the first, r repeats\n"


def load(path: Path) -> ArchSpec:
    """Return the definition in a file.

    Raises:
        DefinitionError: the file is not a valid definition; the text gives the line and the reason.
        InputError: the file cannot be read.
    """
    return parse(yaml_reader.load_text(path), origin=str(path))


def parse(text: str, origin: str = "<text>") -> ArchSpec:
    """Return the definition in a text; `origin` is its name in errors.

    Raises:
        DefinitionError: the text is not a valid definition, or its counts are not those of the network.
    """
    spec = parse_uncounted(text, origin)
    if spec.counts is not None:
        with yaml_reader.errors_at(yaml_reader.read(text, origin), origin, LETTERS):
            _check_counts(spec, spec.counts)
    return spec


def parse_uncounted(text: str, origin: str = "<text>") -> ArchSpec:
    """Return the definition in a text like `parse`, whatever its counts are.

    Raises:
        DefinitionError: the text is not a valid definition.
    """
    root = yaml_reader.read(text, origin)
    spec = yaml_reader.validate(ArchSpec, fields(root, origin), root, origin, LETTERS)
    with yaml_reader.errors_at(root, origin, LETTERS):
        network = planner.plan(spec)
        with located("input_size"):
            layers.check_batch(network, spec.input_size)
    return spec


def _check_counts(spec: ArchSpec, counts: CountsSpec) -> None:
    layers = tuple(walk(planner.plan(spec), spec.input_size))
    for key in ("params", "macs"):
        stated, found = getattr(counts, key), sum(getattr(layer, key) for layer in layers)
        if stated != found:
            raise InputError(
                f"{key!r} is {stated}, but the network has {found}; correct it, or leave 'counts' out",
                location=("counts", key),
            )


def save(spec: ArchSpec, path: Path) -> None:
    """Write a definition to a file, atomically.

    Raises:
        InputError: the file cannot be written.
    """
    write_atomically(path, dump(spec))


def dump(spec: ArchSpec) -> str:
    """Return a definition as text in the canonical layout: `parse(dump(spec)) == spec`."""
    return "".join(_lines(spec))


def fields(root: Node, origin: str, row: type[BaseModel] = BlockSpec) -> dict[str, Any]:
    """Return the fields of the record of a definition or search space: letters spelled out, stages as a sequence.

    Args:
        root: the document.
        origin: name of the document in errors.
        row: the record of its rows.

    Raises:
        DefinitionError: a row or a stage has the wrong form.
    """
    data = dict(root.plain())
    for key in {"stem", "head"} & root.entries.keys():
        data[key] = row_fields(root.entries[key], origin, row)
    if "stages" in root.entries:
        data["stages"] = tuple(_stages(root.entries["stages"], origin, row))
    return data


def _stages(node: Node, origin: str, record: type[BaseModel]) -> Iterator[dict[str, Any]]:
    for stride, rows in yaml_reader.mapping(node, origin, "a mapping of output strides to rows in 'stages'").items():
        if not isinstance(rows.value, list):
            yaml_reader.fail(origin, rows.line, f"expected a list in stage {stride!r}: one '- {{…}}' per row")
        yield {
            "output_stride": _STRIDES.get(stride, stride),
            "blocks": tuple(row_fields(row, origin, record) for row in rows.value),
        }


def row_fields(row: Node, origin: str, record: type[BaseModel] = BlockSpec) -> dict[str, Any]:
    """Return the fields of a row's record, letters spelled out, also in records inside it.

    Raises:
        DefinitionError: the row is not a mapping, or has a field under both its letter and its name.
    """
    entries, data = yaml_reader.mapping(row, origin, "a mapping for a row, such as {op: conv, k: 3, c: 16}"), {}
    for key, child in entries.items():
        if LETTERS.get(key) in entries:
            yaml_reader.fail(
                origin, child.line, f"a row has both {key!r} and {LETTERS[key]!r}, which are the same; keep one"
            )
        field = LETTERS[key] if LETTERS.get(key) in record.model_fields else key
        inner = yaml_reader.record_in(record.model_fields[field].annotation) if field in record.model_fields else None
        data[field] = row_fields(child, origin, inner) if inner else child.plain()
    return data


def _lines(spec: ArchSpec) -> Iterator[str]:
    given = spec.model_fields_set
    for key in ("name", "aliases", "family", "summary", "reconstruction", "input_size", "bn_eps", "zero_init_residual"):
        if key in given:
            yield f"{key}: {_value(getattr(spec, key))}\n"
    if "defaults" in given:
        yield f"defaults: {_flow(spec.defaults)}\n"
    yield _LEGEND.lstrip()
    yield f"stem: {row_text(spec.stem)}\n"
    yield "stages:  # keyed by output stride\n"
    for stage in spec.stages:
        yield f"  {stage.output_stride}:{'' if stage.blocks else ' []'}\n"
        yield from (f"    - {row_text(block)}\n" for block in stage.blocks)
    yield f"head: {row_text(spec.head)}\n"
    if "classifier" in given:
        yield f"classifier: {spec.classifier}\n"
    for key in ("counts", "paper", "source", "deviations", "preprocess", "weights", "reported"):
        if key in given:
            yield from _entry(key, getattr(spec, key))


def _entry(key: str, value: Any) -> Iterator[str]:
    if not isinstance(value, tuple) or not value:
        yield f"{key}: {_value(value)}\n"
        return
    yield f"{key}:\n"
    yield from (f"  - {_value(item)}\n" for item in value)


def row_text(row: BlockSpec) -> str:
    """Return a row as it is written in definitions.

    >>> row_text(BlockSpec(kernel_size=3, expansion=6, out_channels=24))
    '{k: 3, e: 6, c: 24}'
    """
    given = {_SPELLED.get(key, key): getattr(row, key) for key in row.model_fields_set}
    order = [key for key in _ROW_ORDER if key in given]
    rest = [key for key in type(row).model_fields if key in given and key not in order]
    return _mapping({key: given[key] for key in order + rest})


def _flow(record: BaseModel) -> str:
    given = (key for key in type(record).model_fields if key in record.model_fields_set)
    return _mapping({key: getattr(record, key) for key in given})


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
    """Return a float as YAML 1.1 reads it: with a dot before an exponent."""
    text = repr(int(value) if value.is_integer() and abs(value) < 1e15 else value)
    return text.replace("e", ".0e") if "e" in text and "." not in text else text


def _string(value: str) -> str:
    if _PLAIN.fullmatch(value) and isinstance(yaml.safe_load(value), str):
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    return "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in quoted)
