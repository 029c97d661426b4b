"""Measuring converted files: devices, runtimes, latency tables and stored results."""
