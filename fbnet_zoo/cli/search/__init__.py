"""The command `fbnet-zoo search`."""
