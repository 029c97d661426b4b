"""The probability of every option of every decision, from epoch to epoch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from fbnet_zoo.report.charts.heatmap import heatmap, key
from fbnet_zoo.report.html import Table, columns
from fbnet_zoo.report.text import NOTHING, counted, share
from fbnet_zoo.search.gradient.diagnostics import SearchEpoch
from fbnet_zoo.search.record import SearchRecord

_MOST_COLUMNS = 60
"""Most columns of a map; more would be too narrow to distinguish."""

_ROOMS = {"short": 5, "middle": 9}
"""Number of characters that fit beside a map."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A row beside a map.

    Attributes:
        name: name of the option.
        probability: probability at the end, percent.
        chosen: whether the returned network has this option.
    """

    name: str
    probability: str
    chosen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionMap:
    """A map of one decision with its labels.

    Attributes:
        name: name of the decision.
        entropy: entropy at the beginning and at the end, as text.
        options: rows of the map.
        map: probabilities of the options.
    """

    name: str
    entropy: str
    options: tuple[Option, ...]
    map: Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class ThetaView:
    """All decisions of a search.

    Attributes:
        about: explanation of the maps.
        key: legend of the shades.
        warmup: whether the maps show the end of the warm-up.
        room: space for option names: `short`, `middle` or `long`, the same for all so that maps are aligned.
        decisions: one map for each decision.
    """

    about: str
    key: Markup
    warmup: bool
    room: str
    decisions: tuple[DecisionMap, ...]


def view(record: SearchRecord, epochs: Sequence[SearchEpoch], warmup_epochs: int) -> ThetaView:
    """Return the view of theta over at least one epoch; theta is frozen in the first `warmup_epochs`."""
    every = -(-len(epochs) // _MOST_COLUMNS)
    shown = epochs[::-1][::every][::-1]
    warm = sum(epoch.epoch <= warmup_epochs for epoch in shown)
    return ThetaView(
        about=_about(shown, every),
        key=key(),
        warmup=0 < warm < len(shown),
        room=_room(max(len(name) for decision in record.decisions for name in decision.options)),
        decisions=tuple(_decision(record, shown, at, warm) for at in range(len(record.decisions))),
    )


def _about(shown: Sequence[SearchEpoch], every: int) -> str:
    spread = f", one column for every {every}" if every > 1 else ""
    return (
        f"Rows are the options of a decision, columns the epochs {shown[0].epoch} to {shown[-1].epoch}{spread}; the "
        "color is the probability, softmax of theta. On the right: final probabilities in percent. Beside the name of "
        "a decision: its entropy in nats at the beginning and at the end (0: decided)."
    )


def _room(longest: int) -> str:
    return next((room for room, most in _ROOMS.items() if longest <= most), "long")


def _decision(record: SearchRecord, shown: Sequence[SearchEpoch], at: int, warm: int) -> DecisionMap:
    name, options = record.decisions[at].name, record.decisions[at].options
    chosen = record.best.positions[at]
    shares = [epoch.shares[at] for epoch in shown]
    last = shares[-1]
    return DecisionMap(
        name=name,
        entropy=f"{shown[0].entropy[at]:.2f} → {shown[-1].entropy[at]:.2f}",
        options=tuple(
            Option(name=option, probability=f"{100 * last[row]:.0f}", chosen=row == chosen)
            for row, option in enumerate(options)
        ),
        map=heatmap(
            shares,
            label=f"{name}: {options[chosen]} was chosen, with a probability of {share(last[chosen])} at the end",
            titles=[_title(option, shown, [each[row] for each in shares]) for row, option in enumerate(options)],
            chosen=chosen,
            after=warm if warm < len(shown) else 0,
        ),
    )


def _title(option: str, shown: Sequence[SearchEpoch], course: Sequence[float]) -> str:
    most = max(range(len(course)), key=course.__getitem__)
    peak = f", most in epoch {shown[most].epoch}: {share(course[most])}" if course[most] > course[-1] else ""
    return f"{option}: {share(course[0])} at first, {share(course[-1])} at the end{peak}"


def table(record: SearchRecord, epochs: Sequence[SearchEpoch]) -> Table:
    """Return the chosen and the most probable option of each decision."""
    last = epochs[-1] if epochs else None
    return Table(
        caption=f"Options chosen in {counted(len(record.decisions), 'decision')}",
        columns=columns("decision", "chosen", ">probability", "most probable", ">probability", ">entropy, nats"),
        rows=[
            (decision.name, decision.options[record.best.positions[at]], *_certainty(record, last, at))
            for at, decision in enumerate(record.decisions)
        ],
    )


def _certainty(record: SearchRecord, last: SearchEpoch | None, at: int) -> Iterator[str]:
    if last is None:
        yield from (NOTHING,) * 4
        return
    shares, probable = last.shares[at], last.probable[at]
    yield share(shares[record.best.positions[at]])
    yield record.decisions[at].options[probable]
    yield share(shares[probable])
    yield f"{last.entropy[at]:.3f}"
