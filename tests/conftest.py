"""Fixtures that all tests may use."""

pytest_plugins = ["tests.hub_server"]
