"""Converts, checks and times the whole zoo: run by `make zoo-report`, hours of work that may be interrupted.

Every entry is converted to every format in fp32, and some of each family in int8 as well, with seeded weights; the
files are then timed one after the other. Results are kept in `results/zoo.jsonl` as they come, and a second run goes
on after the first; the docs show them. Files lie in `build/zoo/` until they have been timed.
"""

import argparse
import fnmatch
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from multiprocessing import get_context
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
from fbnet_zoo.converters.convert import convert_each
from fbnet_zoo.converters.targets import TARGETS
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
class Task:
    """A file to be made."""

    model: str
    target: str
    precision: Precision

    @property
    def key(self) -> tuple[str, str, str]:
        """What there is one result of."""
        return self.model, self.target, self.precision


def tasks(pattern: str = "*") -> Iterator[Task]:
    """Yield every file that the report is about, or those of the entries that a shell's pattern fits.

    >>> [task.target for task in tasks("fbnetv2_f0")]
    ['onnx', 'coreml', 'executorch']
    """
    names = [name for name in registry.bundled() if name not in LEFT_OUT and fnmatch.fnmatchcase(name, pattern)]
    for name in names:
        for precision in ("fp32", *QUANTIZED.get(name, ())):
            yield from (Task(model=name, target=target, precision=precision) for target in FORMATS)


def make(wanted: Sequence[Task], folder: Path) -> list[ZooResult]:
    """Convert and check files of one network and precision, which stay in `folder`; a failure is a result, too."""
    model = FBNet(registry.get_spec(wanted[0].model))
    randomize(model, SEED)
    names, precision = [task.target for task in wanted], wanted[0].precision
    outcomes = convert_each(model.eval(), to=names, out=_place(wanted[0], folder), precision=precision)
    return [_result(task, outcome) for task, outcome in zip(wanted, outcomes, strict=True)]


def _result(task: Task, outcome: Artifact | Exception) -> ZooResult:
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


def _place(task: Task, folder: Path) -> Path:
    return folder / f"{task.model}-{task.precision}"


def _file(task: Task, folder: Path) -> Path:
    return _place(task, folder) / f"{task.model}.{TARGETS[task.target].suffix}"


def describe(artifact: Artifact) -> ZooResult:
    """Return what a manifest tells of a file, without its latency."""
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


def time_file(device: HostDevice, task: Task, folder: Path) -> Latency:
    """Time a file that `make` has made, with one thread.

    Raises:
        DeviceError: it cannot be run here.
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
    """Do what is not done yet; return 1 if a file could not be made or timed."""
    parser = argparse.ArgumentParser(prog="python -m fbnet_zoo.benchmarks.zoo_report", description=__doc__)
    parser.add_argument("--only", metavar="PATTERN", default="*", help="entries that a shell's pattern fits")
    parser.add_argument("--jobs", type=int, default=1, help="conversions at the same time; 2 GB of memory each")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the results, which are kept and added to")
    parser.add_argument("--files", type=Path, default=FILES, help="a folder for the files, several GB")
    parser.add_argument("--again", action="store_true", help="make and time everything again")
    asked = parser.parse_args(arguments)
    wanted = list(tasks(asked.only))
    results = zoo_results.read(asked.out)
    if asked.again:
        results = {key: result for key, result in results.items() if key not in {task.key for task in wanted}}
    make_all(wanted, results, asked.out, asked.files, jobs=asked.jobs)
    time_all(wanted, results, asked.out, asked.files)
    return _tell([results[task.key] for task in wanted])


def make_all(wanted: Iterable[Task], results: Results, out: Path, folder: Path, *, jobs: int) -> None:
    """Make the files that have no result yet, or whose file has gone before it was timed."""
    missing = _grouped(task for task in wanted if not _is_made(task, results, folder))
    # a process for each file: the libraries keep memory, and one that dies takes nothing with it
    pool = ProcessPoolExecutor(max_workers=jobs, mp_context=get_context("spawn"), max_tasks_per_child=1)
    with pool, _progress() as progress:
        bar = progress.add_task("converting", total=len(missing))
        running = [pool.submit(make, group, folder) for group in missing]
        for future in as_completed(running):
            made = future.result()
            results.update({result.key: result for result in made})
            zoo_results.write(out, results.values())
            progress.update(bar, advance=1, description=f"converted {made[0].model}")


def _grouped(wanted: Iterable[Task]) -> list[list[Task]]:
    """Put together what shares an export."""
    return [list(group) for _, group in groupby(wanted, key=lambda task: (task.model, task.precision))]


def _is_made(task: Task, results: Results, folder: Path) -> bool:
    result = results.get(task.key)
    if result is None or result.failed:
        return False
    return task.target not in TIMED or result.latency is not None or _file(task, folder).exists()


def time_all(wanted: Sequence[Task], results: Results, out: Path, folder: Path) -> None:
    """Time the files that have not been timed, one after the other, and remove them."""
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


def _tell(results: Iterable[ZooResult]) -> int:
    console, failed = Console(stderr=True), 0
    for result in results:
        if result.failed:
            failed += 1
            console.print(f"{result.model} {result.target} {result.precision}: {result.failed}", markup=False)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
