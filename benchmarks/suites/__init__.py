"""Benchmarks of this package itself against its peers, run by `make bench`."""
