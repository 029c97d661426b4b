"""`fbnet-zoo lut measure`: measure the latency table of a search space on a device."""

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table
from rich.text import Text

from fbnet_zoo.cli import options, screen
from fbnet_zoo.converters.targets import RUNTIMES, TARGETS, TORCH, require_libraries
from fbnet_zoo.errors import InputError
from fbnet_zoo.folders import claimed

if TYPE_CHECKING:
    from fbnet_zoo.benchmarks.lut.measuring import NetworkLatency
    from fbnet_zoo.benchmarks.measure import Device
    from fbnet_zoo.latency.table import LatencyTable

_DEVICES = {
    device: tuple(runtime.name for runtime in RUNTIMES.values() if device in runtime.devices)
    for device in ("host", "android")
}
_ETHOSU = "ethosu"
_MEASURING = ("runner", "runtime", "precision", "threads", "rounds", "spread")
_ESTIMATING = ("config", "system_config", "memory_mode")
_FEWEST_NETWORKS = 3

SpaceName = Annotated[str, typer.Option("--space", metavar="NAME|PATH", help="search space whose operators to measure")]
Out = Annotated[Path, typer.Option("--out", metavar="FILE", help="table to write (.json); its name is the file's")]
DeviceName = Annotated[
    str, typer.Option("--device", metavar="NAME", help="host; android or android:SERIAL; ethosu (estimated)")
]
Runtime = Annotated[
    Literal["executorch", "onnxruntime", "torch"],
    typer.Option(metavar="NAME", help="executorch (XNNPACK), onnxruntime or torch; phones: executorch only"),
]
Precision = Annotated[
    Literal["fp32", "fp16", "int8"], typer.Option(metavar="fp32|fp16|int8", help="precision of weights and arithmetic")
]
Classes = Annotated[int, typer.Option(metavar="N", min=1, help="number of classes")]
Validate = Annotated[
    int,
    typer.Option(
        metavar="N", min=0, help="whole networks to check the sums with: N random ones and those of the zoo; 0: none"
    ),
]
Count = Annotated[int, typer.Option("--rounds", metavar="N", min=1, help="lowest number of rounds over all operators")]
Spread = Annotated[
    float,
    typer.Option(
        metavar="X", help="largest relative difference of rounds before more are added", callback=options.finite
    ),
]
Config = Annotated[str, typer.Option(metavar="NAME", help="ethosu: family and MACs per cycle, such as ethos-u85-256")]
SystemConfig = Annotated[
    str | None, typer.Option(metavar="NAME", help="ethosu: Vela's name of the clock and the memories")
]
MemoryMode = Annotated[
    str | None, typer.Option(metavar="NAME", help="ethosu: Vela's name of the placement in memories")
]
Resume = Annotated[bool, typer.Option("--resume", help="resume an interrupted run")]

EPILOG = options.examples(
    "lut measure --space digits_tiny --classes 10 --out host.json",
    "lut measure --space fbnet --device android --runner executor_runner --out phone.json",
    "lut measure --space fbnet --device android --runner executor_runner --precision int8 --out phone_int8.json",
    "lut measure --space fbnet --runtime onnxruntime --out host_onnx.json --resume",
    "lut measure --space digits_tiny --classes 10 --device ethosu --config ethos-u55-128 --out u55.json",
)


def command(  # noqa: PLR0913 - one per option
    context: typer.Context,
    space: SpaceName,
    out: Out,
    device: DeviceName = "host",
    runner: options.Runner = None,
    runtime: Runtime = "executorch",
    precision: Precision = "fp32",
    threads: options.Threads = 1,
    classes: Classes = 1000,
    validate: Validate = 20,
    rounds: Count = 5,
    spread: Spread = 0.05,
    config: Config = "ethos-u55-128",
    system_config: SystemConfig = None,
    memory_mode: MemoryMode = None,
    resume: Resume = False,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Measure every operator of a search space, and how well sums agree with whole networks."""
    name, partial = _table_name(out), out.with_name(f"{out.stem}.partial")
    estimated = device == _ETHOSU
    _check_idle(context, device)
    _check(device, runtime, precision, validate)
    _check_partial(partial, resume=resume)
    from fbnet_zoo.benchmarks.lut.measuring import TableJob, held_out
    from fbnet_zoo.benchmarks.lut.operator_files import TFLITE, Writer
    from fbnet_zoo.benchmarks.lut.rounds import Rounds
    from fbnet_zoo.latency.files import save_table
    from fbnet_zoo.space import load_space

    loaded, settings = load_space(space), Rounds(count=1 if estimated else rounds, spread=spread, threads=threads)
    side = _ethosu(config, system_config, memory_mode) if estimated else _real(device, runner)
    with side as opened, _kept(partial):
        job = TableJob(
            name=name,
            space=loaded,
            num_classes=classes,
            networks=held_out(loaded, validate) if validate else (),
            writer=Writer(
                target=TFLITE if estimated else RUNTIMES[runtime].target,
                precision="int8" if estimated else precision,
                frame=loaded.frame,
                folder=partial,
            ),
            rounds=settings,
            kind="estimate" if estimated else "measured",
        )
        table, networks = job.measure(opened, partial / "measurements.jsonl", screen.steps)
        save_table(table, out)
        shutil.rmtree(partial)
    _show(table, networks, out, as_json=as_json)


def _real(device: str, runner: Path | None) -> "Device":
    from fbnet_zoo.benchmarks.devices.discovery import open_device

    return open_device(device, runner=runner)


def _ethosu(accelerator: str, system: str | None, memory: str | None) -> "Device":
    from fbnet_zoo.benchmarks.devices.ethosu import Configuration, EthosUDevice

    return EthosUDevice(Configuration.find(accelerator, system, memory))


def _table_name(out: Path) -> str:
    """Return the name of the new table, checked before anything is measured."""
    if out.suffix != ".json" or not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", out.stem):
        raise InputError(
            f"--out cannot be {out}: the file names the table; expected lower-case letters, digits and '_', then .json"
        )
    return out.stem


def _check_idle(context: typer.Context, device: str) -> None:
    """Refuse options that have no effect on a device."""
    idle = _MEASURING if device == _ETHOSU else _ESTIMATING
    used = [name for name in idle if str(context.get_parameter_source(name)).endswith("COMMANDLINE")]
    if used:
        option = f"--{used[0].replace('_', '-')}"
        raise InputError(f"{option} has no effect on the device {device}; leave it out")


def _check(device: str, runtime: str, precision: str, validate: int) -> None:
    kind = device.partition(":")[0]
    if kind == _ETHOSU and device != kind:
        raise InputError(f"there is no device {device!r}; use --device {kind} --config {device.partition(':')[2]}")
    if kind in {"ios", "mac"}:
        raise InputError(f"operators cannot be measured on {kind}; expected {' or '.join(_DEVICES)}")
    if runtime not in _DEVICES.get(kind, RUNTIMES):
        raise InputError(
            f"the device {kind} runs {' and '.join(_DEVICES[kind])}, not {runtime}; choose another --runtime"
        )
    target = RUNTIMES[runtime].target
    if target == TORCH and precision != "fp32":
        raise InputError(
            f"torch is measured in fp32 only; leave out --precision {precision}, or choose another --runtime"
        )
    if 0 < validate < _FEWEST_NETWORKS:
        raise InputError(
            f"--validate cannot be {validate}; expected at least {_FEWEST_NETWORKS} networks, or 0 for none"
        )
    if target in TARGETS and kind != _ETHOSU:
        require_libraries(TARGETS[target])


def _check_partial(partial: Path, *, resume: bool) -> None:
    if partial.exists() and not resume:
        raise InputError(f"{partial} belongs to an interrupted run; resume it with --resume, or delete the folder")


@contextmanager
def _kept(partial: Path) -> Iterator[None]:
    """Claim the folder of files and measurements, and name it if the command ends before the table is written."""
    with claimed(partial):
        try:
            yield
        except BaseException:
            text = f"{partial} keeps the measurements so far; the same command with --resume continues"
            screen.say("note", text, "cyan")
            raise


def _show(table: "LatencyTable", networks: "Sequence[NetworkLatency]", out: Path, *, as_json: bool) -> None:
    from fbnet_zoo.cli.lut import show
    from fbnet_zoo.latency.checks import table_warnings

    warnings = table_warnings(table)
    if as_json:
        about: dict[str, Any] = {"path": str(out)} | show.about(table)
        screen.show_json(about | {"warnings": list(warnings), "networks": [asdict(network) for network in networks]})
        return
    for warning in warnings:
        screen.say("warning", warning, "yellow")
    if networks:
        screen.show(_networks(networks, "whole" if table.kind == "estimate" else "measured"), Text())
    screen.show(f"{out}: {len(table.operators)} operators of {show.device_of(table)}, {len(warnings)} warnings")
    if table.calibration:
        screen.show(show.fitted(table.calibration))


def _networks(networks: "Sequence[NetworkLatency]", measured: str) -> Table:
    lines = screen.table("network", f">{measured}\nms", ">predicted\nms", ">sum\nms")
    for each in networks:
        times = (each.measured_ms, each.predicted_ms, each.sum_ms)
        lines.add_row(Text(each.network, style="bold"), *(f"{time_ms:.4f}" for time_ms in times))
    return lines
