"""Charts, tables and page of an operator profile."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from fbnet_zoo.benchmarks.profile import OperatorTime, Profile
from fbnet_zoo.report.blocks import part_title
from fbnet_zoo.report.charts.bars import Mark, meter, strip
from fbnet_zoo.report.html import Table, columns, render, span
from fbnet_zoo.report.latency import device_about, device_title
from fbnet_zoo.report.text import bare_milliseconds, counted, milliseconds, share

_TOP = 12
"""Number of operators in the table of the slowest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileView:
    """Charts and tables of a profile.

    Attributes:
        title: file and runtime.
        facts: number of runs and total times, in one line.
        device: description of the device, in one line.
        warning: sentence about operators outside the backend.
        flame: flame graph of all operators, below the parts and blocks of the network or below their kinds.
        order: description of the rows of the flame graph.
        kinds: table of the time by kind of operator.
        slowest: table of the slowest operators.
        everything: table of all operators in order.
    """

    title: str
    facts: str
    device: str
    warning: str
    flame: Markup
    order: str
    kinds: Table
    slowest: Table
    everything: Table


def profile_page(profile: Profile) -> str:
    """Return a self-contained HTML page about a profile."""
    return render("profile.html.jinja", name=profile.model, profile=view(profile))


def view(profile: Profile) -> ProfileView:
    """Return the charts and tables of a profile."""
    operators = profile.operators
    total = _total(operators)
    slowest = sorted(operators, key=lambda operator: operator.median_ms, reverse=True)[:_TOP]
    return ProfileView(
        title=f"{profile.file} in {profile.runtime}",
        facts=_facts(profile, total),
        device=f"{device_title(profile.device)} · {device_about(profile.device)}" if profile.device else "",
        warning=_warning(profile),
        flame=strip(
            _flame(operators, total), label=f"{counted(len(operators), 'operator')} of {profile.file}, widths by time"
        ),
        order=_order(operators),
        kinds=_kinds(operators, total),
        slowest=_table(f"The {len(slowest)} slowest of {counted(len(operators), 'operator')}", slowest, total),
        everything=_table("All operators, in execution order", operators, total),
    )


def _facts(profile: Profile, total: float) -> str:
    facts = (
        f"{milliseconds(profile.total_ms)} total, median of {counted(profile.runs, 'traced run')}",
        f"{milliseconds(total)} in {counted(len(profile.operators), 'operator')}",
        f"loading {milliseconds(profile.load_ms)}" if profile.load_ms is not None else "",
        counted(profile.threads, "thread") if profile.threads else "",
    )
    return " · ".join(fact for fact in facts if fact)


def _warning(profile: Profile) -> str:
    left = sum(not operator.delegated for operator in profile.operators)
    if not left and not profile.undelegated_share:
        return ""
    taken = f"{share(profile.undelegated_share)} of the time of all operators"
    return f"{counted(left, 'operator')} ran outside the backend and took {taken}."


def _order(operators: Sequence[OperatorTime]) -> str:
    if _knows_modules(operators):
        return "From top: part, block, operator, in execution order."
    return "Operators below their kind, as their names do not identify parts of the network."


def _flame(operators: Sequence[OperatorTime], total: float) -> list[list[Mark]]:
    """Return the operators below the parts and blocks of the network or, if these are unknown, below their kinds."""
    groupings: tuple[Callable[[OperatorTime], str], ...] = (_part, _block)
    if not _knows_modules(operators):
        operators, groupings = _by_kind(operators), (_kind,)
    groups = [[_group_mark(*group, total) for group in groupby(operators, key=key)] for key in groupings]
    return [*groups, [_mark(operator, total) for operator in operators]]


def _knows_modules(operators: Sequence[OperatorTime]) -> bool:
    """Return whether most operators, by time, are named after modules."""
    known = _total(operator for operator in operators if _part(operator))
    return 2 * known > _total(operators)


def _kind(operator: OperatorTime) -> str:
    return operator.kind


def _by_kind(operators: Sequence[OperatorTime]) -> list[OperatorTime]:
    """Return the operators sorted by kind, slowest kind first."""
    times: dict[str, float] = {}
    for operator in operators:
        times[operator.kind] = times.get(operator.kind, 0) + operator.median_ms
    return sorted(operators, key=lambda operator: (-times[operator.kind], operator.kind))


def _total(operators: Iterable[OperatorTime]) -> float:
    return sum(operator.median_ms for operator in operators)


def _part(operator: OperatorTime) -> str:
    """Return the part of the network that an operator belongs to; empty if unknown.

    >>> _part(OperatorTime(name="stages.8.1.expand.conv", kind="Conv", samples_ms=(), median_ms=1.0))
    'Stage 8'
    """
    match operator.name.split("."):
        case ["stages", stage, *_]:
            return part_title(f"stages.{stage}")
        case [("stem" | "head" | "pool" | "classifier") as part, *_]:
            return part_title(part)
        case _:
            return ""


def _block(operator: OperatorTime) -> str:
    match operator.name.split("."):
        case ["stages", stage, block, *_]:
            return f"{stage}.{block}"
        case _:
            return _part(operator)


def _group_mark(label: str, members: Iterator[OperatorTime], total: float) -> Mark:
    taken = _total(members)
    name = label or "other"
    return Mark(value=taken, label=label, title=f"{name}: {milliseconds(taken)}, {_share(taken, total)}", tone="strong")


def _mark(operator: OperatorTime, total: float) -> Mark:
    outside = "" if operator.delegated else ", outside the backend"
    taken = f"{milliseconds(operator.median_ms)}, {_share(operator.median_ms, total)}"
    return Mark(
        value=operator.median_ms,
        label=operator.kind,
        title=f"{operator.name} ({operator.kind}): {taken}{outside}",
        tone="plain" if operator.delegated else "warn",
    )


def _share(taken: float, total: float) -> str:
    return share(taken / total if total else 0)


def _kinds(operators: Sequence[OperatorTime], total: float) -> Table:
    groups = [(kind, tuple(same)) for kind, same in groupby(_by_kind(operators), key=_kind)]
    return Table(
        caption="Time by kind of operator",
        columns=columns("kind", ">operators", ">time, ms", ">share"),
        rows=[(kind, str(len(same)), *_taken(_total(same), total)) for kind, same in groups],
    )


def _table(caption: str, operators: Sequence[OperatorTime], total: float) -> Table:
    return Table(
        caption=caption,
        columns=columns("operator", "kind", ">median, ms", ">share", "run by"),
        rows=[
            (operator.name, operator.kind, *_taken(operator.median_ms, total), _runner(operator))
            for operator in operators
        ],
    )


def _taken(taken: float, total: float) -> Iterator[str]:
    yield bare_milliseconds(taken)
    yield span(meter(taken / total if total else 0) + span(_share(taken, total), class_="share"), class_="amount")


def _runner(operator: OperatorTime) -> str:
    return "backend" if operator.delegated else span("outside the backend", class_="warn")
