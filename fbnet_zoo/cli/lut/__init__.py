"""The commands `fbnet-zoo lut`: measure, show and check latency tables."""
