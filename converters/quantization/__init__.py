"""Quantization: calibration images, sensitivity of layers, quantizers for each target, and evaluation of the result."""
