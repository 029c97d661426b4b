"""For those who edit definitions: `python -m fbnet_zoo.maintain counts NAME…` and `… schema`.

`counts` counts a network and rewrites its file in the canonical layout; `schema` rewrites the JSON Schema.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from fbnet_zoo import arch_file
from fbnet_zoo.complexity import cost
from fbnet_zoo.errors import FbnetZooError
from fbnet_zoo.schema import arch_schema
from fbnet_zoo.spec import CountsSpec

SCHEMA = "arch.schema.json"


def fill_counts(path: Path) -> CountsSpec:
    """Count the network of a definition and write the file again, canonically, with the counts.

    Raises:
        DefinitionError: the file is no valid definition.
        InputError: the file cannot be read.
    """
    spec = arch_file.load(path)
    counted = cost(spec)
    counts = CountsSpec(params=counted.params, macs=counted.macs)
    arch_file.save(spec.model_copy(update={"counts": counts}), path)
    return counts


def schema_text() -> str:
    """Return what the file of the JSON Schema should hold."""
    return json.dumps(arch_schema(), indent=1, ensure_ascii=False) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status."""
    folder = Path(str(files("fbnet_zoo.arch_defs")))
    parser = argparse.ArgumentParser(prog="python -m fbnet_zoo.maintain", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    counts = commands.add_parser("counts", help="fill in 'counts' and write the file canonically")
    counts.add_argument("name", nargs="+", help="name of an entry, or path of its file")
    commands.add_parser("schema", help=f"rewrite arch_defs/{SCHEMA}")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "schema":
            arch_file.write_whole(folder / SCHEMA, schema_text())
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
