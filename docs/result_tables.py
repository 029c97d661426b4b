"""The page `docs/results.md`: every converted file of the zoo, from `benchmarks/results/zoo.jsonl`."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import chain

from fbnet_zoo.benchmarks import zoo_results
from fbnet_zoo.registry import bundled
from markdown_parts import table

Results = Mapping[tuple[str, str, str], zoo_results.ZooResult]

INTRODUCTION = """# Every file of the zoo

`make zoo-report` converts every entry to ONNX, Core ML and ExecuTorch (XNNPACK), with seeded random weights, checks
each file against PyTorch and times it on the machine that runs the command. "dB" is the signal-to-noise ratio of the
logits in the worst case; every file agrees with PyTorch on the top-1 class of every case. The required ratio is 10 dB
lower for single-color images than for photographs, since all pixels have the same rounding error. "ms" is the median of
{runs} runs of one image on {threads} thread{plural}, each file in its own process. Outside macOS, Core ML files are
evaluated by a reference interpreter, which has no meaningful latency. "outside" is the number of operators not
delegated to XNNPACK. In a saturated photograph, every pixel is black or white.

{conditions}
"""
QUANTIZED = """
## Eight bits

"size" and "speed" are relative to the fp32 file of the same network and format. "SQNR" and "top-1 same" compare the
outputs on the evaluation crops of the shipped photographs with those of PyTorch in float32. With random weights, the
agreement reflects numerical accuracy, not classification accuracy: `degraded` marks files below the limit, which would
be refused with trained weights. `int8` quantizes all layers; `mixed` keeps the number of layers in brackets in float.
"""


def results_page() -> str:
    """Return the tables of converted, checked and timed files."""
    results = zoo_results.read(zoo_results.RESULTS)
    parts = [_introduction(results), _fp32_table(results), _left_out(), _failures(results)]
    return "".join((*parts, QUANTIZED, "\n", _quantized_table(results)))


def _introduction(results: Results) -> str:
    timed = [result.latency for result in results.values() if result.latency]
    runs, threads = timed[0].runs, timed[0].threads
    devices = sorted({latency.device for latency in timed})
    days = sorted({result.date.date().isoformat() for result in results.values()})
    versions = dict(sorted(set(chain.from_iterable(result.versions.items() for result in results.values()))))
    conditions = (
        f"Written on {' to '.join(sorted({days[0], days[-1]}))} on {'; '.join(devices)}, with "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + "."
    )
    conditions += "\n\n" + "\n".join(_cases(results))
    return INTRODUCTION.format(runs=runs, threads=threads, plural="s" * (threads > 1), conditions=conditions)


def _cases(results: Results) -> Iterator[str]:
    """Yield the images that the fp32 files were compared on, with the files if these differ."""
    files = defaultdict(list)
    for result in results.values():
        if result.precision == "fp32" and not result.failed:
            files[result.cases].append(f"`{result.model}` ({result.target})")
    most, *others = sorted(files, key=lambda cases: -len(files[cases]))
    yield from (f"- Compared on {', '.join(cases)}: {', '.join(files[cases])}." for cases in others)
    yield f"- Compared on {', '.join(most)}: {'all other files' if others else 'all files'}."


def _fp32_table(results: Results) -> str:
    header = ("name", "ONNX MB", "dB", "ms", "Core ML MB", "dB", "ExecuTorch MB", "dB", "ms", "outside")
    names = [name for name in bundled() if (name, zoo_results.FORMATS[0], "fp32") in results]
    return "\n" + table(header, (_fp32_row(name, results) for name in names))


def _fp32_row(name: str, results: Results) -> tuple[str, ...]:
    cells = [f"`{name}`"]
    for target in zoo_results.FORMATS:
        result = results[name, target, "fp32"]
        cells += [_megabytes(result), _number(result.snr_db, 0)]
        cells += [_milliseconds(result)] if target in zoo_results.TIMED else []
    return (*cells, str(sum(results[name, "executorch", "fp32"].left.values())))


def _left_out() -> str:
    return "".join(f"\nLeft out: `{name}`, {reason}.\n" for name, reason in zoo_results.LEFT_OUT.items())


def _failures(results: Results) -> str:
    failed = [result for result in results.values() if result.failed]
    return "".join(f"\nNo file: `{each.model}`, {each.target}, {each.precision}: {each.failed}\n" for each in failed)


def _quantized_table(results: Results) -> str:
    header = ("name", "precision", "format", "MB", "size", "SQNR dB", "top-1 same", "ms", "speed")
    quantized = (result for result in results.values() if result.precision != "fp32" and not result.failed)
    return table(header, (_quantized_row(result, results) for result in quantized))


def _quantized_row(result: zoo_results.ZooResult, results: Results) -> tuple[str, ...]:
    reference = results[result.model, result.target, "fp32"]
    precision = f"{result.precision} ({result.kept})" if result.kept else result.precision
    agreement = "" if result.top1_agreement is None else f"{result.top1_agreement:.0%}"
    return (
        f"`{result.model}`",
        precision,
        result.target,
        _megabytes(result),
        f"{result.size / reference.size:.2f}" if result.size and reference.size else "",
        _number(result.snr_db, 1),
        f"{agreement}, degraded" if result.degraded else agreement,
        _milliseconds(result),
        _speed(result, reference),
    )


def _speed(result: zoo_results.ZooResult, reference: zoo_results.ZooResult) -> str:
    if result.latency is None or reference.latency is None:
        return ""
    return f"{reference.latency.median_ms / result.latency.median_ms:.2f}"


def _megabytes(result: zoo_results.ZooResult) -> str:
    return "" if result.size is None else f"{result.size / 1e6:.1f}"


def _milliseconds(result: zoo_results.ZooResult) -> str:
    return "" if result.latency is None else f"{result.latency.median_ms:.1f}"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
