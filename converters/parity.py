"""Parity check: whether a converted file computes what the PyTorch model computes."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Protocol, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from fbnet_zoo.converters.cases import Case

_DEFAULTS = {"fp32": (100.0, 1e-4, 1.0), "fp16": (40.0, 3e-2, 1.0)}
_QUANTIZED = (0.0, 1.0, 0.9)
"""Tolerances of quantized files: only the top-1 agreement limits the loss."""

FLAT_LENIENCY_DB = 10.0
"""Reduction of the minimum SNR for images of one color. All their pixels have the same rounding error, which does not
average out as in photographs: XNNPACK's mean of 3,136 equal values has a relative error of 1e-5."""

LIMIT_DB = 300.0
"""Bound of a ratio, dB: beyond the resolution of float64, but finite, for JSON."""

# What manifests that are read must satisfy
_Decibels = Annotated[float, Field(ge=-LIMIT_DB, le=LIMIT_DB)]
_NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Share = Annotated[float, Field(ge=0, le=1)]


class Runner(Protocol):
    """A converted file, loaded into a runtime."""

    @property
    def runtime(self) -> str:
        """Name and version of the runtime."""

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return the outputs for normalized images, joined: float32 `(N, C, S, S)` to float32 `(N, values)`."""

    def trace(self, images: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Yield name and value of every intermediate tensor, in order (default: none, if the runtime exposes none)."""
        del images
        return iter(())


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerances:
    """Tolerances of the parity check.

    Attributes:
        min_snr_db: minimum signal-to-noise ratio of an image's logits, dB; 10 dB less for images of one color.
        max_error: maximum error of a logit, relative to the image's largest logit.
        min_top1_agreement: minimum share of images with the same top-1 class.
    """

    min_snr_db: Annotated[float, Field(allow_inf_nan=False)]
    max_error: _NotNegative
    min_top1_agreement: _Share = 1.0

    @classmethod
    def of(
        cls,
        precision: str,
        *,
        min_snr_db: float | None = None,
        max_error: float | None = None,
        min_top1_agreement: float | None = None,
    ) -> Self:
        """Return the default tolerances of a precision, with the given values replaced.

        >>> Tolerances.of("fp16", max_error=0.1)
        Tolerances(min_snr_db=40.0, max_error=0.1, min_top1_agreement=1.0)
        """
        default_db, default_error, default_agreement = _DEFAULTS.get(precision, _QUANTIZED)
        return cls(
            min_snr_db=default_db if min_snr_db is None else min_snr_db,
            max_error=default_error if max_error is None else max_error,
            min_top1_agreement=default_agreement if min_top1_agreement is None else min_top1_agreement,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """Error of the logits of a case relative to the model's; each metric is that of the worst image.

    Attributes:
        snr_db: signal-to-noise ratio, dB.
        max_abs_error: maximum error of a logit.
        max_error: maximum error of a logit, relative to the image's largest logit.
        top1_agreement: share of images with the same top-1 class, near ties included.
        near_ties: number of images whose top-1 class differs, but by less than the tolerated noise.
        flat: whether one of the images has a single color.
    """

    name: str
    snr_db: _Decibels
    max_abs_error: _NotNegative
    max_error: _NotNegative
    top1_agreement: _Share
    near_ties: Annotated[int, Field(ge=0)]
    flat: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityReport:
    """Parity of a file in all cases."""

    runtime: str
    tolerances: Tolerances
    cases: tuple[CaseResult, ...]

    @property
    def worst(self) -> CaseResult:
        """The worst value of each metric over all cases."""
        cases = self.cases
        return CaseResult(
            name="worst",
            snr_db=min(case.snr_db for case in cases),
            max_abs_error=max(case.max_abs_error for case in cases),
            max_error=max(case.max_error for case in cases),
            top1_agreement=min(case.top1_agreement for case in cases),
            near_ties=sum(case.near_ties for case in cases),
        )

    @property
    def passed(self) -> bool:
        """Whether every case is within the tolerances."""
        return not self.failures()

    def failures(self) -> list[str]:
        """Return one phrase for each metric of each case that is out of tolerance."""
        return [phrase for case in self.cases for phrase in _failures(case, self.tolerances)]


def _failures(case: CaseResult, tolerances: Tolerances) -> Iterator[str]:
    limit_db = tolerances.min_snr_db - FLAT_LENIENCY_DB * case.flat
    if not case.snr_db >= limit_db:
        yield f"{case.snr_db:.1f} dB on {case.name}, expected at least {limit_db:.1f} dB"
    if not case.max_error <= tolerances.max_error:
        wanted = f"expected at most {tolerances.max_error:.2g}"
        yield f"an error of {case.max_error:.2g} of the largest logit on {case.name}, {wanted}"
    if case.top1_agreement < tolerances.min_top1_agreement:
        wanted = f"expected at least {tolerances.min_top1_agreement:.0%}"
        yield f"the same top-1 class for {case.top1_agreement:.0%} of {case.name}, {wanted}"


def check(model: nn.Module, runner: Runner, cases: Sequence[Case], tolerances: Tolerances) -> ParityReport:
    """Compare a file with the model, case by case.

    Args:
        model: the original float32 model; its training mode is restored.
        runner: the file, loaded into a runtime.
        cases: batches that the file accepts.
        tolerances: tolerances of the report.
    """
    results = []
    for case in cases:
        expected, got = output_values(model, case.images), runner(case.images)
        for name, reference, values in _by_output(case.name, expected, got):
            result = compare(name, reference, values, tolerances.min_snr_db)
            results.append(replace(result, flat=_has_flat_image(case.images)))
    return ParityReport(runtime=runner.runtime, tolerances=tolerances, cases=tuple(results))


def _has_flat_image(images: np.ndarray) -> bool:
    """Return whether one of the images `(N, C, H, W)` has a single color."""
    return bool((images == images[..., :1, :1]).all((1, 2, 3)).any())


def _by_output(name: str, expected: Sequence[np.ndarray], got: np.ndarray) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return the reference and the values of each output; several are joined in `got`."""
    flat = [value.reshape(len(value), -1) for value in expected]
    ends = np.cumsum([value.shape[1] for value in flat])
    if len(flat) == 1 or got.shape != (len(flat[0]), ends[-1]):
        return [(name, joined(expected), got)]
    parts = np.split(got, ends[:-1], axis=1)
    return [(f"{name}: output {index}", *pair) for index, pair in enumerate(zip(flat, parts, strict=True), start=1)]


def joined(outputs: Sequence[np.ndarray]) -> np.ndarray:
    """Return the outputs of a network as one matrix `(N, values)`."""
    return np.concatenate([value.reshape(len(value), -1) for value in outputs], axis=1)


def tensors(output: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    """Return the outputs of a network, which has one tensor or several."""
    return [output] if isinstance(output, Tensor) else output


def logits(model: nn.Module, images: np.ndarray) -> np.ndarray:
    """Return the logits of a network in evaluation mode; its training mode is restored."""
    return joined(output_values(model, images))


@torch.no_grad()
def output_values(model: nn.Module, images: np.ndarray) -> list[np.ndarray]:
    """Return the outputs of a network in evaluation mode; its training mode is restored."""
    training = model.training
    try:
        return [value.numpy() for value in tensors(model.eval()(torch.from_numpy(images)))]
    finally:
        model.train(training)


def compare(name: str, expected: np.ndarray, got: np.ndarray, tolerated_db: float) -> CaseResult:
    """Compare logits `(N, classes)` with the reference's.

    Two classes whose reference logits are closer than the RMS noise at `tolerated_db` are a near tie: either may be off
    by that much, so their order is not significant.
    """
    if got.shape != expected.shape:
        return CaseResult(
            name=name,
            snr_db=-LIMIT_DB,
            max_abs_error=np.inf,
            max_error=np.inf,
            top1_agreement=0.0,
            near_ties=0,
        )
    error = np.abs(expected.astype(np.float64) - got).max(1)  # (N,)
    peak = np.maximum(np.abs(expected).max(1), np.finfo(np.float32).tiny)
    gap = _gaps(expected, got)
    tie = 2 * np.sqrt(np.square(expected).mean(1)) * 10 ** (-tolerated_db / 20)
    return CaseResult(
        name=name,
        snr_db=min(snr_db(*pair) for pair in zip(expected, got, strict=True)),
        max_abs_error=float(error.max()),
        max_error=float((error / peak).max()),
        top1_agreement=float((gap <= tie).mean()),
        near_ties=int(((gap > 0) & (gap <= tie)).sum()),
    )


def _gaps(expected: np.ndarray, got: np.ndarray) -> np.ndarray:
    """Return, per image, the reference logit of its own top-1 class minus that of the file's: 0 where they agree."""
    rows = np.arange(len(expected))
    return expected.max(1) - expected[rows, got.argmax(1)]


def snr_db(expected: np.ndarray | Tensor, got: np.ndarray | Tensor) -> float:
    """Return the signal-to-noise ratio: energy of `expected` over that of the difference, as in `ratio_db`.

    >>> round(snr_db(np.array([3.0, 4.0]), np.array([3.0, 4.05])))
    40
    """
    reference, values = np.asarray(expected, np.float64), np.asarray(got, np.float64)
    return ratio_db(float(np.square(reference).sum()), float(np.square(reference - values).sum()))


def ratio_db(signal: float, noise: float) -> float:
    """Return the ratio of two energies within +-300 dB: 300 without noise, -300 if it is NaN or infinite."""
    if noise == 0:
        return LIMIT_DB
    if not np.isfinite(noise) or signal == 0:
        return -LIMIT_DB
    return float(np.clip(10 * np.log10(signal / noise), -LIMIT_DB, LIMIT_DB))


def first_divergence(
    network: nn.Module, traced: Iterable[tuple[str, np.ndarray]], images: np.ndarray, min_snr_db: float
) -> str | None:
    """Return the name of the first module whose output a file does not compute; `None` if it computes the last one.

    Exporters name tensors in their own ways, and may merge a module into its neighbor. So every module's output is
    looked up by shape and value among all tensors of the file, and a missing one counts only if all later ones are
    missing too.

    Args:
        network: the deploy form that was converted, in float32.
        traced: names and values of the file's tensors for `images`.
        images: one batch that the file accepts.
        min_snr_db: minimum signal-to-noise ratio of a match, dB.
    """
    tensors: dict[tuple[int, ...], list[np.ndarray]] = {}
    for _, value in traced:
        tensors.setdefault(shape_of(value), []).append(value.reshape(-1))
    suspect = None
    for name, output in reversed(outputs(network, images)):
        found = (snr_db(output.reshape(-1), value) for value in tensors.get(shape_of(output), ()))
        if any(snr >= min_snr_db for snr in found):
            break
        suspect = name
    return suspect


def shape_of(value: np.ndarray) -> tuple[int, ...]:
    """Return the shape without axes of size 1, which converters add and remove."""
    return tuple(size for size in value.shape if size != 1)


@torch.no_grad()
def outputs(network: nn.Module, images: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return name and output of every submodule of `network`, in the order in which they finish."""
    outputs: list[tuple[str, np.ndarray]] = []
    hooks = []
    for name, module in network.named_modules():
        if name and not isinstance(module, nn.Identity):
            keep = lambda _module, _inputs, output, name=name: outputs.append((name, output.numpy()))  # noqa: E731
            hooks.append(module.register_forward_hook(keep))
    network(torch.from_numpy(images))
    for hook in hooks:
        hook.remove()
    return outputs
