"""The command `fbnet-zoo`."""

from fbnet_zoo.cli.app import main

__all__ = ["main"]
