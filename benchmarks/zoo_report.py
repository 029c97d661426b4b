"""Converts, checks and times the whole zoo: run by `make zoo-report`; takes hours and can be interrupted.

Every entry is converted to every format in fp32, and some of each family also in int8, with seeded weights; the files
are then timed one after the other. Results, which the docs show, are saved to `results/zoo.jsonl` as they arrive, and
a second run resumes the first. Files stay in `build/zoo/` until they have been timed.
"""

import argparse
import fnmatch
import os
import shutil
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from multiprocessing import active_children, get_context
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fbnet_zoo import registry
from fbnet_zoo.benchmarks import zoo_results
from fbnet_zoo.benchmarks.devices.host import HostDevice
from fbnet_zoo.benchmarks.measure import Measurement, ModelFile
from fbnet_zoo.benchmarks.zoo_results import FORMATS, LEFT_OUT, RESULTS, TIMED, Latency, ZooResult
from fbnet_zoo.converters import manifest
from fbnet_zoo.converters.artifact import Artifact, Precision
from fbnet_zoo.converters.conversion import convert_each
from fbnet_zoo.converters.targets import TARGETS
from fbnet_zoo.errors import FbnetZooError
from fbnet_zoo.folders import claimed
from fbnet_zoo.interruption import Interrupted, handled, raised, received
from fbnet_zoo.model import FBNet
from fbnet_zoo.stats import summarize
from fbnet_zoo.weights.loading import randomize

FILES = Path("build/zoo")
QUANTIZED: dict[str, tuple[Precision, ...]] = {
    "chamnet_c": ("int8",),
    "chamnet_e": ("int8",),
    "fbnet_b": ("int8", "mixed"),
    "fbnet_c": ("int8",),
    "fbnetv2_f1": ("int8", "mixed"),
    "fbnetv2_f4": ("int8",),
    "fbnetv3_a": ("int8", "mixed"),
    "fbnetv3_b_timm": ("int8",),
    "mobilenet_v2": ("int8",),
    "mobilenet_v3_large": ("int8", "mixed"),
}
SEED, RUNS, WARMUP = 0, 30, 5

Results = dict[tuple[str, str, str], ZooResult]


@dataclass(frozen=True, slots=True, kw_only=True)
class ZooFile:
    """A file to convert."""

    model: str
    target: str
    precision: Precision

    @property
    def key(self) -> tuple[str, str, str]:
        """Key of its `ZooResult`."""
        return self.model, self.target, self.precision


def tasks(pattern: str = "*") -> Iterator[ZooFile]:
    """Yield every file of the report whose entry matches a shell-style pattern (default: all).

    >>> [task.target for task in tasks("fbnetv2_f0")]
    ['onnx', 'coreml', 'executorch']
    """
    names = [name for name in registry.bundled() if name not in LEFT_OUT and fnmatch.fnmatchcase(name, pattern)]
    for name in names:
        for precision in ("fp32", *QUANTIZED.get(name, ())):
            yield from (ZooFile(model=name, target=target, precision=precision) for target in FORMATS)


def make(wanted: Sequence[ZooFile], folder: Path) -> list[ZooResult]:
    """Convert and check files of one network and precision in `folder`; a failure is recorded as a result."""
    model = FBNet(registry.get_spec(wanted[0].model))
    randomize(model, SEED)
    names, precision = [task.target for task in wanted], wanted[0].precision
    outcomes = convert_each(model.eval(), to=names, out=_place(wanted[0], folder), precision=precision)
    return [_result(task, outcome) for task, outcome in zip(wanted, outcomes, strict=True)]


def _result(task: ZooFile, outcome: Artifact | Exception) -> ZooResult:
    if isinstance(outcome, Artifact):
        return describe(outcome)
    return ZooResult(
        model=task.model,
        target=task.target,
        precision=task.precision,
        failed=str(outcome) or type(outcome).__name__,
        versions=manifest.versions(TARGETS[task.target].libraries),
        date=datetime.now(UTC),
    )


def _place(task: ZooFile, folder: Path) -> Path:
    return folder / f"{task.model}-{task.precision}"


def _file(task: ZooFile, folder: Path) -> Path:
    return _place(task, folder) / f"{task.model}.{TARGETS[task.target].suffix}"


def describe(artifact: Artifact) -> ZooResult:
    """Return the result that a manifest describes, without latency."""
    record, facts, worst = artifact.manifest, artifact.manifest.facts, artifact.manifest.parity.worst
    quantized = record.quantization
    return ZooResult(
        model=record.model,
        target=record.target,
        precision=record.precision,
        weights=record.weights,
        size=record.file.size,
        snr_db=quantized.sqnr_db if quantized else (worst.snr_db if worst else None),
        max_error=worst.max_error if worst else None,
        top1_agreement=quantized.top1_agreement if quantized else (worst.top1_agreement if worst else None),
        cases=tuple(case.name for case in record.parity.cases),
        checked_by=record.parity.runtime,
        subgraphs=facts.get("subgraphs"),
        delegated=facts.get("delegated"),
        left=facts.get("left", {}),
        kept=len(quantized.kept) if quantized else 0,
        degraded=bool(quantized and quantized.degraded),
        versions=record.versions,
        date=datetime.now(UTC),
    )


def time_file(device: HostDevice, task: ZooFile, folder: Path) -> Latency:
    """Time a file written by `make`, with one thread.

    Raises:
        DeviceError: the file cannot be run on this machine.
    """
    model = ModelFile(path=_file(task, folder), name=task.model, target=task.target, precision=task.precision)
    return _latency(device.run(model, runs=RUNS, warmup=WARMUP, threads=1))


def _latency(measurement: Measurement) -> Latency:
    summary, info = summarize(measurement.samples_ms), measurement.device
    return Latency(
        median_ms=summary.median,
        low_ms=summary.low or summary.median,
        high_ms=summary.high or summary.median,
        runs=summary.count,
        threads=measurement.threads,
        runtime=measurement.runtime,
        device=f"{info.soc or 'an unknown processor'}, {info.cores} cores",
        versions=measurement.versions,
        date=measurement.date,
    )


def main(arguments: Sequence[str]) -> int:
    """Convert and time what has no result yet; return 1 if a conversion failed."""
    parser = argparse.ArgumentParser(prog="python -m fbnet_zoo.benchmarks.zoo_report", description=__doc__)
    parser.add_argument("--only", metavar="PATTERN", default="*", help="shell-style pattern of names (default: *)")
    parser.add_argument("--jobs", type=int, default=1, help="parallel conversions, 2 GB of memory each (default: 1)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="file of the results, which is updated")
    parser.add_argument("--files", type=Path, default=FILES, help="folder for the converted files, several GB")
    parser.add_argument("--again", action="store_true", help="convert and time everything again")
    asked = parser.parse_args(arguments)
    wanted = list(tasks(asked.only))
    results = zoo_results.read(asked.out)
    if asked.again:
        results = {key: result for key, result in results.items() if key not in {task.key for task in wanted}}
    with claimed(asked.files):
        make_all(wanted, results, asked.out, asked.files, jobs=asked.jobs)
        time_all(wanted, results, asked.out, asked.files)
    return _print_failures([results[task.key] for task in wanted])


def make_all(wanted: Iterable[ZooFile], results: Results, out: Path, folder: Path, *, jobs: int) -> None:
    """Convert the files that have no result yet, or that were deleted before they were timed."""
    missing = _grouped(task for task in wanted if not _is_made(task, results, folder))
    # One process per network: the libraries leak memory, and a crash must not affect other conversions.
    pool = ProcessPoolExecutor(
        max_workers=jobs, mp_context=get_context("spawn"), max_tasks_per_child=1, initializer=_leave_ctrl_c_to_parent
    )
    with pool, _ended_on_error(pool), _progress() as progress:
        bar = progress.add_task("converting", total=len(missing))
        running = [pool.submit(_make, group, folder) for group in missing]
        for future in as_completed(running):
            made = future.result()
            results.update({result.key: result for result in made})
            zoo_results.write(out, results.values())
            progress.update(bar, advance=1, description=f"converted {made[0].model}")


def _leave_ctrl_c_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _make(wanted: Sequence[ZooFile], folder: Path) -> list[ZooResult]:
    """Call `make` in a process of the pool, which tidies up when it is terminated."""
    try:
        with raised():
            return make(wanted, folder)
    except Interrupted:
        os._exit(received() or 1)  # the pool would take an exception for a result, and begin with the next network


@contextmanager
def _ended_on_error(pool: Executor) -> Iterator[None]:
    """Terminate the processes of a pool on an error, and wait until they have tidied up, not until all is done."""
    try:
        yield
    except BaseException:
        for process in active_children():
            process.terminate()
        pool.shutdown(cancel_futures=True)
        raise


def _grouped(wanted: Iterable[ZooFile]) -> list[list[ZooFile]]:
    """Group the files that share an export."""
    return [list(group) for _, group in groupby(wanted, key=lambda task: (task.model, task.precision))]


def _is_made(task: ZooFile, results: Results, folder: Path) -> bool:
    result = results.get(task.key)
    if result is None or result.failed:
        return False
    return task.target not in TIMED or result.latency is not None or _file(task, folder).exists()


def time_all(wanted: Sequence[ZooFile], results: Results, out: Path, folder: Path) -> None:
    """Time the remaining files one after the other, and delete them."""
    waiting = [task for task in wanted if task.target in TIMED and _file(task, folder).exists()]
    with HostDevice() as device, _progress() as progress:
        bar = progress.add_task("timing", total=len(waiting))
        for task in waiting:
            latency = time_file(device, task, folder)
            results[task.key] = results[task.key].model_copy(update={"latency": latency})
            zoo_results.write(out, results.values())
            _file(task, folder).unlink()
            progress.update(bar, advance=1, description=f"timed {task.model}")
    for task in wanted:
        shutil.rmtree(_place(task, folder), ignore_errors=True)


def _progress() -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=Console(stderr=True))


def _print_failures(results: Iterable[ZooResult]) -> int:
    console, failed = Console(stderr=True), [result for result in results if result.failed]
    for result in failed:
        console.print(f"{result.model} {result.target} {result.precision}: {result.failed}", markup=False)
    return int(bool(failed))


if __name__ == "__main__":
    with handled():
        try:
            sys.exit(main(sys.argv[1:]))
        except FbnetZooError as error:
            sys.exit(f"error: {error}")
