"""Where files lie that tests read."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""Of the repository."""

DATA = ROOT / "tests" / "data"
TINY = DATA / "tiny.yaml"
"""The definition of a small network with something of everything, for 64 px."""
