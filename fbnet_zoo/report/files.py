"""Tables of manifests: the files, their parity with the network, and their quantization."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from fbnet_zoo.converters.manifest import LayerSqnr, Manifest, QuantizationRecord
from fbnet_zoo.converters.parity import CaseResult, ParityReport
from fbnet_zoo.report.charts.bars import Mark, Tone, columns
from fbnet_zoo.report.conditions import code
from fbnet_zoo.report.html import Table, span
from fbnet_zoo.report.html import columns as headed
from fbnet_zoo.report.text import NOTHING, TIMES, counted, day, decibels, megabytes, share

_ENOUGH_DB, _CEILING_DB = 20.0, 80.0
"""SQNR limits: layers below the first are highlighted, columns above the second are clipped."""

_NAMES = {"left": "not delegated", "delegated": "operators delegated"}
"""Display names of facts whose key is unclear."""

_WORST = 5
"""Number of layers listed below the chart."""


def files(manifests: Sequence[Manifest]) -> Table:
    """Return the files, one per row."""
    fp32 = {manifest.target: manifest.file.size for manifest in manifests if manifest.precision == "fp32"}
    return Table(
        caption="Files",
        columns=headed("file", "precision", ">size", ">vs. fp32", "format", "sha256", "created", "details"),
        rows=[
            (
                manifest.file.file,
                manifest.precision,
                span(megabytes(manifest.file.size), title=f"{manifest.file.size:,} bytes"),
                _relative(manifest.file.size, fp32.get(manifest.target)),
                manifest.target,
                code(manifest.file.sha256),
                day(manifest.created),
                _facts(manifest.facts),
            )
            for manifest in manifests
        ],
    )


def _relative(size: int, fp32: int | None) -> str:
    return f"{size / fp32:.2f}{TIMES}" if fp32 else NOTHING


def _facts(facts: Mapping[str, Any]) -> str:
    """Return the facts that a target's writer reported, in one line."""
    return ", ".join(_fact(_NAMES.get(name, name.replace("_", " ")), value) for name, value in facts.items())


def _fact(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{name}: " + (", ".join(f"{count} {kind}" for kind, count in value.items()) or "none")
    if isinstance(value, (list, tuple)):
        return f"{name}: {', '.join(str(item) for item in value) or 'none'}"
    return f"{name} {value}"


def parity(manifests: Sequence[Manifest]) -> Table:
    """Return the worst case of each file, and whether it is within the tolerances."""
    return Table(
        caption="Worst agreement of each file with the PyTorch network",
        columns=headed("file", "precision", ">SNR", ">largest error", ">relative", ">same top-1", "verdict", "run by"),
        rows=[tuple(_parity_row(manifest)) for manifest in manifests],
    )


def _parity_row(manifest: Manifest) -> Iterator[str]:
    record = manifest.parity
    yield manifest.file.file
    yield manifest.precision
    if record.worst is None:
        yield from (NOTHING,) * 4
    else:
        yield from _figures(record.worst)
    yield _verdict(manifest)
    yield record.runtime or NOTHING


def _figures(case: CaseResult) -> tuple[str, str, str, str]:
    near = f" ({counted(case.near_ties, 'near tie')})" if case.near_ties else ""
    agreement = f"{share(case.top1_agreement)}{near}"
    return decibels(case.snr_db), f"{case.max_abs_error:.2g}", f"{case.max_error:.2g}", agreement


def _verdict(manifest: Manifest) -> Markup:
    record = manifest.parity
    if not record.checked:
        return span(f"not checked: {record.reason or 'no reason given'}", class_="warn")
    if record.tolerances is None or record.runtime is None:
        return span("run, without tolerances")
    report = ParityReport(runtime=record.runtime, tolerances=record.tolerances, cases=record.cases)
    required = (
        f"at least {record.tolerances.min_snr_db:g} dB, error at most {record.tolerances.max_error:g} of the largest "
        f"logit, {share(record.tolerances.min_top1_agreement)} same top-1"
    )
    if report.passed:
        return span("within tolerances", class_="good", title=required)
    return span("outside tolerances", class_="warn", title=required)


def cases(manifests: Sequence[Manifest]) -> Table:
    """Return every case of every file."""
    return Table(
        caption="Agreement with the PyTorch network, case by case",
        columns=headed("file", "precision", "images", ">SNR", ">largest error", ">relative", ">same top-1"),
        rows=[
            (manifest.file.file, manifest.precision, case.name, *_figures(case))
            for manifest in manifests
            for case in manifest.parity.cases
        ],
    )


def quantization(manifests: Sequence[Manifest]) -> Table:
    """Return how each quantized file was made, and how well its predictions agree with the float network."""
    return Table(
        caption="Quantized files, compared with the float network on real images",
        columns=headed(
            "file", "precision", ">same top-1", ">required", ">SQNR", ">top-1", ">top-1 of fp32", "verdict",
            ">evaluated on", "scheme", "calibrated with",
        ),
        rows=[tuple(_quantization_row(manifest, record)) for manifest, record in _quantized(manifests)],
    )  # fmt: skip


def _quantized(manifests: Sequence[Manifest]) -> Iterator[tuple[Manifest, QuantizationRecord]]:
    return ((manifest, manifest.quantization) for manifest in manifests if manifest.quantization is not None)


def _quantization_row(manifest: Manifest, record: QuantizationRecord) -> Iterator[str]:
    yield manifest.file.file
    yield manifest.precision
    yield share(record.top1_agreement)
    yield share(record.threshold)
    yield decibels(record.sqnr_db)
    yield _accuracy(record.top1)
    yield _accuracy(record.fp32_top1)
    yield span("degraded", class_="warn") if record.degraded else span("passed", class_="good")
    yield counted(record.evaluated, "image")
    yield record.scheme
    yield f"{record.calibration} ({counted(record.images, 'image')})"


def _accuracy(percent: float | None) -> str:
    return "no labels" if percent is None else f"{percent:.2f} %"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerErrors:
    """Quantization errors of the layers of one file.

    Attributes:
        title: file name and precision.
        chart: chart with a column for each layer.
        summary: source of the figures and the worst layers.
        kept: layers kept in a higher precision.
        table: table of all layers.
    """

    title: str
    chart: Markup | None
    summary: str
    kept: str
    table: Table


def layer_errors(manifests: Sequence[Manifest]) -> list[LayerErrors]:
    """Return the layer errors of each quantized file that records them or kept layers, on a common scale."""
    recorded = [(manifest, record) for manifest, record in _quantized(manifests) if record.layers or record.kept]
    best = max((layer.sqnr_db for _, record in recorded for layer in record.layers), default=_CEILING_DB)
    top = min(_CEILING_DB, max(_ENOUGH_DB, best))
    return [_layer_errors(manifest, record, top) for manifest, record in recorded]


def _layer_errors(manifest: Manifest, record: QuantizationRecord, top: float) -> LayerErrors:
    kept = frozenset(record.kept)
    worst = sorted(record.layers, key=lambda layer: layer.sqnr_db)[:_WORST]
    title = f"{manifest.file.file}, {manifest.precision}"
    named = ", ".join(f"{layer.name} {decibels(layer.sqnr_db)}" for layer in worst)
    source = f"Computed by {record.layers_from}. " if record.layers_from else ""
    return LayerErrors(
        title=title,
        chart=_layer_chart(record.layers, kept, title, top) if record.layers else None,
        summary=f"{source}Lowest: {named}." if worst else source.strip(),
        kept=f"Kept in a higher precision: {', '.join(record.kept)}." if kept else "",
        table=Table(
            caption=f"SQNR of each layer of {title}",
            columns=headed("layer", ">SQNR", "precision"),
            rows=[
                (layer.name, decibels(layer.sqnr_db), "higher, kept" if layer.name in kept else "quantized")
                for layer in record.layers
            ],
        ),
    )


def _layer_chart(layers: Sequence[LayerSqnr], kept: frozenset[str], title: str, top: float) -> Markup:
    return columns(
        [_layer_mark(layer, layer.name in kept) for layer in layers],
        unit="dB",
        label=f"SQNR of the {len(layers)} layers of {title}, in execution order",
        top=top,
    )


def _layer_mark(layer: LayerSqnr, kept: bool) -> Mark:
    note = ", kept in a higher precision" if kept else ""
    tone: Tone = "strong" if kept else "warn" if layer.sqnr_db < _ENOUGH_DB else "plain"
    return Mark(value=layer.sqnr_db, title=f"{layer.name}: {decibels(layer.sqnr_db)}{note}", tone=tone)
