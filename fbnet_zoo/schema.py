"""The JSON Schema of definition files, for editors; made from the records and the layout of the files.

What only the loader can know (output strides that multiply, fields that an op takes) is not in it.
"""

import re
from typing import Any, get_args

from fbnet_zoo.spec import LETTERS, ArchSpec, BlockSpec, OutputStride

Schema = dict[str, Any]


def arch_schema() -> Schema:
    """Return the schema: letters beside spelled-out keys, stages keyed by output stride.

    >>> sorted(arch_schema()["properties"]["stages"]["properties"], key=int)
    ['1', '2', '4', '8', '16', '32']
    """
    schema = _plain(ArchSpec.model_json_schema())
    records = schema["$defs"]
    records["StageSpec"] = records["StageSpec"]["properties"]["blocks"]
    records["BlockSpec"] |= _with_letters(records["BlockSpec"])
    schema["properties"]["stages"] = {
        "type": "object",
        "properties": {str(stride): {"$ref": "#/$defs/StageSpec"} for stride in get_args(OutputStride)},
        "additionalProperties": False,
        "minProperties": 1,
    }
    for record in (schema, *records.values()):
        _describe(record)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "fbnet_zoo definition", **schema}


def _plain(node: Any) -> Any:
    """Leave out the titles, which repeat the keys, and the defaults, of which `null` is most."""
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


def _with_letters(row: Schema) -> Schema:
    """Let each field of a row be said by its letter or its name, never by both."""
    refs = {letter: {"$ref": f"#/$defs/BlockSpec/properties/{field}"} for letter, field in LETTERS.items()}
    said = {letter: [{"required": [letter]}, {"required": [field]}] for letter, field in LETTERS.items()}
    needed = [letter for letter, field in LETTERS.items() if BlockSpec.model_fields[field].is_required()]
    return {
        "properties": row["properties"] | refs,
        "required": [],
        "allOf": [{"oneOf": said[key]} if key in needed else {"not": {"allOf": said[key]}} for key in LETTERS],
    }


def _describe(record: Schema) -> None:
    """Move what the docstring says of each attribute to its property, where editors show it."""
    summary, _, attributes = record.get("description", "").partition("\n\nAttributes:\n")
    for field, text in re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", attributes, re.MULTILINE):
        record["properties"][field]["description"] = " ".join(text.split())
    if summary:
        record["description"] = " ".join(summary.split())
