"""The command `fbnet-zoo`."""

from fbnet_zoo import interruption
from fbnet_zoo.cli.streams import open_streams

__all__ = ["main"]


def main() -> None:
    """Run the command line of this process."""
    open_streams()
    with interruption.handled():
        from fbnet_zoo.cli.app import app  # takes a while, in which it may be interrupted, too

        app()
