"""The page of a bundle: the network, its files and their measurements."""

from collections.abc import Iterator, Sequence
from datetime import UTC

from markupsafe import Markup

from fbnet_zoo.benchmarks.measure import Measurement
from fbnet_zoo.benchmarks.profile import Profile
from fbnet_zoo.complexity import BYTES_PER_VALUE, Cost, cost
from fbnet_zoo.converters.manifest import Manifest
from fbnet_zoo.report import architecture, costs, files, latency, profile
from fbnet_zoo.report.blocks import blocks
from fbnet_zoo.report.html import Fact, render
from fbnet_zoo.report.text import counted, day, megabytes, milliseconds, short_count, versions
from fbnet_zoo.spec import ArchSpec


def deployment_page(
    spec: ArchSpec,
    manifests: Sequence[Manifest],
    measurements: Sequence[Measurement],
    profiles: Sequence[Profile],
    *,
    input_size: int | None = None,
    notes: Sequence[str] = (),
) -> str:
    """Return a self-contained HTML page about a network and its files.

    Equal records give equal pages: the page shows their dates, not its own.

    Args:
        spec: definition of the network.
        manifests: manifests of the files.
        measurements: measurements of the files, on any devices.
        profiles: profiles of the files, on any devices.
        input_size: side of the image, px (default: that of the files, else of the definition).
        notes: sentences for the top of the page.

    Raises:
        InputError: the network does not support the size.
    """
    channels, classes = _image_channels(manifests), _classes(manifests)
    size = _image_size(manifests) if input_size is None else input_size
    spent = cost(spec, size, in_channels=channels, num_classes=classes)
    drawn = tuple(blocks(spec, spent, in_channels=channels, num_classes=classes))
    return render(
        "deployment.html.jinja",
        spec=spec,
        notes=notes,
        date=_date(manifests, measurements),
        facts=tuple(_facts(spent, manifests, measurements)),
        origin=tuple(_origin(spec, manifests)),
        cost=spent,
        groups=architecture.draw(drawn),
        costs=costs.table(drawn, spent),
        quantized=[manifest for manifest in manifests if manifest.quantization],
        manifests=manifests,
        files=files,
        made_with=versions([manifest.versions for manifest in manifests]),
        devices=latency.by_device(measurements),
        profiles=[profile.view(each) for each in profiles],
    )


def _image_channels(manifests: Sequence[Manifest]) -> int:
    """Return the number of channels of the files' input; 3 without files."""
    for tensor in (tensor for manifest in manifests for tensor in manifest.inputs):
        if tensor.channel_order is not None:
            return 1 if tensor.channel_order == "grey" else 3
        if tensor.layout == "NCHW" and isinstance(tensor.shape[1], int):
            return tensor.shape[1]
    return 3


def _classes(manifests: Sequence[Manifest]) -> int:
    """Return the number of classes of the files; 1000 without files."""
    sizes = [tensor.shape[-1] for manifest in manifests for tensor in manifest.outputs if tensor.layout == "NC"]
    return next((size for size in sizes if isinstance(size, int)), 1000)


def _image_size(manifests: Sequence[Manifest]) -> int | None:
    return next((manifest.preprocess.crop for manifest in manifests), None)


def _date(manifests: Sequence[Manifest], measurements: Sequence[Measurement]) -> str:
    """Return the date of the newest record."""
    dates = [manifest.created for manifest in manifests]
    dates += [measurement.date.astimezone(UTC).isoformat(timespec="seconds") for measurement in measurements]
    return day(max(dates)) if dates else ""


def _facts(spent: Cost, manifests: Sequence[Manifest], measurements: Sequence[Measurement]) -> Iterator[Fact]:
    """Yield the numbers for the top of the page: cost of the network, smallest file and lowest latency."""
    yield Fact(value=short_count(spent.params), title="parameters", note=f"{spent.params:,}")
    yield Fact(value=short_count(spent.macs), title="multiply-accumulates", note=f"at {spent.input_size} px")
    peak = spent.peak_activations * BYTES_PER_VALUE
    yield Fact(value=megabytes(peak), title="peak activations", note="one image, fp32")
    if manifests:
        smallest = min(manifests, key=lambda manifest: manifest.file.size)
        name = f"{smallest.file.file}, {smallest.precision}"
        yield Fact(value=megabytes(smallest.file.size), title="smallest file", note=name)
    steady = [timing for timing in latency.timings(measurements) if not timing.throttled]
    if steady:
        yield _fastest(steady)


def _fastest(steady: Sequence[latency.FileTiming]) -> Fact:
    best = min(steady, key=lambda timing: timing.summary.median)
    device, threads = latency.device_title(best.first.device), counted(best.first.threads, "thread")
    note = f"{best.first.file}, {best.first.precision}, {device}, {threads}"
    return Fact(value=milliseconds(best.summary.median), title="fastest median", note=note)


def _origin(spec: ArchSpec, manifests: Sequence[Manifest]) -> Iterator[tuple[str, str]]:
    """Yield the origin of the network and its weights."""
    if spec.paper:
        arxiv = Markup('<a href="https://arxiv.org/abs/{0}">arXiv:{0}</a>').format(spec.paper.arxiv)
        yield "Paper", Markup("{}, {}, {}").format(spec.paper.title, spec.paper.venue, arxiv)
    if spec.source:
        source = (spec.source.repository, spec.source.commit, spec.source.entry)
        yield "Source", ", ".join(part for part in source if part)
    weights = {manifest.weights: manifest.license for manifest in manifests}
    yield "Weights", "; ".join(_weights(spec, *entry) for entry in weights.items()) or "none yet"
    if manifests:
        yield "Input", _input(manifests[0])


def _weights(spec: ArchSpec, weights: str | None, license_: str | None) -> str:
    """Return name, license and published accuracy of weights."""
    entry = next((entry for entry in spec.weights if entry.tag == weights), None)
    published = entry and entry.top1 is not None and f"{entry.top1:g} % ImageNet-1k top-1 as published"
    name = weights or "unknown origin"
    unlicensed = "" if name.startswith("random") else "no license stated"
    terms = f"license {license_}" if license_ else unlicensed
    return ", ".join(part for part in (name, terms, published) if part)


def _input(manifest: Manifest) -> str:
    recipe = manifest.preprocess
    steps = f"shorter side to {recipe.resize} px ({recipe.interpolation}), center {recipe.crop} px, {recipe.order}"
    return f"{steps}, mean {_triple(recipe.mean)}, std {_triple(recipe.std)}"


def _triple(values: tuple[float, float, float]) -> str:
    return " ".join(f"{value:g}" for value in values)
