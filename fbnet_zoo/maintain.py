"""Tools for editors of definitions: `python -m fbnet_zoo.maintain counts NAME…` and `… schema`.

`counts` fills in the counts of a network and rewrites its file in the canonical layout; `schema` rewrites the JSON
Schemas.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from fbnet_zoo import arch_file, yaml_reader
from fbnet_zoo.atomic import write_atomically
from fbnet_zoo.complexity import cost
from fbnet_zoo.errors import FbnetZooError
from fbnet_zoo.latency import files as latency_files
from fbnet_zoo.schema import arch_schema
from fbnet_zoo.space.schema import space_schema
from fbnet_zoo.spec import CountsSpec

SCHEMAS = {"arch.schema.json": arch_schema, "space.schema.json": space_schema}
"""File name of each JSON Schema in `arch_defs/` to the function that makes it."""


def fill_counts(path: Path) -> CountsSpec:
    """Write the counts of a network to its definition file, in the canonical layout; return them.

    Raises:
        DefinitionError: the file is not a valid definition.
        InputError: the file cannot be read.
    """
    spec = arch_file.parse_uncounted(yaml_reader.load_text(path), str(path))
    counted = cost(spec)
    counts = CountsSpec(params=counted.params, macs=counted.macs)
    arch_file.save(spec.model_copy(update={"counts": counts}), path)
    return counts


def schema_text(name: str) -> str:
    """Return the text of a JSON Schema file."""
    return json.dumps(SCHEMAS[name](), indent=1, ensure_ascii=False) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status."""
    folder = Path(str(files("fbnet_zoo.arch_defs")))
    parser = argparse.ArgumentParser(prog="python -m fbnet_zoo.maintain", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    counts = commands.add_parser("counts", help="fill in 'counts' and rewrite the file in the canonical layout")
    counts.add_argument("name", nargs="+", help="name or path of a definition")
    commands.add_parser("schema", help=f"rewrite {', '.join((*SCHEMAS, latency_files.SCHEMA))}")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "schema":
            for name in SCHEMAS:
                write_atomically(folder / name, schema_text(name))
            latency_files.write_schema()
        for name in getattr(chosen, "name", ()):
            path = Path(name) if name.endswith(".yaml") else folder / f"{name}.yaml"
            filled = fill_counts(path)
            sys.stdout.write(f"{path}: {filled.params} parameters, {filled.macs} MACs\n")
    except FbnetZooError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
