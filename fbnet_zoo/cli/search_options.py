"""The options of `fbnet-zoo search`, and what they make of a method's defaults."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fbnet_zoo.cli import quantities
from fbnet_zoo.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from fbnet_zoo.search.config import SearchConfig

LATENCY = "latency"
_COUNTED = ("macs", "params")

SpaceName = Annotated[str, typer.Option("--space", metavar="NAME|PATH", help="Search space; 'space list' tells all.")]
Method = Annotated[
    Literal["dnas", "dmasking"],
    typer.Option(metavar="NAME", help="dnas: a block for each layer; dmasking: channels and image size as well."),
]
Lut = Annotated[
    str | None,
    typer.Option("--lut", metavar="NAME|PATH", help="Latency table of the device; 'lut list' tells those that ship."),
]
TargetLatency = Annotated[
    str | None, typer.Option(metavar="TIME", help="The most that a network may take by the table, such as 5ms.")
]
TableClasses = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Classes of the table's networks, if it is for those only; 100 of pixel3."),
]
Limit = Annotated[
    list[str] | None,
    typer.Option(metavar="METRIC=N", help="The most of another cost: macs=300M, params=5M; may be said repeatedly."),
]
Penalty = Annotated[
    Literal["product", "sum", "none"] | None,
    typer.Option(
        metavar="product|sum|none",
        help="Trades accuracy for cost: CE * alpha * log(cost)^beta, or CE + alpha * cost^beta; else limits only.",
    ),
]
PenaltyMetric = Annotated[
    str | None,
    typer.Option(metavar="METRIC", help="Of the penalty: macs, params, or latency, as where there is a table."),
]
Alpha = Annotated[float | None, typer.Option(metavar="X", help="Of the penalty; 0.2 in the paper.")]
Beta = Annotated[float | None, typer.Option(metavar="X", help="Of the penalty; 0.6 in the paper.")]
Epochs = Annotated[int | None, typer.Option(metavar="N", min=1, help="Of the search; by the kind of data if not said.")]
Warmup = Annotated[int | None, typer.Option(metavar="N", min=0, help="Epochs in which theta stays.")]
BatchSize = Annotated[int | None, typer.Option(metavar="N", min=1, help="Images of a step of the search.")]
Mode = Annotated[
    Literal["soft", "sampled"] | None,
    typer.Option(metavar="soft|sampled", help="Run all candidates, as the paper, or only the drawn one."),
]
SaveMemory = Annotated[bool, typer.Option("--save-memory", help="Run candidates again for the gradient.")]
Samples = Annotated[int | None, typer.Option(metavar="N", min=0, help="Networks drawn at the end; 6 in the paper.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Everything else of the search, as YAML.")
]
TrainEpochs = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Of the training of the best network; the recipe's if not said.")
]
Seed = Annotated[int, typer.Option(metavar="N", min=0, help="Of the search.")]
Seeds = Annotated[int, typer.Option(metavar="N", min=1, help="Search so many times, with seeds from --seed on.")]
InputSize = Annotated[int | None, typer.Option(metavar="PX", help="Of the image; the space's if not said.")]
NameOption = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="Of the network; made up from the space if not said.")
]
Train = Annotated[bool, typer.Option("--train/--no-train", help="Train the best network from scratch.")]
Random = Annotated[
    int,
    typer.Option(metavar="N", min=0, help="Also train N random networks within the same limits, to compare with."),
]
Measure = Annotated[
    bool | None,
    typer.Option(help="Measure the compared networks whole; done if the table is of this machine and it is not said."),
]
License = Annotated[str, typer.Option("--license", metavar="NAME", help="Of the trained weights, for the zoo.")]
Register = Annotated[
    bool, typer.Option("--register", help="Add the network to your own zoo, where create() finds it by its name.")
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="RUN", help="Folder of the run; runs/SPACE_DATA_METHOD if not said.", show_default=False),
]
Device = Annotated[
    str | None, typer.Option(metavar="NAME", help="Where to search, such as cpu or cuda; the fastest if not said.")
]
MixedPrecision = Annotated[
    Literal["no", "fp16", "bf16"] | None,
    typer.Option(metavar="no|fp16|bf16", help="Of the search's arithmetic; what accelerate was told, else no."),
]


def config(base: "SearchConfig", said: Mapping[str, Any], *, has_table: bool) -> "SearchConfig":
    """Return what the options make of a configuration.

    Args:
        base: by the kind of data, or from a file.
        said: the options by their names; what was not said is `None`.
        has_table: whether latency is known.

    Raises:
        InputError: they do not go together, or say nothing that a network may cost.
    """
    limits = {**base.limits, **_limits(said)}
    if LATENCY in limits and not has_table:
        raise InputError("--target-latency needs the latency table of a device; name one: --lut, 'lut list' tells all")
    plain = ("epochs", "warmup_epochs", "mode", "samples", "seed")
    update = {key: said[key] for key in plain if said.get(key) is not None}
    update |= {"save_memory": True} if said.get("save_memory") else {}
    penalty = _penalty(base, said, limits=limits, has_table=has_table)
    if penalty is None and not limits:
        raise InputError(
            "nothing says what a network may cost; give --target-latency with --lut, --limit macs=300M, or --penalty"
        )
    return type(base).model_validate(base.model_dump() | update | {"limits": limits, "penalty": penalty})


def _limits(said: Mapping[str, Any]) -> dict[str, float]:
    found = {LATENCY: quantities.milliseconds(said["target_latency"])} if said.get("target_latency") else {}
    for text in said.get("limit") or ():
        name, equals, value = text.partition("=")
        if name not in _COUNTED or not equals:
            hint = did_you_mean(name, _COUNTED) or f"; expected {' or '.join(f'{each}=N' for each in _COUNTED)}"
            raise InputError(f"--limit cannot be {text!r}{hint}")
        found[name] = quantities.count(value)
    return found


def _penalty(
    base: "SearchConfig", said: Mapping[str, Any], *, limits: Mapping[str, float], has_table: bool
) -> dict[str, Any] | None:
    """Return the penalty that is asked for: none where only limits are said."""
    values = {"alpha": said.get("alpha"), "beta": said.get("beta"), "metric": said.get("penalty_metric")}
    values = {key: value for key, value in values.items() if value is not None}
    form = said.get("penalty")
    if form == "none" and values:
        raise InputError(f"--penalty none has no {next(iter(values))}; take it out, or say --penalty product or sum")
    if form == "none" or (form is None and not values and (limits or not has_table)):
        return None
    usual = base.penalty.model_dump() if base.penalty else {}
    kept = usual if form in {None, usual.get("form")} else {}
    metric = {} if has_table else {"metric": "macs", "unit": 1.0 if form != "sum" else 1e6}
    return {"form": form or "product"} | kept | metric | values
