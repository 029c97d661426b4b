"""Converters: one module per target format, and the checks that each file computes what the model computes."""
