"""`fbnet-zoo lint`: check a definition against the rules of an accelerator."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from fbnet_zoo.cli import options, screen
from fbnet_zoo.lint import TARGETS, LintFinding, Report, lint

EPILOG = options.examples(
    "lint fbnet_b --target ane", "lint my_network.yaml --target ane --input-size 256 --strict --json"
)

_STYLES = {"high": "bold red", "medium": "yellow", "low": "dim"}
_SUMMARIES = ", ".join(f"{name} ({accelerator.summary})" for name, accelerator in TARGETS.items())


def command(
    name: options.Name,
    target: Annotated[str, typer.Option(metavar="NAME", help=f"accelerator: {_SUMMARIES}")] = "ane",
    input_size: options.InputSize = None,
    everything: Annotated[bool, typer.Option("--all", help="also list findings of low severity")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="exit with 1 if a finding is above low severity")] = False,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """List the layers that break the rules of an accelerator, with the cost of each."""
    report = lint(name, target, input_size)
    worse = [finding for finding in report.findings if finding.severity != "low"]
    if as_json:
        screen.show_json(record(report))
    else:
        shown = report.findings if everything else worse
        screen.show(*([table(shown)] if shown else []), *notes(report, shown))
    raise typer.Exit(int(strict and bool(worse)))


def record(report: Report) -> dict[str, Any]:
    """Return a report as JSON."""
    return {**asdict(report), "growth": report.growth, "conditions": list(report.conditions)}


def table(findings: Sequence[LintFinding]) -> Table:
    """Return a line for each finding."""
    figures = (">growth", ">padding\nkB", ">memory\n%", ">MACs\n%")
    result = screen.table("layer", "found", "severity", *figures, gap=1)
    for finding in findings:
        result.add_row(
            finding.layer,
            finding.found,
            Text(finding.severity, style=_STYLES[finding.severity]),
            f"{finding.growth:.1f}x",
            f"{finding.padding_bytes / 1e3:.0f}",
            f"{100 * finding.activation_share:.1f}",
            f"{100 * finding.mac_share:.1f}",
        )
    return result


def notes(report: Report, shown: Sequence[LintFinding]) -> list[Text]:
    """Return the totals, the advice, and the conditions for a conversion, one line each."""
    counts = {level: sum(finding.severity == level for finding in report.findings) for level in _STYLES}
    hidden = len(report.findings) - len(shown)
    levels = ", ".join(f"{count} {level}" for level, count in counts.items())
    more = f"; --all shows the {hidden} not listed" if hidden else ""
    strides = " and ".join(map(str, report.strides))
    plain, padded = (f"{size / 1e6:.2f} MB" for size in (report.activation_bytes, report.padded_bytes))
    lines = (
        f"{report.name} at {report.input_size} px, {TARGETS[report.target].summary}: {levels}{more}",
        f"activations {plain}, with padding {padded} ({report.growth:.2f}x)",
        f"held: tensors of rank {report.largest_rank} at most (5 is the limit), strides of {strides} (factors 2 and 3)",
    )
    advice = dict.fromkeys(f"{finding.rule}: {finding.advice}" for finding in shown)
    return [Text(line) for line in (*lines, *advice, *report.conditions)]
