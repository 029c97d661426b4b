"""One command for three formats against three scripts for one format each."""

import subprocess
import sys
from pathlib import Path

from fbnet_zoo.benchmarks.suites.figures import Versus
from fbnet_zoo.benchmarks.zoo_results import FORMATS
from fbnet_zoo.converters.targets import TARGETS

SUFFIXES = {name: TARGETS[name].suffix for name in FORMATS}


def bench_convert_three_formats(versus: Versus, tmp_path: Path) -> None:
    """Whole processes, from weights to checked files; the target is at most 0.8 of the peer's time."""
    ours = ["fbnet_zoo", "convert", "fbnet_b", "--to", *SUFFIXES, "--weights", "none", "--out", str(tmp_path / "ours")]
    versus(lambda: _module(*ours), lambda: _separately(tmp_path), target=1 / 0.8, rounds=3)


def _separately(folder: Path) -> None:
    for target, suffix in SUFFIXES.items():
        _module("fbnet_zoo.benchmarks.suites.separate_convert", target, "fbnet_b", str(folder / f"theirs.{suffix}"))


def _module(*arguments: str) -> None:
    command = [sys.executable, "-m", *arguments]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603  our own modules
