"""Importers of latency tables that others published."""
