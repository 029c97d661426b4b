"""`fbnet-zoo lut`: latency tables of devices. Modules that need numpy are imported inside the commands."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fbnet_zoo.cli import options, screen
from fbnet_zoo.cli.lut import measure
from fbnet_zoo.errors import InputError

if TYPE_CHECKING:
    from fbnet_zoo.latency.table import Calibration, LatencyTable

_TOP = 20
_TOLERANCE = 0.05

TableName = Annotated[str, typer.Argument(metavar="NAME|PATH", help="shipped table, or path of a .json file")]
TableNames = Annotated[list[str], typer.Argument(metavar="NAME|PATH...", help="two or more tables")]
Folder = Annotated[
    Path | None, typer.Argument(metavar="[FOLDER]", help="folder of tables (default: the shipped tables)")
]
Top = Annotated[
    int, typer.Option(metavar="K", min=0, help="only the K slowest operators or largest differences; 0: all")
]
Networks = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="latencies of whole networks: CSV, or JSON lines of `bench run`"),
]
Key = Annotated[str, typer.Option(metavar="COLUMN", help="column of the CSV file with the network")]
Column = Annotated[str, typer.Option(metavar="COLUMN", help="column of the CSV file with the latency, ms")]
Columns = Annotated[
    list[str],
    typer.Option("--column", metavar="COLUMN", help="column of the CSV file with latencies, ms; repeatable"),
]
SpaceName = Annotated[
    str | None,
    typer.Option("--space", metavar="NAME", help="search space of networks that are written as one digit per layer"),
]
Classes = Annotated[int, typer.Option(metavar="N", min=1, help="number of classes of the networks")]
Out = Annotated[Path, typer.Option(metavar="FILE", help="table to write")]
CalibratedOut = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="write the table with the calibration of --networks"),
]
Conflicts = Annotated[
    Literal["error", "newer"],
    typer.Option(
        metavar="error|newer", help="what to do with two latencies of one operator that differ by more than --tolerance"
    ),
]
Tolerance = Annotated[
    float,
    typer.Option(
        metavar="X", min=0, help="largest relative difference of two latencies of one operator", callback=options.finite
    ),
]
NewName = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="name of the new table (default: the file's name)")
]
Source = Annotated[Path, typer.Argument(metavar="FILE", help="file to import")]
Format = Annotated[
    Literal["hw_nas_bench", "mobile_vision"],
    typer.Option("--format", metavar="hw_nas_bench|mobile_vision", help="format of FILE"),
]
Metric = Annotated[
    str | None, typer.Option(metavar="NAME", help="hw_nas_bench: latency to read, such as pixel3_latency")
]
OfDevice = Annotated[str | None, typer.Option("--device", metavar="NAME", help="mobile_vision: device to read")]
OfPrecision = Annotated[
    Literal["fp32", "int8"],
    typer.Option("--precision", metavar="fp32|int8", help="mobile_vision: precision of the operators to read"),
]
Estimate = Annotated[
    bool, typer.Option("--estimate", help="hw_nas_bench: mark the latencies as estimates, not measurements")
]
Csv = Annotated[Path, typer.Option(metavar="FILE", help="latencies of whole networks (CSV)")]
Samples = Annotated[int, typer.Option(metavar="N", help="number of networks to fit on; all others test the fit")]
Seeds = Annotated[int, typer.Option(metavar="N", min=1, help="number of fits, each on other samples")]
Priors = Annotated[
    list[str] | None,
    typer.Option("--prior", metavar="NAME|PATH", help="table of another device, used as a prior; repeatable"),
]

app = typer.Typer()


@app.callback(invoke_without_command=True)
def _root(context: typer.Context) -> None:
    """Measure, check and import latency tables of devices."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("list", epilog=options.examples("lut list", "lut list my_tables --json"))
def list_(folder: Folder = None, as_json: options.Json = False, verbose: options.Verbose = False) -> None:
    """List the shipped latency tables, or those in a folder."""
    from fbnet_zoo.cli.lut import show
    from fbnet_zoo.latency.files import TABLES, list_tables, load_table

    folder = folder or TABLES
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    tables = [load_table(folder / f"{name}.json") for name in list_tables(folder)]
    if as_json:
        screen.show_json({"tables": [show.about(table) for table in tables]})
    else:
        screen.show(show.listing(tables))


@app.command("show", epilog=options.examples("lut show pixel3", "lut show my_table.json --top 0"))
def show_(name: TableName, top: Top = _TOP, as_json: options.Json = False, verbose: options.Verbose = False) -> None:
    """Show the origin of a table, and its slowest operators."""
    from fbnet_zoo.cli.lut import show
    from fbnet_zoo.latency.files import find_table

    table = find_table(name)
    slowest = sorted(table.operators, key=lambda entry: -entry.median_ms)
    if as_json:
        screen.show_json(show.details(table))
    else:
        screen.show(*show.page(table, slowest[:top] if top else slowest))


app.command("measure", epilog=measure.EPILOG)(measure.command)


@app.command(
    "validate",
    epilog=options.examples(
        "lut validate my_table.json",
        "lut validate my_table.json --networks measured.jsonl --out my_table.json",
        "lut validate pixel3 --networks latencies.csv --key choices --column pixel3 --space fbnet_cifar --classes 100",
    ),
)
def validate_(  # noqa: PLR0913 - one per option
    name: TableName,
    networks: Networks = None,
    key: Key = "network",
    column: Column = "median_ms",
    space: SpaceName = None,
    classes: Classes = 1000,
    out: CalibratedOut = None,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Check a table, and compare its sums with measured networks."""
    from fbnet_zoo.cli.lut.networks import calibration_of, read_networks
    from fbnet_zoo.latency.checks import table_warnings
    from fbnet_zoo.latency.files import find_table, save_table

    table = find_table(name)
    if out is not None and networks is None:
        raise InputError("--out writes the calibration of --networks; add --networks")
    fit = None
    if networks is not None:
        found, (measured,) = read_networks(
            networks, key=key, columns=[column], space=space, classes=classes, level=table.level
        )
        fit = calibration_of(table, found, measured)
    if out is not None:
        save_table(table.model_copy(update={"calibration": fit}), out)
    _show_checks(table, table_warnings(table), fit, as_json=as_json)


def _show_checks(table: "LatencyTable", warnings: tuple[str, ...], fit: "Calibration | None", *, as_json: bool) -> None:
    from fbnet_zoo.cli.lut import show

    if as_json:
        record = fit.model_dump(mode="json") if fit else None
        screen.show_json(show.about(table) | {"warnings": list(warnings), "networks": record})
        return
    for warning in warnings:
        screen.say("warning", warning, "yellow")
    screen.show(f"{table.name}: {len(table.operators)} operators, {len(warnings)} warnings")
    if fit:
        screen.show(show.fitted(fit))


@app.command("merge", epilog=options.examples("lut merge monday.json tuesday.json --out host.json --conflicts newer"))
def merge_(
    names: TableNames,
    out: Out,
    conflicts: Conflicts = "error",
    tolerance: Tolerance = _TOLERANCE,
    name: NewName = None,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Merge tables of one device, runtime and precision."""
    from fbnet_zoo.latency.files import find_table
    from fbnet_zoo.latency.merging import merge_tables

    tables = [find_table(each) for each in names]
    merged = merge_tables(tables, conflicts=conflicts, tolerance=tolerance, name=name or out.stem)
    _write(merged, out, as_json=as_json)


@app.command("diff", epilog=options.examples("lut diff raspi4 pixel3", "lut diff before.json after.json --json"))
def diff_(
    a: TableName, b: TableName, top: Top = _TOP, as_json: options.Json = False, verbose: options.Verbose = False
) -> None:
    """Compare two tables, operator by operator."""
    from fbnet_zoo.cli.lut import show
    from fbnet_zoo.latency.files import find_table
    from fbnet_zoo.latency.merging import diff_tables

    diff = diff_tables(find_table(a), find_table(b))
    furthest = sorted(diff.shared, key=lambda each: -abs(each.b_ms - each.a_ms))
    if as_json:
        screen.show_json(show.difference(diff))
    else:
        screen.show(*show.comparison(diff, furthest[:top] if top else furthest))


@app.command(
    "import",
    epilog=options.examples(
        "lut import tables.json --format hw_nas_bench --metric pixel3_latency --out pixel3.json",
        "lut import op_lut_database.json --format mobile_vision --precision int8 --out galaxy_s8.json",
    ),
)
def import_(  # noqa: PLR0913 - one per option
    file: Source,
    form: Format,
    out: Out,
    name: NewName = None,
    metric: Metric = None,
    estimate: Estimate = False,
    device: OfDevice = None,
    precision: OfPrecision = "int8",
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Convert a table of another project."""
    from fbnet_zoo.latency.importers.hw_nas_bench import read_hw_nas_bench
    from fbnet_zoo.latency.importers.mobile_vision import read_mobile_vision

    named = name or out.stem
    if form == "hw_nas_bench":
        kind: Literal["measured", "estimate"] = "estimate" if estimate else "measured"
        table = read_hw_nas_bench(file, name=named, metric=metric, kind=kind)
    else:
        source = f"{file.name}, in the form of mobile-vision's look-up table."
        table = read_mobile_vision(file, name=named, precision=precision, device=device, source=source)
    _write(table, out, as_json=as_json)


@app.command(
    "predictor",
    epilog=options.examples(
        "lut predictor --csv latencies.csv --key choices --column 1080ti_1 --space fbnet_cifar --classes 100",
        "lut predictor --csv latencies.csv --key choices --column gold_6226 --space fbnet_cifar --prior pixel3",
    ),
)
def predictor_(  # noqa: PLR0913 - one per option
    csv: Csv,
    column: Columns,
    key: Key = "network",
    space: SpaceName = None,
    classes: Classes = 1000,
    samples: Samples = 100,
    seeds: Seeds = 5,
    prior: Priors = None,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Evaluate latency predictors fitted to a few networks, for devices where sums of operators fail."""
    from fbnet_zoo.cli.lut import show
    from fbnet_zoo.cli.lut.networks import read_networks
    from fbnet_zoo.latency.files import find_table
    from fbnet_zoo.latency.predictor import evaluate

    priors = [find_table(name) for name in prior or ()]
    networks, latencies = read_networks(csv, key=key, columns=column, space=space, classes=classes)
    results = {
        each: evaluate(networks, measured, samples=samples, seeds=range(seeds), priors=priors)
        for each, measured in screen.track(list(zip(column, latencies, strict=True)), "predictor")
    }
    if as_json:
        records: dict[str, Any] = {each: show.evaluated(result) for each, result in results.items()}
        screen.show_json({"predictors": records, "priors": [table.name for table in priors]})
    else:
        screen.show(show.evaluations(results))


def _write(table: "LatencyTable", out: Path, *, as_json: bool) -> None:
    from fbnet_zoo.cli.lut import show
    from fbnet_zoo.latency.files import save_table

    save_table(table, out)
    if as_json:
        screen.show_json({"path": str(out)} | show.about(table))
    else:
        screen.show(f"{out}: {len(table.operators)} operators of {table.device.id}")
