"""The command `fbnet-zoo`."""

from fbnet_zoo import interruption

__all__ = ["main"]


def main() -> None:
    """Run the command line of this process."""
    with interruption.handled():
        from fbnet_zoo.cli import screen  # takes a while, in which it may be interrupted, too
        from fbnet_zoo.cli.app import app

        screen.open_streams()
        app()
