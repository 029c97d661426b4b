"""Reading and writing latency tables, shipped or your own."""

import json
from pathlib import Path
from typing import Any

from fbnet_zoo import limits
from fbnet_zoo.atomic import write_atomically
from fbnet_zoo.errors import InputError, UnknownNameError, did_you_mean
from fbnet_zoo.latency.table import LatencyTable
from fbnet_zoo.reading import parse_record, read_text
from fbnet_zoo.schema import record_schema
from fbnet_zoo.spec import Record

TABLES = Path(__file__).parent / "tables"
SCHEMA = "table.schema.json"


def list_tables(folder: Path = TABLES) -> list[str]:
    """Return the names of the tables in a folder (default: the shipped ones).

    >>> "pixel3" in list_tables()
    True
    """
    return sorted(path.stem for path in folder.glob("*.json") if path.name != SCHEMA)


def find_table(name: str | Path) -> LatencyTable:
    """Return a shipped table by name, or any table by path.

    Raises:
        UnknownNameError: no shipped table has that name.
        InputError: the file cannot be read, or is not a table.
    """
    if isinstance(name, Path) or name.endswith(".json"):
        return load_table(Path(name))
    known = list_tables()
    if name not in known:
        hint = did_you_mean(name, known) or f"; expected {', '.join(known)} or the path of a .json file"
        raise UnknownNameError(f"unknown latency table {name!r}{hint}")
    return load_table(TABLES / f"{name}.json")


def load_table(path: Path) -> LatencyTable:
    """Read a table.

    Raises:
        InputError: the file cannot be read, or is not a table of this version; the text gives file and key.
    """
    expected = "a latency table"
    text = read_text(path, expected)
    limits.check("rows", text.count('"median_ms"'), f"{path} has")  # every row has one
    return parse_record(LatencyTable, text, str(path), expected)


def save_table(table: LatencyTable, path: Path) -> None:
    """Write a table atomically.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, table_text(table))
    except OSError as error:
        raise InputError(f"{path}: cannot write the table: {error.strerror}") from error


def table_text(table: LatencyTable) -> str:
    """Return the JSON of a table, with one line per operator for readable diffs."""
    head = table.model_dump(mode="json", exclude={"operators", "base_operators"}, exclude_none=True)
    fields = [
        f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items() if value != {}
    ]
    for name in ("base_operators", "operators"):
        records: tuple[Record, ...] = getattr(table, name)
        if records:
            lines = ",\n".join(f"  {_line(record)}" for record in records)
            fields.append(f" {json.dumps(name)}: [\n{lines}\n ]")
    return "{\n" + ",\n".join(fields) + "\n}\n"


def _line(record: Record) -> str:
    fields: dict[str, Any] = record.model_dump(mode="json", exclude_defaults=True)
    return json.dumps(fields, ensure_ascii=False)


def schema_text() -> str:
    """Return the JSON Schema of tables."""
    return json.dumps(record_schema(LatencyTable, "fbnet_zoo latency table"), indent=1, ensure_ascii=False) + "\n"


def write_schema() -> None:
    """Write the JSON Schema to the folder of the shipped tables."""
    write_atomically(TABLES / SCHEMA, schema_text())
