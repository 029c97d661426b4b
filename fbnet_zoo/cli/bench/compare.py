"""`fbnet-zoo bench compare`: the ratio of two latencies, with an interval."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from fbnet_zoo.cli import options, screen
from fbnet_zoo.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from fbnet_zoo.benchmarks.measure import Device, Measurement, ModelFile

STORE_SUFFIX = ".jsonl"
RUNS = 20
_PARTS = ("model", "target", "precision")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How to time a file.

    Attributes:
        runs: number of timed runs in each process.
        warmup: number of warm-up runs in each process.
        threads: number of threads.
    """

    runs: options.Runs = RUNS
    warmup: Annotated[int, typer.Option(metavar="N", min=1, help="number of warm-up runs in each process")] = 3
    threads: options.Threads = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareSettings(Timing):
    """How to measure two files, in `pairs` processes each, in turn."""

    pairs: Annotated[int, typer.Option(metavar="N", help="number of processes for each of two files, in turn")] = 10
    store: Annotated[
        Path | None, typer.Option(metavar="FILE", help="file of the selections, and of new measurements (JSON lines)")
    ] = None


def grouped(measurements: "Iterable[Measurement]") -> "dict[tuple[object, ...], list[Measurement]]":
    """Return the measurements of each file content on each device and number of threads."""
    groups: dict[tuple[object, ...], list[Measurement]] = {}
    for each in measurements:
        key = each.device.id, each.sha256, each.file, each.precision, each.runtime, each.threads
        groups.setdefault(key, []).append(each)
    return groups


def is_store(word: str) -> bool:
    """Return whether a word names a store of measurements."""
    return Path(word).suffix == STORE_SUFFIX


def of_stores(a: Path, b: Path) -> list[dict[str, Any]]:
    """Compare two stores where they have the same network, format, precision and number of threads.

    Raises:
        InputError: a store cannot be read, or the stores have nothing in common.
    """
    from fbnet_zoo.benchmarks import store

    first, second = (_by_kind(store.read(path)) for path in (a, b))
    shared = [kind for kind in first if kind in second]
    if not shared:
        raise InputError(f"{a} and {b} have no network in common in the same format and precision on the same device")
    return [record(first[kind], second[kind], labels=(_label(kind, a), _label(kind, b))) for kind in shared]


def _by_kind(measurements: "Iterable[Measurement]") -> "dict[tuple[str, ...], list[Measurement]]":
    kinds: dict[tuple[str, ...], list[Measurement]] = {}
    for each in measurements:
        kind = each.model, each.target, each.precision, str(each.threads), each.device.id
        kinds.setdefault(kind, []).append(each)
    return kinds


def _label(kind: Sequence[str], path: Path) -> str:
    return f"{':'.join(kind[:3])} in {path}"


def of_selections(a: str, b: str, path: Path) -> dict[str, Any]:
    """Compare two selections of a store, such as `fbnet_b:onnx:int8`; parts at the end may be left out.

    Raises:
        InputError: the store cannot be read, or a selection is empty or matches several files.
    """
    from fbnet_zoo.benchmarks import store

    stored = store.read(path)
    return record(_select(stored, a, path), _select(stored, b, path), labels=(a, b))


def _select(stored: "Sequence[Measurement]", selection: str, path: Path) -> "list[Measurement]":
    words = selection.split(":")
    chosen = [each for each in stored if _parts(each)[: len(words)] == words]
    kinds = sorted({":".join(_parts(each)) for each in (chosen or stored)})
    if len(words) > len(_PARTS) or not chosen:
        hint = did_you_mean(selection, kinds) or f"; it has {', '.join(kinds) or 'nothing'}"
        raise InputError(f"{path} has no measurements of {selection!r}, MODEL:TARGET:PRECISION{hint}")
    if len(kinds) > 1:
        raise InputError(f"{selection!r} matches several in {path}; choose one of {', '.join(kinds)}")
    return _of_last_content(chosen, selection)


def _parts(measurement: "Measurement") -> list[str]:
    return [getattr(measurement, part) for part in _PARTS]


def _of_last_content(chosen: "list[Measurement]", selection: str) -> "list[Measurement]":
    last = max(chosen, key=lambda each: each.date).sha256
    kept = [each for each in chosen if each.sha256 == last]
    if len(kept) < len(chosen):
        older = len(chosen) - len(kept)
        screen.say("note", f"{selection}: skipped {older} measurements of an earlier file", "cyan")
    return kept


def of_files(a: "ModelFile", b: "ModelFile", device: "Device", settings: CompareSettings) -> dict[str, Any]:
    """Measure two files in turn, each time in a new process, and compare them pair by pair.

    Raises:
        InputError: a file or a setting is wrong.
        DeviceError: the device or its runtime failed; completed measurements are in the store.
        MissingExtraError: a runtime is not installed.
    """
    from fbnet_zoo.benchmarks import store
    from fbnet_zoo.benchmarks.compare import measure_pairs

    done: list[Measurement] = []
    with device, screen.steps("comparing", 2 * settings.pairs + 1) as progress:
        progress(f"{settings.pairs} pairs")
        for measurement in measure_pairs(
            lambda model: device.run(model, (), settings.runs, settings.warmup, settings.threads),
            a,
            b,
            pairs=settings.pairs,
        ):
            done.append(measurement)
            if settings.store:
                store.append(settings.store, measurement)
            progress(measurement.file)
    sides = ([each for number, each in enumerate(done) if (number % 4 in {0, 3}) is side] for side in (True, False))
    return record(*sides, labels=(str(a.path), str(b.path)))


def record(
    a: "Sequence[Measurement]", b: "Sequence[Measurement]", *, labels: tuple[str, str] | None = None
) -> dict[str, Any]:
    """Return the comparison of two sides, named by their files or by `labels`.

    Raises:
        InputError: a side has fewer than five timings, or the conditions differ.
    """
    from fbnet_zoo.benchmarks.compare import compare

    found = compare(a, b)
    return {
        **dict(zip(("a", "b"), labels or (a[0].file, b[0].file), strict=True)),
        "a_median_ms": found.a.median,
        "b_median_ms": found.b.median,
        **asdict(found.ratio),
        "differs": found.ratio.differs,
        "throttled": found.throttled,
    }


def line(comparison: dict[str, Any]) -> Text:
    """Return a comparison as a sentence."""
    a, b, pairs = comparison["a"], comparison["b"], comparison["pairs"]
    ends = f"{comparison['low']:.3f} to {comparison['high']:.3f}"
    how = f"95 % interval of {pairs} pairs" if pairs else "95 % interval, not measured in turn"
    medians = f"{comparison['a_median_ms']:.3f} and {comparison['b_median_ms']:.3f} ms"
    throttled = "; the device throttled" if comparison["throttled"] else ""
    if not comparison["differs"]:
        return Text(f"{a} and {b}: no difference shown (ratio {ends}, {how}; {medians}{throttled})")
    return Text(f"{b} takes {comparison['ratio']:.3f} times as long as {a} ({ends}, {how}; {medians}{throttled})")
