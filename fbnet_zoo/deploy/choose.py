"""`--precision auto`: choose the fastest file among those that pass their checks, if it is significantly faster."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from fbnet_zoo.benchmarks.compare import compare
from fbnet_zoo.benchmarks.devices.discovery import describe
from fbnet_zoo.benchmarks.devices.host import HostDevice
from fbnet_zoo.benchmarks.measure import Device, Measurement
from fbnet_zoo.converters.artifact import Artifact, Precision, Progress
from fbnet_zoo.converters.conversion import convert
from fbnet_zoo.converters.publish import publish, workplace
from fbnet_zoo.deploy.platforms import Platform
from fbnet_zoo.deploy.record import Choice, Variant
from fbnet_zoo.deploy.timing import can_run, model_file
from fbnet_zoo.errors import ConversionError
from fbnet_zoo.model import FBNet
from fbnet_zoo.stats import Ratio

ROUNDS = 6
"""Number of measurements of every file, each in a new process."""


def choose(
    model: FBNet,
    platform: Platform,
    *,
    out: str | Path,
    name: str | None = None,
    options: Mapping[Precision, Mapping[str, Any]],
    device: Device | None = None,
    progress: Progress | None = None,
) -> tuple[Artifact, Choice]:
    """Convert a network in several precisions and keep the fastest file.

    Files that fail their checks or are degraded are dropped. The others are measured in turn, on one thread; a lower
    precision is chosen only if the 95 % interval of the ratio of the latencies excludes 1.

    Args:
        model: the network; not modified.
        platform: platform of the file.
        out: output folder of the chosen file.
        name: file name without suffix (default: the name of the definition).
        options: fields of `ConvertOptions` for each precision to try, the highest first.
        device: device to measure on (default: this machine, also if the device cannot run such files).
        progress: called with each step as it begins.

    Raises:
        InputError: an option or the folder is invalid.
        ConversionError: no file passes its check.
        DeviceError: the device failed.
        MissingExtraError: a library is not installed.
    """
    progress = progress or (lambda _: None)
    with workplace(Path(out)) as folder, ExitStack() as stack:
        runs_on = _device(platform, device, stack)
        contest = _Contest(platform=platform, device=runs_on)
        for precision in options if runs_on else [*options][:1]:
            chosen = {**options[precision], "name": name, "progress": progress}
            contest.enter(model, precision, out=folder / precision, options=chosen)
        if runs_on and len(contest.artifacts) > 1:
            progress(f"{platform.target}: time {', '.join(contest.artifacts)}")
            contest.measure(runs_on)
        best = contest.decide()
        kept = contest.artifacts[best]
        path, manifest_path = publish(kept.path, kept.manifest_path, Path(out))
    return replace(kept, path=path, manifest_path=manifest_path), contest.choice(best)


def _device(platform: Platform, given: Device | None, stack: ExitStack) -> Device | None:
    if given and can_run(given, platform):
        return given
    host = stack.enter_context(HostDevice())
    return host if can_run(host, platform) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contest:
    """The candidate files of one platform, the highest precision first."""

    platform: Platform
    device: Device | None
    artifacts: dict[Precision, Artifact] = field(default_factory=dict)
    dropped: dict[Precision, Variant] = field(default_factory=dict)
    measured: dict[Precision, list[Measurement]] = field(default_factory=dict)

    def enter(self, model: FBNet, precision: Precision, *, out: Path, options: Mapping[str, Any]) -> None:
        """Convert in one precision, and add the file if it passes."""
        try:
            artifact = convert(model, to=self.platform.target, out=out, **options)
        except ConversionError as error:
            self.dropped[precision] = Variant(precision=precision, dropped=str(error))
            return
        quantized, size = artifact.manifest.quantization, artifact.manifest.file.size
        if quantized and quantized.degraded and not options.get("allow_degraded"):
            why = f"degraded: the same top-1 class for {quantized.top1_agreement:.0%} of {quantized.evaluated} images"
            self.dropped[precision] = Variant(precision=precision, size=size, dropped=why)
        else:
            self.artifacts[precision] = artifact

    def measure(self, device: Device) -> None:
        """Run all files in turn, in alternating order, so that slow changes of the device affect all equally."""
        order = list(self.artifacts)
        for turn in range(ROUNDS):
            for precision in order if turn % 2 == 0 else reversed(order):
                artifact = self.artifacts[precision]
                measured = device.run(model_file(artifact.path, artifact.manifest))
                self.measured.setdefault(precision, []).append(measured)

    def decide(self) -> Precision:
        if not self.artifacts:
            reasons = "; ".join(f"{each.precision}: {each.dropped}" for each in self.dropped.values())
            raise ConversionError(f"no precision passes the checks for {self.platform.title}: {reasons}")
        best, *others = self.artifacts
        for precision in others if self.measured else ():
            if self.ratio(best, precision).high < 1:
                best = precision
        return best

    def ratio(self, a: Precision, b: Precision) -> Ratio:
        return compare(self.measured[a], self.measured[b]).ratio

    def choice(self, best: Precision) -> Choice:
        entered = [self.variant(precision, best) for precision in self.artifacts]
        return Choice(
            chosen=best,
            device=describe(self.device.info()) if self.device and self.measured else None,
            threads=self.measured[best][0].threads if self.measured else None,
            variants=(*entered, *self.dropped.values()),
            reason=self.reason(best),
        )

    def variant(self, precision: Precision, best: Precision) -> Variant:
        size = self.artifacts[precision].manifest.file.size
        if not self.measured:
            return Variant(precision=precision, size=size)
        p50_ms = median(sample for each in self.measured[precision] for sample in each.samples_ms)
        if precision == best:
            return Variant(precision=precision, size=size, p50_ms=p50_ms)
        ratio = self.ratio(best, precision)
        figures = (ratio.ratio, ratio.low, ratio.high)
        return Variant(precision=precision, size=size, p50_ms=p50_ms, ratio=figures, dropped=_why(ratio, best))

    def reason(self, best: Precision) -> str:
        if self.device and self.measured:
            highest = best == next(iter(self.artifacts))
            found = "No lower precision is significantly faster" if highest else "Faster than the higher precisions"
            return f"{found}: {ROUNDS} processes each, in turn, on {describe(self.device.info())}."
        if self.device:
            return "The only precision that passed its check."
        return f"Files for {self.platform.title} cannot be timed on this machine; {best} runs on its accelerator."


def _why(ratio: Ratio, best: Precision) -> str:
    interval = f"{ratio.ratio:.3f} times the latency of {best} ({ratio.low:.3f} to {ratio.high:.3f})"
    return interval if ratio.low > 1 else f"not significantly faster: {interval}"
