"""`fbnet-zoo verify`: check that a bundle is intact."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from fbnet_zoo.cli import options, screen

if TYPE_CHECKING:
    from fbnet_zoo.deploy.verification import FileCheck

EPILOG = options.examples("verify build/fbnet_b", "verify build/fbnet_b --json")

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="folder that deploy made")]


def command(folder: Folder, as_json: options.Json = False, verbose: options.Verbose = False) -> None:
    """Check the digests of a bundle, and that its networks compute what the PyTorch model computes."""
    from fbnet_zoo.deploy.verification import count_steps, verify

    with screen.steps(folder.name, count_steps(folder)) as progress:
        bundle, findings = verify(folder, progress=progress)
    problems = [finding for finding in findings if finding.problem]
    if as_json:
        about = {"bundle": str(folder), "model": bundle.model, "ok": not problems}
        screen.show_json({**about, "findings": [asdict(finding) for finding in findings]})
    else:
        screen.show(f"{len(bundle.files)} files, {len(problems) or 'no'} problems", _table(findings))
    for finding in problems:
        screen.say("error", f"{finding.path} {finding.problem}", "bold red")
    raise typer.Exit(int(bool(problems)))


def _table(findings: "Iterable[FileCheck]") -> Table:
    """Return the networks that were run, and the problems."""
    lines = Table.grid(padding=(0, 2))
    for finding in findings:
        if finding.problem:
            lines.add_row(finding.path, Text("failed", style="bold red"))
        elif finding.snr_db is not None:
            lines.add_row(finding.path, f"{finding.snr_db:.1f} dB")
    return lines
