"""The options of `fbnet-zoo search`, and the configuration that they give."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from pydantic import ValidationError

from fbnet_zoo import limits
from fbnet_zoo.cli import quantities
from fbnet_zoo.cli.options import finite, in_range
from fbnet_zoo.errors import InputError, did_you_mean
from fbnet_zoo.reading import record_error
from fbnet_zoo.search.config import LATENCY, EvaluatingConfig, Front, MethodConfig
from fbnet_zoo.search.gradient.config import GradientConfig
from fbnet_zoo.search.methods import METHODS
from fbnet_zoo.search.predictive.config import PredictiveConfig

if TYPE_CHECKING:
    from typer.models import OptionInfo

    from fbnet_zoo.search.job import SearchJob

_COUNTED = ("macs", "params", "memory")

_WHAT, _BUDGET, _GRADIENT = "What to search for", "Limits on cost", "Methods by gradients: dnas, dmasking"
_EVALUATING, _TRAINING, _RUN = (
    "Methods by evaluation: random, evolution, chamnet, nars",
    "Training and comparison",
    "The run",
)

_METHOD_OPTIONS: Mapping[type[MethodConfig], Mapping[str, str]] = {
    GradientConfig: {
        "penalty": "--penalty",
        "penalty_metric": "--penalty-metric",
        "alpha": "--alpha",
        "beta": "--beta",
        "epochs": "--epochs",
        "warmup_epochs": "--warmup-epochs",
        "save_memory": "--save-memory",
        "samples": "--samples",
        "candidates": "--candidates",
        "limits_from": "--limits-from",
        "limits_to": "--limits-to",
    },
    EvaluatingConfig: {
        "budget": "--budget",
        "candidate_epochs": "--candidate-epochs",
        "candidate_workers": "--candidate-workers",
        "candidate_time_limit": "--candidate-time-limit",
        "ray_address": "--ray-address",
        "halving": "--halving",
        "oracle": "--oracle",
        "supernet": "--supernet",
    },
    PredictiveConfig: {"candidate_batch": "--candidate-batch", "target_error": "--target-error"},
}
"""Configuration class to the options that only its methods have, by parameter."""

_ABOUT_NETWORKS = {
    "--latency-key": ("--latencies",),
    "--latency-column": ("--latencies",),
    "--energy-key": ("--energies",),
    "--energy-column": ("--energies",),
    "--prior": ("--latencies", "--energies"),
}
"""Options about measured networks to those that name the file."""


def _option(panel: str, help_: str, *flags: str, **settings: Any) -> "OptionInfo":
    return typer.Option(*flags, help=help_, rich_help_panel=panel, **settings)


SpaceName = Annotated[
    str, _option(_WHAT, "search space, see 'space list'", "--space", metavar="NAME|PATH", show_default=False)
]
Data = Annotated[
    str | None,
    _option(
        _WHAT,
        "images: digits, digits_cluttered, cifar10, cifar100, or a folder with train/ and val/, or with classes",
        metavar="D",
    ),
]
Classes = Annotated[
    int | None,
    _option(_WHAT, "search with the images of N classes; the best network is trained with all", metavar="N", min=2),
]
DataRoot = Annotated[Path | None, _option(_WHAT, "folder that holds CIFAR", metavar="DIR")]
Download = Annotated[bool, _option(_WHAT, "download CIFAR into --data-root if missing", "--download")]
Method = Annotated[
    str,
    _option(_WHAT, "; ".join(f"{name}: {entry.summary}" for name, entry in METHODS.items()), metavar="NAME"),
]
InputSize = Annotated[int | None, _option(_WHAT, "side of the image, px (default: the space's)", metavar="PX")]
NameOption = Annotated[
    str | None,
    _option(_WHAT, "network name (default: derived from the space)", "--name", metavar="NAME"),
]
Lut = Annotated[
    str | None, _option(_BUDGET, "latency table of the device, see 'lut list'", "--lut", metavar="NAME|PATH")
]
AlsoLut = Annotated[
    list[str] | None,
    _option(
        _BUDGET,
        "latency table of another device, for limits on the latency there: --limit latency_NAME=5ms; repeatable",
        "--also-lut",
        metavar="NAME|PATH",
    ),
]
TargetLatency = Annotated[str | None, _option(_BUDGET, "highest latency on the device, such as 5ms", metavar="TIME")]
Latencies = Annotated[
    Path | None,
    _option(
        _BUDGET,
        "instead of --lut: networks of the space measured on the device (CSV, or the store of 'bench', .jsonl), at "
        "least 10, for a predictor",
        "--latencies",
        metavar="FILE",
    ),
]
LatencyKey = Annotated[
    str | None,
    _option(
        _BUDGET,
        "CSV column with the networks: names, files, or a digit for each layer (default: network)",
        metavar="NAME",
    ),
]
LatencyColumn = Annotated[
    str | None, _option(_BUDGET, "CSV column with their latencies, ms (default: median_ms)", metavar="NAME")
]
Energies = Annotated[
    Path | None,
    _option(
        _BUDGET,
        "networks of the space whose energy was measured on the device (CSV, or the store of 'bench run --energy', "
        ".jsonl), at least 10, for a predictor and limits such as --limit energy=12mJ",
        "--energies",
        metavar="FILE",
    ),
]
EnergyKey = Annotated[
    str | None, _option(_BUDGET, "CSV column with the networks, as --latency-key (default: network)", metavar="NAME")
]
EnergyColumn = Annotated[
    str | None, _option(_BUDGET, "CSV column with their energies, mJ (default: energy_mj)", metavar="NAME")
]
Priors = Annotated[
    list[str] | None,
    _option(
        _BUDGET,
        "latency table of another device that the predictors start from; repeatable",
        "--prior",
        metavar="NAME",
    ),
]
TableClasses = Annotated[
    int | None,
    _option(
        _BUDGET,
        "number of classes the tables, or the networks of --latencies and --energies, were measured with, such as 100 "
        "for pixel3",
        metavar="N",
        min=1,
    ),
]
Limit = Annotated[
    list[str] | None,
    _option(
        _BUDGET,
        "highest value of another cost: macs=300M, params=5M, memory=2M (activation values), energy=12mJ with "
        "--energies, latency_NAME=5ms with --also-lut, or a cost column of --oracle; repeatable",
        metavar="METRIC=N",
    ),
]
LimitsFrom = Annotated[
    str | None,
    _option(
        _GRADIENT,
        "lowest of several limits, such as 20us or macs=100k: the supernet gives a network for each",
        "--limits-from",
        metavar="TIME|COST=N",
    ),
]
LimitsTo = Annotated[str | None, _option(_GRADIENT, "highest of several limits", "--limits-to", metavar="TIME|COST=N")]
Points = Annotated[int, _option(_GRADIENT, "number of limits, evenly apart", "--points", metavar="N", min=2)]
Penalty = Annotated[
    Literal["product", "sum", "none"] | None,
    _option(
        _GRADIENT,
        "trade accuracy for cost: CE * alpha * log(cost)^beta, or CE + alpha * cost^beta (default: limits only)",
        metavar="product|sum|none",
    ),
]
PenaltyMetric = Annotated[
    str | None,
    _option(
        _GRADIENT,
        "cost of the penalty: macs, params, latency, energy (default: latency with --lut, else macs)",
        metavar="M",
    ),
]
Alpha = Annotated[
    float | None, _option(_GRADIENT, "factor of the penalty (default: 0.2)", metavar="X", callback=finite)
]
Beta = Annotated[float | None, _option(_GRADIENT, "power of the penalty (default: 0.6)", metavar="X", callback=finite)]
Epochs = Annotated[
    int | None, _option(_GRADIENT, "search epochs (default: depends on the kind of data)", metavar="N", min=1)
]
Warmup = Annotated[int | None, _option(_GRADIENT, "warm-up epochs (theta frozen)", metavar="N", min=0)]
BatchSize = Annotated[
    int | None,
    _option(_GRADIENT, "images per search step", metavar="N", min=1, callback=limits.within("batch")),
]
Workers = Annotated[
    int | None,
    _option(
        _RUN,
        "processes that read images (default: for image files a core less than there are, else none)",
        metavar="N",
        min=0,
        max=256,
    ),
]
SaveMemory = Annotated[bool, _option(_GRADIENT, "recompute candidates for the gradient", "--save-memory")]
Samples = Annotated[
    int | None, _option(_GRADIENT, "networks to draw at the end and compare (default: 6)", metavar="N", min=0)
]
Candidates = Annotated[
    int | None,
    _option(
        _GRADIENT,
        "networks to compare at the end within limits: those drawn, then others near the limits (default: 48)",
        metavar="N",
        min=1,
    ),
]
Budget = Annotated[
    int | None, _option(_EVALUATING, "networks to evaluate (default: depends on the kind of data)", metavar="N", min=1)
]
CandidateEpochs = Annotated[
    int | None,
    _option(
        _EVALUATING, "training epochs of each network (default: the recipe's; evolution: fewer)", metavar="N", min=1
    ),
]
CandidateBatch = Annotated[
    int | None,
    _option(
        _EVALUATING,
        "networks between two fits of the predictor (chamnet, nars; default: a tenth of all)",
        metavar="N",
        min=1,
    ),
]
TargetError = Annotated[
    float | None,
    _option(
        _EVALUATING,
        "mean absolute error of the predictor, points, at which one more batch ends the search (chamnet, nars)",
        metavar="POINTS",
        callback=finite,
    ),
]
CandidateWorkers = Annotated[
    int | None,
    _option(
        _EVALUATING,
        "networks to train at once, each in a process of its own (default: one; on a Ray cluster, all it has room for)",
        metavar="N",
        min=1,
        max=1024,
    ),
]
CandidateTimeLimit = Annotated[
    str | None,
    _option(
        _EVALUATING,
        "longest time to train a network, such as 20min: a worker that takes longer is replaced (default: no limit)",
        metavar="TIME",
    ),
]
RayAddress = Annotated[
    str | None,
    _option(
        _EVALUATING,
        "train the networks on a Ray cluster: auto for the one that this machine is part of, or its address",
        metavar="ADDRESS",
    ),
]
Halving = Annotated[
    int | None,
    _option(
        _EVALUATING,
        "stop poor networks early: compare those trained at once after N epochs, train the better half for 2N, and so "
        "on (default: never)",
        metavar="N",
        min=1,
    ),
]
SupernetRun = Annotated[
    Path | None,
    _option(
        _EVALUATING,
        "evaluate with the supernet of this dnas or dmasking run, instead of training",
        metavar="RUN",
    ),
]
OracleFile = Annotated[
    Path | None,
    _option(
        _EVALUATING,
        "evaluate by a table of known accuracies (CSV: one column per decision, then top1), instead of training",
        metavar="FILE",
    ),
]
RecipeFile = Annotated[Path | None, _option(_TRAINING, "training recipe (YAML)", "--recipe", metavar="FILE")]
TrainEpochs = Annotated[
    int | None, _option(_TRAINING, "epochs of the final training (default: the recipe's)", metavar="N", min=1)
]
Train = Annotated[bool, _option(_TRAINING, "train the best network from scratch", "--train/--no-train")]
Random = Annotated[
    int, _option(_TRAINING, "also train N random networks within the same limits, to compare with", metavar="N", min=0)
]
Measure = Annotated[
    bool | None,
    _option(
        _TRAINING,
        "measure the best networks as a whole, and one before the search (default: if the table is of this machine)",
    ),
]
Register = Annotated[
    bool, _option(_TRAINING, "add the network to your own zoo, where create() finds it by name", "--register")
]
License = Annotated[str, _option(_TRAINING, "license of the trained weights, for the zoo", "--license", metavar="NAME")]
Out = Annotated[
    Path | None,
    _option(_RUN, "folder of the run (default: runs/SPACE_DATA_METHOD)", metavar="RUN", show_default=False),
]
Resume = Annotated[bool, _option(_RUN, "resume the run in the folder", "--resume")]
ConfigFile = Annotated[
    Path | None, _option(_RUN, "all other settings of the method (YAML)", "--config", metavar="FILE")
]
Seed = Annotated[int, _option(_RUN, "random seed", metavar="N", callback=in_range)]
SplitSeed = Annotated[
    int, _option(_RUN, "random seed of the images that select networks", "--split-seed", metavar="N", callback=in_range)
]
Seeds = Annotated[int, _option(_RUN, "number of searches, with consecutive seeds from --seed", metavar="N", min=1)]
Device = Annotated[
    str | None, _option(_RUN, "where to compute, such as cpu or cuda (default: the fastest available)", metavar="NAME")
]
MixedPrecision = Annotated[
    Literal["no", "fp16", "bf16"] | None,
    _option(
        _RUN, "mixed precision of search and training (default: accelerate's setting, else no)", metavar="no|fp16|bf16"
    ),
]


def check_method(options: Mapping[str, Any]) -> None:
    """Refuse an unknown method, options of other methods, and missing data.

    Raises:
        InputError: the method is unknown, an option is not one of the method, or there are no images.
    """
    name = options["method"]
    if name not in METHODS:
        hint = did_you_mean(name, METHODS) or f"; expected {', '.join(METHODS)}"
        raise InputError(f"--method cannot be {name!r}{hint}")
    for kind, flags in _METHOD_OPTIONS.items():
        if issubclass(METHODS[name].config, kind):
            continue
        for parameter, flag in flags.items():
            if options.get(parameter) is not None and options[parameter] is not False:  # 0 is a value
                owners = [other for other, entry in METHODS.items() if issubclass(entry.config, kind)]
                raise InputError(f"{flag} is not an option of the method {name}, only of {' and '.join(owners)}")
    if not options["data"] and not options["oracle"]:
        raise InputError("--data is missing: a search needs images, or a table of known accuracies (--oracle)")
    if options.get("random") and not options["data"]:
        raise InputError("--random trains networks, which requires images; give --data, or omit --random")


def _parameter(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")


def check_latencies(options: Mapping[str, Any]) -> None:
    """Refuse two sources of the latency of the device, and options of a source that is missing.

    Raises:
        InputError: options contradict each other.
    """
    if options["lut"] and options["latencies"]:
        raise InputError("--lut and --latencies both give the latency of the device; use one of them")
    for flag, owners in _ABOUT_NETWORKS.items():
        if options[_parameter(flag)] and not any(options[_parameter(owner)] for owner in owners):
            given = " or ".join(owners)
            raise InputError(f"{flag} is about measured networks; give them with {given}, or omit {flag}")


def front(options: Mapping[str, Any], units: Mapping[str, str]) -> Front | None:
    """Return the requested front, if any; `units` are those of known costs.

    Raises:
        InputError: one end is missing, a value is malformed, or the ends are of different costs.
    """
    ends = {flag: options[_parameter(flag)] for flag in ("--limits-from", "--limits-to")}
    missing = [flag for flag, text in ends.items() if text is None]
    if len(missing) == len(ends):
        return None
    if missing:
        raise InputError(f"{missing[0]} is missing: a front has a lowest and a highest limit")
    (metric, lowest), (other, highest) = (_end(flag, text, units) for flag, text in ends.items())
    if metric != other:
        raise InputError(f"--limits-from is on {metric}, but --limits-to on {other}; give two limits on one cost")
    if not lowest < highest:
        raise InputError(f"--limits-to {ends['--limits-to']} is not above --limits-from {ends['--limits-from']}")
    return Front(metric=metric, lowest=lowest, highest=highest, points=options["points"])


def _end(flag: str, text: str, units: Mapping[str, str]) -> tuple[str, float]:
    name, equals, value = text.rpartition("=")
    try:
        return (name, _read(name, value, units)) if equals else (LATENCY, quantities.milliseconds(text))
    except InputError as error:
        raise InputError(f"{flag} {error}") from error


def known_units(job: "SearchJob") -> dict[str, str]:
    """Return the costs that limits can name, each with its unit; counts and the columns of an oracle have none."""
    of_devices = {name: "ms" for name, _ in job.tables} | {each.cost: each.unit for each in job.predictors}
    columns = job.oracle.columns if job.oracle else ()
    return dict.fromkeys(_COUNTED, "") | of_devices | dict.fromkeys(columns, "")


def config(base: MethodConfig, options: Mapping[str, Any], units: Mapping[str, str]) -> MethodConfig:
    """Return a configuration updated with the options.

    Args:
        base: configuration by the kind of data, or from a file.
        options: options by parameter; `None` if not given.
        units: units of the known costs, by name.

    Raises:
        InputError: options contradict each other, or nothing bounds the cost of networks.
    """
    requested, has_table = front(options, units), LATENCY in units
    middle = {requested.metric: (requested.lowest + requested.highest) / 2} if requested else {}
    limits = {**middle, **base.limits, **_limits(options, units)}
    if LATENCY in limits and not has_table:
        raise InputError(
            "--target-latency requires latencies of a device; give a table with --lut, see 'lut list', or measured "
            "networks with --latencies"
        )
    update: dict[str, Any] = {"limits": limits, "seed": options["seed"], "split_seed": options["split_seed"]}
    if isinstance(base, GradientConfig):
        update |= _gradient(base, options, limits=limits, has_table=has_table)
    if isinstance(base, EvaluatingConfig):
        own = {
            "budget": options["budget"],
            "train_epochs": options["candidate_epochs"],
            "batch": options["candidate_batch"],
            "target_error": options["target_error"],
        }
        update |= {key: value for key, value in own.items() if value is not None}
        if options["halving"] is not None:
            update["halving"] = {**(base.halving.model_dump() if base.halving else {}), "epochs": options["halving"]}
    try:
        return type(base).model_validate(base.model_dump() | update)
    except ValidationError as error:
        raise record_error("the options of the search", error) from error


def _gradient(
    base: GradientConfig, options: Mapping[str, Any], *, limits: Mapping[str, float], has_table: bool
) -> dict[str, Any]:
    plain = ("epochs", "warmup_epochs", "samples", "candidates")
    update = {key: options[key] for key in plain if options.get(key) is not None}
    update |= {"save_memory": True} if options.get("save_memory") else {}
    penalty = _penalty(base, options, limits=limits, has_table=has_table)
    if penalty is None and not limits:
        raise InputError(
            "nothing bounds the cost of a network; give --target-latency with --lut, --limit macs=300M, or --penalty"
        )
    return update | {"penalty": penalty}


def _limits(options: Mapping[str, Any], units: Mapping[str, str]) -> dict[str, float]:
    found = {LATENCY: _target_latency(options["target_latency"])} if options.get("target_latency") is not None else {}
    for text in options.get("limit") or ():
        name, equals, value = text.rpartition("=")
        if name not in units or not equals:
            hint = did_you_mean(name, units) or f"; expected {' or '.join(f'{each}=N' for each in units)}"
            raise InputError(f"--limit cannot be {text!r}{hint}")
        if name in found:
            raise InputError(f"--limit {text}: {name} already has a limit of {found[name]:g}; give one of the two")
        found[name] = _limit(text, name, value, units)
    return found


def _read(name: str, value: str, units: Mapping[str, str]) -> float:
    """Return a value of a cost, in its unit."""
    return quantities.READERS.get(units.get(name, ""), quantities.count)(value)


def _limit(text: str, name: str, value: str, units: Mapping[str, str]) -> float:
    try:
        return _read(name, value, units)
    except InputError as error:
        raise InputError(f"--limit {text}: {error}") from error


def _target_latency(text: str) -> float:
    try:
        return quantities.milliseconds(text)
    except InputError as error:
        raise InputError(f"--target-latency {error}") from error


def _penalty(
    base: GradientConfig, options: Mapping[str, Any], *, limits: Mapping[str, float], has_table: bool
) -> dict[str, Any] | None:
    """Return the requested penalty; `None` if only limits are given."""
    values = {"alpha": options.get("alpha"), "beta": options.get("beta"), "metric": options.get("penalty_metric")}
    values = {key: value for key, value in values.items() if value is not None}
    form = options.get("penalty")
    if form == "none" and values:
        raise InputError(f"--penalty none has no {next(iter(values))}; omit it, or use --penalty product or sum")
    if form == "none" or (form is None and not values and (limits or not has_table)):
        return None
    usual = base.penalty.model_dump() if base.penalty else {}
    kept = usual if form in {None, usual.get("form")} else {}
    metric = {} if has_table else {"metric": "macs", "unit": 1.0 if form != "sum" else 1e6}
    return {"form": form or "product"} | kept | metric | values
