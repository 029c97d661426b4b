"""Definitions and their costs, as tables and as JSON, for `fbnet-zoo list` and `show`. No torch."""

from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fbnet_zoo import arch_file, planner
from fbnet_zoo.cli import screen
from fbnet_zoo.complexity import Cost, LayerCost
from fbnet_zoo.layers import Layer, walk
from fbnet_zoo.registry import published_top1
from fbnet_zoo.spec import ArchSpec, PreprocessSpec, ReportedSpec, WeightsSpec

_METADATA = ("counts", "paper", "source", "deviations", "preprocess", "weights", "reported")
_ROOMY = 84
"""Width in columns from which the list has wide gaps."""

_UNITS = {"top1": "%", "top5": "%", "latency_ms": "ms", "params_m": "M", "macs_m": "M"}
_METRICS = {"top1": "top-1", "top5": "top-5", "latency_ms": "latency", "params_m": "parameters", "macs_m": "MACs"}


def entry(spec: ArchSpec, cost: Cost) -> dict[str, Any]:
    """Return one line of the list."""
    return {
        "name": spec.name,
        "aliases": list(spec.aliases),
        "family": spec.family,
        "summary": spec.summary,
        "input_size": cost.input_size,
        "params": cost.params,
        "macs": cost.macs,
        "top1": published_top1(spec),
        "weights": [weights.model_dump(mode="json") for weights in spec.weights],
    }


def listing(entries: Iterable[dict[str, Any]], *, columns: int) -> Table:
    """Return the list as a table that fits 80 `columns` or more."""
    gap = 1 if columns < _ROOMY else 2
    table = screen.table("name", "family", ">px", ">params\nM", ">MACs\nM", ">top-1\n%", "weights", gap=gap)
    for line in entries:
        table.add_row(
            Text(line["name"], style="bold"),
            line["family"],
            str(line["input_size"]),
            _millions(line["params"]),
            _millions(line["macs"]),
            _percent(line["top1"]),
            "\n".join(f"{weights['tag']} {weights['license']}" for weights in line["weights"]),
        )
    return table


def details(spec: ArchSpec, cost: Cost, *, tag: str | None = None, with_layers: bool = False) -> dict[str, Any]:
    """Return a network as JSON: definition, cost, and published results and weights.

    Args:
        spec: definition.
        cost: cost of the network.
        tag: weights whose preprocessing to show (default: the first entry).
        with_layers: whether to add every layer with its cost.
    """
    record = spec.model_dump(mode="json", exclude_unset=True)
    published = {key: record.pop(key, None) for key in _METADATA}
    return {
        **{key: record.pop(key) for key in ("name", "family", "summary")},
        "definition": record,
        "cost": _costs(spec, cost, with_layers=with_layers),
        **published,
        "aliases": list(spec.aliases),
        "preprocess": _preprocess(spec, tag).model_dump(mode="json"),
        "deviations": list(spec.deviations),
        "weights": [weights.model_dump(mode="json") for weights in spec.weights],
        "reported": [result.model_dump(mode="json") for result in spec.reported],
    }


def page(spec: ArchSpec, cost: Cost, *, tag: str | None = None, with_layers: bool = False) -> Group:
    """Return the same as `details`, as tables."""
    return Group(
        *_headed("Definition", Text(structure(spec))),
        *_headed(f"Cost of one {cost.input_size} x {cost.input_size} image", _cost_table(spec, cost)),
        *(_headed("Layers", _layer_table(spec, cost)) if with_layers else ()),
        *_headed("Published results, by others", _reported_table(spec.reported)),
        *_headed("Weights, the first is the default", _weights_table(spec.weights)),
        *(fact for weights in spec.weights for fact in _facts(weights)),
        *_headed("Deviations", _bullets(spec.deviations)),
        *_headed("Origin", _origin(spec, _preprocess(spec, tag))),
    )


def structure(spec: ArchSpec) -> str:
    """Return the definition in YAML, without its metadata."""
    own = spec.model_dump(exclude_unset=True, exclude=set(_METADATA))
    return arch_file.dump(ArchSpec.model_validate(own)).rstrip()


def _preprocess(spec: ArchSpec, tag: str | None) -> PreprocessSpec:
    """Return the preprocessing of `fbnet_zoo.transforms` for a name with this tag, or without one."""
    default = spec.weights[0].tag if spec.weights else None
    return spec.eval_preprocess(tag or default)


def _costs(spec: ArchSpec, cost: Cost, *, with_layers: bool) -> dict[str, Any]:
    parts = [{"part": name, **_totals(part)} for name, part in cost.by_part().items()]
    total = {"input_size": cost.input_size, **_totals(cost), "parts": parts}
    if with_layers:
        total["layers"] = [_layer(layer, counted) for layer, counted in _layers(spec, cost)]
    return total


def _totals(cost: Cost) -> dict[str, Any]:
    return {
        "params": cost.params,
        "macs": cost.macs,
        "activations": cost.activations,
        "peak_activations": cost.peak_activations,
        "peak_mb": cost.peak_mb,
    }


def _layer(layer: Layer, counted: LayerCost) -> dict[str, Any]:
    return {
        "name": layer.name,
        "type": layer.type,
        "function": layer.function,
        "output": [layer.out_channels, layer.size_out, layer.size_out],
        "kernel_size": layer.kernel_size,
        "stride": layer.stride,
        "groups": layer.groups,
        "params": counted.params,
        "macs": counted.macs,
        "activations": counted.activations,
        "live": counted.live,
    }


def _headed(title: str, body: RenderableType | None) -> Iterator[RenderableType]:
    if body is not None:
        yield Text(f"\n{title}", style="bold cyan")
        yield body


def _cost_table(spec: ArchSpec, cost: Cost) -> Table:
    table = screen.table("part", ">output", ">params", ">MACs", ">activations", ">peak memory\nMB, fp32")
    shapes = {part: _shape(layer) for part, layer in _last_layers(spec, cost).items()}
    for name, part in cost.by_part().items():
        table.add_row(name, shapes[name], *_numbers(part))
    table.add_section()
    table.add_row("total", "", *_numbers(cost), style="bold")
    return table


def _numbers(cost: Cost) -> tuple[str, ...]:
    counts = (f"{count:,}" for count in (cost.params, cost.macs, cost.activations))
    return (*counts, f"{cost.peak_mb:.2f}")


def _last_layers(spec: ArchSpec, cost: Cost) -> dict[str, Layer]:
    by_name = {layer.name: layer for layer, _ in _layers(spec, cost)}
    return {part: by_name[group.layers[-1].name] for part, group in cost.by_part().items()}


def _layers(spec: ArchSpec, cost: Cost) -> Iterator[tuple[Layer, LayerCost]]:
    return zip(walk(planner.plan(spec), cost.input_size), cost.layers, strict=True)


def _shape(layer: Layer) -> str:
    return f"{layer.out_channels} x {layer.size_out} x {layer.size_out}"


def _layer_table(spec: ArchSpec, cost: Cost) -> Table:
    table = screen.table("layer", "type", ">output", ">params", ">MACs")
    for layer, counted in _layers(spec, cost):
        table.add_row(layer.name, _kind(layer), _shape(layer), f"{counted.params:,}", f"{counted.macs:,}")
    return table


def _kind(layer: Layer) -> str:
    if layer.type != "conv":
        return layer.function or layer.type
    size = f"conv {layer.kernel_size}x{layer.kernel_size}"
    stride = f" /{layer.stride}" if layer.stride > 1 else ""
    return f"{size}{stride} g{layer.groups}" if layer.groups > 1 else f"{size}{stride}"


def _reported_table(results: tuple[ReportedSpec, ...]) -> Table | None:
    if not results:
        return None
    table = screen.table("metric", ">value", "precision", "device", "engine", "published by")
    for result in results:
        value = f"{result.value:g} {_UNITS[result.metric]}"
        device, engine = result.device or "", result.engine or ""
        table.add_row(_METRICS[result.metric], value, result.precision or "", device, engine, result.source)
    return table


def _weights_table(entries: tuple[WeightsSpec, ...]) -> RenderableType:
    if not entries:
        return Text("none published")
    table = screen.table("tag", ">top-1 %", ">top-5 %", "license", "layout")
    for weights in entries:
        top1, top5 = _percent(weights.top1), _percent(weights.top5)
        table.add_row(Text(weights.tag, style="bold"), top1, top5, weights.license, weights.layout)
    return table


def _facts(weights: WeightsSpec) -> Iterator[Text]:
    """Yield the facts that have no column in the table, one line each."""
    yield _line(f"{weights.tag}  {weights.source}")
    if weights.size is not None:
        yield Text(f"{weights.tag}  {weights.size:,} bytes")
    if weights.sha256 is not None:
        yield _line(f"{weights.tag}  sha256 {weights.sha256}")
    if weights.bn_eps is not None:
        yield Text(f"{weights.tag}  batch-norm epsilon {weights.bn_eps:g}")
    if weights.preprocess is not None:
        yield Text(f"{weights.tag}  images: {_recipe(weights.preprocess)}")


def _recipe(preprocess: PreprocessSpec) -> str:
    resize = f"shorter side to {preprocess.resize} px ({preprocess.interpolation}), center {preprocess.crop} px"
    return f"{resize}, {preprocess.order}, mean {preprocess.mean}, std {preprocess.std}"


def _line(text: str) -> Text:
    """Return a line that is never wrapped, so that a URL in it can be clicked and copied."""
    return Text(text, no_wrap=True, overflow="ignore")


def _bullets(sentences: tuple[str, ...]) -> Table | None:
    if not sentences:
        return None
    table = Table.grid(padding=(0, 1))
    for sentence in sentences:
        table.add_row("-", sentence)
    return table


def _origin(spec: ArchSpec, preprocess: PreprocessSpec) -> Table:
    table = Table.grid(padding=(0, 2))
    if spec.paper:
        table.add_row("paper", f"{spec.paper.title}, {spec.paper.venue}, arXiv:{spec.paper.arxiv}")
    if spec.source:
        commit = f" at {spec.source.commit}" if spec.source.commit else ""
        entry_name = f", {spec.source.entry}" if spec.source.entry else ""
        table.add_row("follows", f"{spec.source.repository}{commit}{entry_name}")
    if spec.reconstruction:
        table.add_row("", "a reconstruction from secondary sources, not read from a release")
    table.add_row("images", _recipe(preprocess))
    return table


def _millions(count: int) -> str:
    return f"{count / 1e6:,.2f}" if count < 1e7 else f"{count / 1e6:,.1f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
