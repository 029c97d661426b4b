"""`fbnet-zoo oracle`: tables of known accuracies, which replace training in a search."""

import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fbnet_zoo.atomic import write_atomically
from fbnet_zoo.cli import options, screen
from fbnet_zoo.errors import InputError
from fbnet_zoo.space import load_space

if TYPE_CHECKING:
    from fbnet_zoo.search.oracle import Oracle

app = typer.Typer()

TableName = Annotated[str, typer.Argument(metavar="TABLE", help="published table: accel-nasbench")]
Published = Annotated[Path, typer.Argument(metavar="PATH", help="published file, or the folder in it")]
Out = Annotated[Path | None, typer.Option(metavar="FILE", help="write the table to this .csv file (default: stdout)")]
Table = Annotated[Path, typer.Argument(metavar="FILE", help="table of accuracies (.csv)")]
SpaceName = Annotated[str, typer.Option("--space", metavar="NAME|PATH", help="search space of its networks")]


@app.callback(invoke_without_command=True)
def _root(context: typer.Context) -> None:
    """Import and show tables of known accuracies."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("import", epilog=options.examples("oracle import accel-nasbench anb_dataset_jsons.tar.gz --out anb.csv"))
def import_(
    name: TableName,
    path: Published,
    out: Out = None,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Convert a published table to the form that search --oracle reads."""
    from fbnet_zoo.search.importers import import_table

    if out is not None and out.suffix != ".csv":
        raise InputError(f"--out cannot be {out}; expected a .csv file")
    if out is not None and out.exists() and path.exists() and out.samefile(path):
        raise InputError(f"--out {out} is the file that is read; expected another one")
    table = import_table(name, path)
    repeated = f", {table.repeated} of them published several times: the mean" if table.repeated else ""
    if out is not None:
        write_atomically(out, table.text)
        screen.say("note", f"wrote {out}: {table.networks} networks of {table.space}{repeated}; {table.credit}", "cyan")
    if as_json:
        facts = {"space": table.space, "networks": table.networks, "repeated": table.repeated}
        screen.show_json({**facts, "costs": list(table.columns), "credit": table.credit, "file": out and str(out)})
    elif out is None:
        with screen.results():
            sys.stdout.write(table.text)


@app.command("show", epilog=options.examples("oracle show anb.csv --space accel_nasbench"))
def show_(file: Table, space: SpaceName, as_json: options.Json = False, verbose: options.Verbose = False) -> None:
    """Show the accuracies and costs in a table."""
    from fbnet_zoo.search.oracle import TOP1, read_oracle, table_encoding

    oracle = read_oracle(file, table_encoding(file, load_space(space)))
    columns = {name: _column(oracle, name) for name in (TOP1, *oracle.columns)}
    if as_json:
        screen.show_json({"space": oracle.encoding.space.name, "networks": len(oracle.known), "columns": columns})
        return
    lines = screen.table("column", ">lowest", ">median", ">highest", ">unknown", ">rank correlation\nwith top1")
    for name, facts in columns.items():
        figures = (f"{facts[key]:,.6g}" for key in ("lowest", "median", "highest"))
        lines.add_row(name, *figures, str(facts["unknown"]), f"{facts['spearman']:.3f}")
    screen.show(f"{file}: {len(oracle.known):,} networks of {oracle.encoding.space.name}", lines)


def _column(oracle: "Oracle", name: str) -> dict[str, Any]:
    """Return the range of a column, and how well it ranks the accuracies."""
    from fbnet_zoo.stats import spearman

    values = oracle.columns.get(name, oracle.known)
    pairs = [pair for pair in zip(values, oracle.known, strict=True) if pair[0] < float("inf")]
    known = [value for value, _ in pairs]
    return {
        "lowest": min(known),
        "median": median(known),
        "highest": max(known),
        "unknown": len(values) - len(known),
        "spearman": spearman(*zip(*pairs, strict=True)) if len(pairs) > 1 else 0.0,
    }
