"""Invented records for tests of report pages; every number is different."""

from typing import Any

from fbnet_zoo.benchmarks.profile import OperatorTime, Profile
from fbnet_zoo.converters.manifest import (
    FileRecord,
    LayerSqnr,
    Manifest,
    ParityRecord,
    QuantizationRecord,
    TensorRecord,
)
from fbnet_zoo.converters.parity import CaseResult, ParityReport, Tolerances
from fbnet_zoo.spec import PreprocessSpec
from tests.helpers.measurements import PHONE

CASES = (
    CaseResult(
        name="coffee.jpg", snr_db=117.74, max_abs_error=5.3e-06, max_error=1.6e-06, top1_agreement=1.0, near_ties=0
    ),
    CaseResult(
        name="zeros", snr_db=109.26, max_abs_error=7.1e-06, max_error=2.9e-06, top1_agreement=0.875, near_ties=3
    ),
)


def manifest(**changes: Any) -> Manifest:
    """Return the manifest of an fp32 ONNX file with two parity cases, the second out of tolerance."""
    report = ParityReport(runtime="onnxruntime 1.31.1", tolerances=Tolerances.of("fp32"), cases=CASES)
    fields: dict[str, Any] = {
        "model": "tiny",
        "target": "onnx",
        "precision": "fp32",
        "weights": "random seed 7",
        "license": "CC-BY-4.0",
        "created": "2026-03-04T05:06:07+00:00",
        "file": FileRecord(file="tiny.onnx", size=1_234_567, sha256="0123456789abcdef" * 4),
        "companions": (),
        "inputs": (
            TensorRecord(name="image", shape=(1, 3, 64, 64), dtype="float32", layout="NCHW", channel_order="rgb"),
        ),
        "outputs": (TensorRecord(name="logits", shape=(1, 10), dtype="float32", layout="NC"),),
        "preprocess": PreprocessSpec(resize=80, crop=64),
        "parity": ParityRecord.of(report),
        "facts": {"opset": 20, "operators": {"Conv": 31, "Relu": 17}, "left": {}},
        "versions": {"torch": "2.13.0", "onnx": "1.23.2"},
    }
    return Manifest(**{**fields, **changes})


def quantized(**changes: Any) -> Manifest:
    """Return the manifest of an int8 file with errors of layers and accuracies."""
    fields: dict[str, Any] = {
        "scheme": "int8 weights per channel, int8 activations",
        "calibration": "shipped photographs",
        "images": 48,
        "kept": ("stem",),
        "layers": (
            LayerSqnr(name="stem", sqnr_db=44.44),
            LayerSqnr(name="stages.4.0.expand", sqnr_db=12.34),
            LayerSqnr(name="classifier", sqnr_db=-1.25),
        ),
        "layers_from": "onnxruntime, the file itself",
        "evaluated": 96,
        "sqnr_db": 23.45,
        "top1_agreement": 0.917,
        "threshold": 0.85,
        "fp32_top1": 91.67,
        "top1": 90.28,
        "degraded": False,
    }
    record = QuantizationRecord(**{**fields, **changes})
    file = FileRecord(file="tiny-int8.onnx", size=345_678, sha256="fedcba9876543210" * 4)
    return manifest(precision="int8", file=file, quantization=record)


def profile(**changes: Any) -> Profile:
    """Return a profile of four operators, one of them undelegated."""
    fields: dict[str, Any] = {
        "model": "tiny",
        "file": "tiny.onnx",
        "runtime": "onnxruntime 1.31.1",
        "device": PHONE,
        "threads": 2,
        "runs": 15,
        "total_ms": 8.765,
        "load_ms": 43.21,
        "operators": (
            operator("stem.conv", "Conv", 1.25),
            operator("stages.4.0.expand.conv", "Conv", 2.5),
            operator("stages.4.0.expand.act", "HardSwish", 0.75, delegated=False),
            operator("classifier", "Gemm", 0.5),
        ),
        "undelegated_share": 0.15,
    }
    return Profile(**{**fields, **changes})


def operator(name: str, kind: str, median_ms: float, *, delegated: bool = True) -> OperatorTime:
    """Return an operator with the same time in three runs."""
    return OperatorTime(name=name, kind=kind, samples_ms=(median_ms,) * 3, median_ms=median_ms, delegated=delegated)
