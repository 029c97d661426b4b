"""The definitions: one YAML file per network, read through `fbnet_zoo.registry`."""
