"""The JSON Schema of space files, for editors."""

from typing import Any

from fbnet_zoo.schema import Schema, rows_schema
from fbnet_zoo.space.records import CandidateSpec, Range, RestSpec, SpaceRow, SpaceSpec
from fbnet_zoo.spec import BlockSpec, Record

_ROWS: dict[str, type[Record]] = {
    "SpaceRow": SpaceRow,
    "RestSpec": RestSpec,
    "CandidateSpec": CandidateSpec,
    "BlockSpec": BlockSpec,
}


def space_schema() -> Schema:
    """Return the schema: that of definitions with ranges, and with candidates, variants and recipe keyed by name.

    >>> space_schema()["properties"]["candidates"]["additionalProperties"]
    {'$ref': '#/$defs/CandidateSpec'}
    """
    schema = rows_schema(SpaceSpec, _ROWS, "SpaceStage", "fbnet_zoo search space")
    records = schema["$defs"]
    for key, record in (("candidates", "CandidateSpec"), ("variants", "VariantSpec"), ("recipe", "RecipeSpec")):
        named = schema["properties"][key]
        del named["items"]
        named |= {"type": "object", "additionalProperties": {"$ref": f"#/$defs/{record}"}}
        del records[record]["properties"]["name"]
        records[record]["required"] = []
    records["RecipeSpec"] = records["RecipeSpec"]["properties"]["values"]
    found: list[Schema] = []
    schema = _with_named_range(schema, found)
    schema["$defs"]["Range"] = found[0]
    return schema


def _with_named_range(node: Any, found: list[Schema]) -> Any:
    """Replace each copy of the schema of a range by a reference."""
    if isinstance(node, list):
        return [_with_named_range(item, found) for item in node]
    if not isinstance(node, dict):
        return node
    if node.get("properties", {}).keys() == Range.model_fields.keys():
        found.append(node)
        return {"$ref": "#/$defs/Range"}
    return {key: _with_named_range(value, found) for key, value in node.items()}
