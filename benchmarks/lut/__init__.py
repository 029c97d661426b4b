"""Measuring latency tables (LUTs) of search spaces, and whole networks to calibrate and evaluate them."""
