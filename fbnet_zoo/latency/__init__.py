"""Latency tables and predictors of devices: operators, sums, calibration, files and importers."""
