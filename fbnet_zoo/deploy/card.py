"""Texts of a bundle for people: the model card, and the license of the weights."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import fbnet_zoo
from fbnet_zoo.benchmarks.devices.discovery import describe
from fbnet_zoo.benchmarks.measure import Measurement
from fbnet_zoo.complexity import Cost
from fbnet_zoo.deploy import licenses
from fbnet_zoo.deploy.platforms import PLATFORMS
from fbnet_zoo.deploy.record import Deployed
from fbnet_zoo.deploy.snippets import fill
from fbnet_zoo.spec import ArchSpec, PreprocessSpec, WeightsSpec
from fbnet_zoo.stats import summarize
from fbnet_zoo.weights.loading import RANDOM

CARD, LICENSE = "MODEL_CARD.md", "LICENSE-weights.txt"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Facts:
    """Facts about a bundle, from which its texts are written.

    Attributes:
        cost: cost of the converted network, for one image.
        weights: source of the weights: a tag, a URL, a file name or a seed.
        license: license of the weights.
        classes: number of classes.
        labels: source of the class names, in words.
        created: date and time of creation, UTC.
    """

    spec: ArchSpec
    cost: Cost
    weights: str | None
    license: str | None
    preprocess: PreprocessSpec
    classes: int
    labels: str
    deployed: tuple[Deployed, ...]
    measurements: Sequence[Measurement]
    created: str

    @property
    def published(self) -> WeightsSpec | None:
        """The definition's entry for these weights, whose tag may be followed by later modifications."""
        tag = (self.weights or "").partition(",")[0]
        return next((entry for entry in self.spec.weights if entry.tag == tag), None)

    @property
    def random(self) -> bool:
        """Whether the weights are random."""
        return not self.weights or self.weights.startswith(RANDOM)

    @property
    def notes(self) -> tuple[str, ...]:
        """Important notes for users of the bundle, one sentence each."""
        return tuple(_notes(self))


def model_card(facts: Facts) -> str:
    """Return the model card, Markdown."""
    titles = [PLATFORMS[each.platform].title for each in facts.deployed]
    timings = [_timing(measurement) for measurement in facts.measurements]
    return fill(CARD, _values(facts) | {"platforms": PLATFORMS, "titles": titles, "timings": timings})


def license_text(facts: Facts) -> str:
    """Return the text about the license of the weights, plain text."""
    return fill(LICENSE, _values(facts))


def _notes(facts: Facts) -> Iterator[str]:
    if facts.random:
        yield "The weights are random: the files can be run, but their predictions are meaningless."
    for each in facts.deployed:
        quantized, runtime = each.manifest.quantization, each.manifest.parity.runtime or ""
        if quantized and quantized.degraded and not facts.random:
            same = f"{quantized.top1_agreement:.0%} of {quantized.evaluated} images"
            yield f"{each.path} is degraded by quantization: it has the same top-1 class as the network for {same}."
        if each.manifest.target == "coreml" and "interpreter" in runtime:
            yield f"{each.path} was checked in {runtime}, not in Core ML itself, which runs only on Apple's systems."
    timed = {measurement.file for measurement in facts.measurements}
    if timed and (left := [each.path for each in facts.deployed if each.manifest.file.file not in timed]):
        yield f"Not measured, because the device cannot run it: {', '.join(left)}."


def _values(facts: Facts) -> dict[str, Any]:
    return {"facts": facts, "license": licenses.find(facts.license), "version": fbnet_zoo.__version__}


def _timing(measurement: Measurement) -> dict[str, Any]:
    return {
        "measured": measurement,
        "summary": summarize(measurement.samples_ms),
        "device": describe(measurement.device),
        "versions": ", ".join(f"{library} {version}" for library, version in sorted(measurement.versions.items())),
    }
