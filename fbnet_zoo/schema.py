"""The JSON Schemas of files, for editors; generated from the records and the layout of the files.

They do not include what only the loader checks: products of strides, the fields of each op.
"""

import re
from collections.abc import Mapping
from typing import Any, get_args

from fbnet_zoo.spec import LETTERS, ArchSpec, BlockSpec, OutputStride, Record

Schema = dict[str, Any]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def arch_schema() -> Schema:
    """Return the schema of definitions: letters or full names as keys, stages keyed by output stride.

    >>> sorted(arch_schema()["properties"]["stages"]["properties"], key=int)
    ['1', '2', '4', '8', '16', '32']
    """
    return rows_schema(ArchSpec, {"BlockSpec": BlockSpec}, "StageSpec", "fbnet_zoo definition")


def rows_schema(record: type[Record], rows: Mapping[str, type[Record]], stage: str, title: str) -> Schema:
    """Return the schema of files with the layout of definitions.

    Args:
        record: the record of a file.
        rows: name in the schema to record, for those that may use letters.
        stage: name of the record of a stage in the schema.
        title: title of the schema.
    """
    schema = _plain(record.model_json_schema())
    records = schema["$defs"]
    records[stage] = records[stage]["properties"]["blocks"]
    for name, row in rows.items():
        records[name] |= _with_letters(name, row, records[name])
    schema["properties"]["stages"] = {
        "type": "object",
        "properties": {str(stride): {"$ref": f"#/$defs/{stage}"} for stride in get_args(OutputStride)},
        "additionalProperties": False,
        "minProperties": 1,
    }
    for described in (schema, *records.values()):
        _describe(described)
    return {"$schema": _DIALECT, "title": title, **schema}


def record_schema(record: type[Record], title: str) -> Schema:
    """Return the schema of files with one record, keyed by the names of its fields."""
    schema = _plain(record.model_json_schema())
    for described in (schema, *schema.get("$defs", {}).values()):
        _describe(described)
    return {"$schema": _DIALECT, "title": title, **schema}


def _plain(node: Any) -> Any:
    """Return a schema without titles, which repeat the keys, and without defaults, most of which are `null`."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    named = {"properties", "$defs"}
    return {
        key: {name: _plain(child) for name, child in value.items()} if key in named else _plain(value)
        for key, value in node.items()
        if key not in {"title", "default"}
    }


def _with_letters(name: str, record: type[Record], row: Schema) -> Schema:
    """Return the parts of a row's schema that allow each field under its letter or its name, not both."""
    letters = {letter: field for letter, field in LETTERS.items() if field in record.model_fields}
    refs = {letter: {"$ref": f"#/$defs/{name}/properties/{field}"} for letter, field in letters.items()}
    either = {letter: [{"required": [letter]}, {"required": [field]}] for letter, field in letters.items()}
    needed = [letter for letter, field in letters.items() if record.model_fields[field].is_required()]
    return {
        "properties": row["properties"] | refs,
        "required": [],
        "allOf": [{"oneOf": either[key]} if key in needed else {"not": {"allOf": either[key]}} for key in letters],
    }


def _describe(record: Schema) -> None:
    """Move the docstring of each attribute to its property, where editors show it."""
    summary, _, attributes = record.get("description", "").partition("\n\nAttributes:\n")
    for field, text in re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", attributes, re.MULTILINE):
        record["properties"][field]["description"] = " ".join(text.split())
    if summary:
        record["description"] = " ".join(summary.split())
