"""`fbnet-zoo bench`: how fast converted files are, which operators take the time, which of two files is faster."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.table import Table
from rich.text import Text
from typer.core import TyperCommand

from fbnet_zoo.atomic import write_atomically
from fbnet_zoo.cli import convert, options, screen
from fbnet_zoo.cli.bench import compare, models, profile, run
from fbnet_zoo.converters.artifact import Precision
from fbnet_zoo.errors import InputError

_RUNS, _WARMUP, _PAIRS = 20, 3, 10

Words = Annotated[
    list[str], typer.Argument(metavar="FILE|NAME...", help="Converted files, or networks to be converted first.")
]
File = Annotated[Path, typer.Argument(metavar="FILE", help="A converted file, or a trace: .etdp, or JSON.")]
Side = Annotated[
    str, typer.Argument(metavar="A|B", help="A file, a store (.jsonl), or MODEL:TARGET:PRECISION in --store.")
]
To = Annotated[
    list[str] | None,
    typer.Option(metavar="TARGET...", help="Formats of networks: those of convert, or torch; what suits the device."),
]
Precisions = Annotated[
    list[str] | None, typer.Option("--precision", metavar="P...", help="Of networks; fp32 if not said.")
]
Device = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="host; android, android:SERIAL or, for run, android:all; ios or mac, also with units: mac:cpu_and_ne.",
    ),
]
Runner = Annotated[
    Path | None,
    typer.Option(metavar="PATH", help="ExecuTorch's executor_runner for Android; else what FBNET_ZOO_RUNNER names."),
]
Runs = Annotated[int, typer.Option(metavar="N", min=1, help="Runs that count, in each process.")]
Warmup = Annotated[int, typer.Option(metavar="N", min=1, help="Runs before them.")]
Threads = Annotated[int, typer.Option(metavar="N", min=1, help="Threads, each bound to a core where possible.")]
Repeat = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help=f"Processes for each file; {run.SEVERAL} if there are several files, else 1."
    ),
]
Pairs = Annotated[int, typer.Option(metavar="N", help="Processes for each of two files, in turn.")]
Store = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="Add every measurement to this file, JSON lines.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Leave out what the file of --out has already.")]
Minibench = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Also write the results as ExecuTorch's Android app does.")
]
Keep = Annotated[Path | None, typer.Option(metavar="DIR", help="Keep the files that networks are converted to.")]
ProfileOut = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the profile as JSON.")]
Html = Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page that shows it.")]
Top = Annotated[int | None, typer.Option(metavar="K", min=1, help="Only the K slowest operators.")]
CompareStore = Annotated[
    Path | None, typer.Option("--store", metavar="FILE", help="Where selections are from, and measurements go to.")
]

app = typer.Typer()


@app.callback(invoke_without_command=True)
def _root(context: typer.Context) -> None:
    """How fast converted files are, which operators take the time, which of two files is faster."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


class _RunCommand(TyperCommand):
    """Lets several values follow one `--to` and one `--precision`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        spread = convert.spread(args, "--to")
        return super().parse_args(ctx, convert.spread(spread, "--precision", get_args(Precision).__contains__))


@app.command(
    "run",
    cls=_RunCommand,
    epilog=options.examples(
        "bench run build/fbnet_b.onnx build/fbnet_b.pte --out results.jsonl",
        "bench run fbnet_b --weights none --to onnx executorch torch",
        "bench run fbnet_b.pte --device android:all --runner executor_runner --out phones.jsonl --resume",
    ),
)
def run_(  # noqa: PLR0913 - one per option
    words: Words,
    to: To = None,
    precision: Precisions = None,
    weights: options.Weights = None,
    seed: options.Seed = None,
    keep: Keep = None,
    device: Device = "host",
    runner: Runner = None,
    runs: Runs = _RUNS,
    warmup: Warmup = _WARMUP,
    threads: Threads = 1,
    repeat: Repeat = None,
    out: Store = None,
    resume: Resume = False,
    minibench: Minibench = None,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Measure files, several in turn, each time in a process of its own."""
    if resume and out is None:
        raise InputError("--resume goes on with the measurements of a file; name it with --out")
    settings = run.Settings(runs=runs, warmup=warmup, threads=threads, repeat=repeat, store=out, resume=resume)
    with _folder(keep) as folder, ExitStack() as stack:
        devices = _devices(device, runner, stack)
        conversion = models.Conversion(
            to=convert.split(to or ()),
            precisions=convert.split(precision or ()),
            weights=weights,
            seed=seed,
            out=folder,
        )
        found = models.find_models(words, conversion, device=device)
        outcome = run.measure(devices, found.models, settings)
    failures = [*found.failures, *run.failures(outcome)]
    if minibench:
        _write_minibench(outcome, minibench)
    _show_run(outcome, failures, out=out, as_json=as_json)
    raise typer.Exit(int(bool(failures)))


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="fbnet_zoo-") as folder:
        yield Path(folder)


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
    runner: Runner = None,
    runs: Runs = _RUNS,
    threads: Threads = 1,
    top: Top = None,
    out: ProfileOut = None,
    html: Html = None,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Show how long each operator takes, and how much of that is outside of a delegate."""
    from fbnet_zoo.benchmarks.devices.discovery import open_device

    if profile.is_trace(file):
        found = profile.read(file)
    else:
        model = models.from_file(file, device)
        found = profile.trace(model, open_device(device, runner=runner), runs=runs, threads=threads)
    if out:
        write_atomically(out, found.model_dump_json(indent=2) + "\n")
    if html:
        from fbnet_zoo.report import profile as report

        write_atomically(html, report.page(found))
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
def compare_(  # noqa: PLR0913 - one per option
    a: Side,
    b: Side,
    store: CompareStore = None,
    device: Device = "host",
    runner: Runner = None,
    runs: Runs = _RUNS,
    warmup: Warmup = _WARMUP,
    threads: Threads = 1,
    pairs: Pairs = _PAIRS,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Tell which of two is faster, with a 95 % interval: stored measurements, or files that are measured in turn."""
    if compare.is_store(a) and compare.is_store(b):
        compared = compare.of_stores(Path(a), Path(b))
    elif models.is_file(a) and models.is_file(b):
        from fbnet_zoo.benchmarks.devices.discovery import open_device

        settings = compare.Settings(runs=runs, warmup=warmup, threads=threads, pairs=pairs, store=store)
        files = models.from_file(Path(a), device), models.from_file(Path(b), device)
        compared = [compare.of_files(*files, open_device(device, runner=runner), settings)]
    elif store is None:
        raise InputError(f"{a} and {b} are neither two files nor two stores; name the store of selections with --store")
    else:
        compared = [compare.of_selections(a, b, store)]
    if as_json:
        screen.show_json({"comparisons": compared})
    else:
        screen.show(*map(compare.line, compared))


@app.command("devices", epilog=options.examples("bench devices", "bench devices --runner executor_runner --json"))
def devices_(runner: Runner = None, as_json: options.Json = False, verbose: options.Verbose = False) -> None:
    """Say what can be measured on, and what is missing where that is not so."""
    from dataclasses import asdict

    from fbnet_zoo.benchmarks.devices.discovery import survey

    findings = list(survey(runner=runner))
    if as_json:
        screen.show_json({"devices": [asdict(finding) for finding in findings]})
        return
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for finding in findings:
        ready = Text("ready", style="green") if finding.usable else Text("missing", style="yellow")
        table.add_row(Text(finding.name, style="bold"), ready, finding.about)
    screen.show(table)
