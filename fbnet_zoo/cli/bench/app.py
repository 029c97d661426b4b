"""`fbnet-zoo bench`: the latency of converted files, by file and by operator, and comparisons of files."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.table import Table
from rich.text import Text

from fbnet_zoo.atomic import write_atomically
from fbnet_zoo.cli import options, screen
from fbnet_zoo.cli.bench import compare, models, profile, run
from fbnet_zoo.cli.parameters import from_records, several
from fbnet_zoo.converters.artifact import Precision
from fbnet_zoo.converters.targets import TARGETS, TORCH
from fbnet_zoo.errors import InputError
from fbnet_zoo.folders import temporary

Words = Annotated[
    list[str], typer.Argument(metavar="FILE|NAME...", help="converted files, or networks to convert first")
]
File = Annotated[Path, typer.Argument(metavar="FILE", help="a converted file, or a trace (.etdp or JSON)")]
Side = Annotated[
    str, typer.Argument(metavar="A|B", help="a file, a store (.jsonl), or MODEL:TARGET:PRECISION in --store")
]
Device = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="host; android, android:SERIAL or, for run, android:all; ios or mac, with compute units: mac:cpu_and_ne",
    ),
]
Minibench = Annotated[
    Path | None, typer.Option(metavar="FILE", help="also write the results in the format of ExecuTorch's Android app")
]
ProfileOut = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="write the profile as JSON")]
Html = Annotated[Path | None, typer.Option(metavar="FILE", help="write the profile as a page")]
Top = Annotated[int | None, typer.Option(metavar="K", min=1, help="only the K slowest operators")]

app = typer.Typer()


@app.callback(invoke_without_command=True)
def _root(context: typer.Context) -> None:
    """Measure, profile and compare converted files."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(
    "run",
    cls=several(to=[*TARGETS, TORCH], precision=get_args(Precision)),
    epilog=options.examples(
        "bench run build/fbnet_b.onnx build/fbnet_b.pte --out results.jsonl",
        "bench run fbnet_b --weights none --to onnx executorch torch",
        "bench run fbnet_b.pte --device android --energy --out phone.jsonl",
        "bench run fbnet_b.pte --device android:all --runner executor_runner --out phones.jsonl --resume",
    ),
)
@from_records
def run_(
    words: Words,
    conversion: models.Conversion,
    settings: run.RunSettings,
    device: Device = "host",
    runner: options.Runner = None,
    minibench: Minibench = None,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Measure files in turn, each time in a new process."""
    if settings.resume and settings.out is None:
        raise InputError("--resume needs the file with the earlier measurements; name it with --out")
    with _folder(conversion.keep) as folder, ExitStack() as stack:
        devices = _devices(device, runner, stack)
        for each in devices.values() if settings.energy else ():
            each.energy_meter()  # refuses a device that reports no energy, before any work
        found = models.find_models(words, conversion, device=device, folder=folder)
        outcome = run.measure(devices, found.models, settings)
    failures = [*found.failures, *run.failures(outcome)]
    if minibench:
        _write_minibench(outcome, minibench)
    _show_run(outcome, failures, out=settings.out, as_json=as_json)
    raise typer.Exit(int(bool(failures)))


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        yield keep
        return
    with temporary() as folder:
        yield folder


def _devices(name: str, runner: Path | None, stack: ExitStack) -> dict[str, Any]:
    from fbnet_zoo.benchmarks.devices.discovery import open_devices

    devices = open_devices(name, runner=runner)
    for device in devices.values():
        stack.enter_context(device)
    return devices


def _write_minibench(outcome: run.Outcome, path: Path) -> None:
    from fbnet_zoo.benchmarks.minibench import write_minibench

    write_minibench(outcome.measurements, path)


def _show_run(outcome: run.Outcome, failures: list[dict[str, Any]], *, out: Path | None, as_json: bool) -> None:
    records = run.results(outcome.measurements)
    compared = run.comparisons(outcome.measurements)
    if as_json:
        store = str(out) if out else None
        screen.show_json({"results": records, "comparisons": compared, "failures": failures, "store": store})
    elif records:
        screen.show(run.table(records), *([Text()] if compared else []), *map(compare.line, compared))


@app.command(
    "profile",
    epilog=options.examples(
        "bench profile build/fbnet_b.onnx --html profile.html",
        "bench profile build/fbnet_b.pte --device android --runner executor_runner_with_tracer --top 20",
        "bench profile trace.etdp --out profile.json",
    ),
)
def profile_(  # noqa: PLR0913 - one per option
    file: File,
    device: Device = "host",
    runner: options.Runner = None,
    runs: options.Runs = compare.RUNS,
    threads: options.Threads = 1,
    top: Top = None,
    out: ProfileOut = None,
    html: Html = None,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Show the time of each operator, and the share outside the delegate."""
    from fbnet_zoo.benchmarks.devices.discovery import open_device

    if profile.is_trace(file):
        found = profile.read(file)
    else:
        model = models.from_file(file, device)
        found = profile.trace(model, open_device(device, runner=runner), runs=runs, threads=threads)
    if out:
        write_atomically(out, found.model_dump_json(indent=2) + "\n")
    if html:
        from fbnet_zoo.report import profile_page

        write_atomically(html, profile_page(found))
    if as_json:
        screen.show_json(found.model_dump(mode="json"))
    else:
        screen.show(profile.page(found, top=top))


@app.command(
    "compare",
    epilog=options.examples(
        "bench compare before.jsonl after.jsonl",
        "bench compare fbnet_b:onnx:fp32 fbnet_b:onnx:int8 --store results.jsonl",
        "bench compare build/fbnet_b.onnx build/fbnet_b.pte --pairs 20",
    ),
)
@from_records
def compare_(
    a: Side,
    b: Side,
    settings: compare.CompareSettings,
    device: Device = "host",
    runner: options.Runner = None,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Compare stored measurements, or files measured in turn: ratio of latencies with a 95 % interval."""
    if compare.is_store(a) and compare.is_store(b):
        compared = compare.of_stores(Path(a), Path(b))
    elif models.is_file(a) and models.is_file(b):
        from fbnet_zoo.benchmarks.devices.discovery import open_device

        files = models.from_file(Path(a), device), models.from_file(Path(b), device)
        compared = [compare.of_files(*files, open_device(device, runner=runner), settings)]
    elif settings.store is None:
        raise InputError(f"{a} and {b} are neither two files nor two stores; name the store of selections with --store")
    else:
        compared = [compare.of_selections(a, b, settings.store)]
    if as_json:
        screen.show_json({"comparisons": compared})
    else:
        screen.show(*map(compare.line, compared))


@app.command("devices", epilog=options.examples("bench devices", "bench devices --runner executor_runner --json"))
def devices_(runner: options.Runner = None, as_json: options.Json = False, verbose: options.Verbose = False) -> None:
    """List the devices to measure on, and what the others lack."""
    from dataclasses import asdict

    from fbnet_zoo.benchmarks.devices.discovery import survey

    findings = list(survey(runner=runner))
    if as_json:
        screen.show_json({"devices": [asdict(finding) for finding in findings]})
        return
    table = Table.grid(padding=(0, 2))
    for finding in findings:
        ready = Text("ready", style="green") if finding.usable else Text("missing", style="yellow")
        table.add_row(Text(finding.name, style="bold"), ready, finding.about)
    screen.show(table)
