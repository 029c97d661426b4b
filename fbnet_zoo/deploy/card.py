"""What a bundle says of itself to people: the model card, and the licence of the weights."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import fbnet_zoo
from fbnet_zoo.benchmarks.devices.discovery import describe
from fbnet_zoo.benchmarks.measure import Measurement
from fbnet_zoo.complexity import Cost
from fbnet_zoo.deploy import licences
from fbnet_zoo.deploy.platforms import PLATFORMS
from fbnet_zoo.deploy.record import Deployed
from fbnet_zoo.deploy.snippets import fill
from fbnet_zoo.spec import ArchSpec, PreprocessSpec, WeightsSpec
from fbnet_zoo.stats import summarize
from fbnet_zoo.weights.loading import RANDOM

CARD, LICENCE = "MODEL_CARD.md", "LICENSE-weights.txt"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Facts:
    """What there is to say.

    Attributes:
        cost: of the network that was converted, for one image.
        weights: where they are from: a tag, an address, the name of a file or a seed.
        license: of the weights.
        classes: how many there are.
        labels: where their names are from, in words.
        created: date and time, UTC.
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
        """The definition's entry of these weights; what was done to them may follow its tag."""
        tag = (self.weights or "").partition(",")[0]
        return next((entry for entry in self.spec.weights if entry.tag == tag), None)

    @property
    def random(self) -> bool:
        """Whether the weights say nothing."""
        return not self.weights or self.weights.startswith(RANDOM)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user of the bundle should know first, one sentence each."""
        return tuple(_notes(self))


def model_card(facts: Facts) -> str:
    """Return the model card, Markdown."""
    titles = [PLATFORMS[each.platform].title for each in facts.deployed]
    timings = [_timing(measurement) for measurement in facts.measurements]
    return fill(CARD, _values(facts) | {"platforms": PLATFORMS, "titles": titles, "timings": timings})


def licence_text(facts: Facts) -> str:
    """Return what is known of the licence of the weights, plain text."""
    return fill(LICENCE, _values(facts))


def _notes(facts: Facts) -> Iterator[str]:
    if facts.random:
        yield "The weights are random numbers: the files can be tried out, their answers mean nothing."
    for each in facts.deployed:
        quantized, runtime = each.manifest.quantization, each.manifest.parity.runtime or ""
        if quantized and quantized.degraded and not facts.random:
            same = f"{quantized.top1_agreement:.0%} of {quantized.evaluated} images"
            yield f"{each.path} is degraded by quantization: it keeps the best class of {same}."
        if each.manifest.target == "coreml" and "interpreter" in runtime:
            yield f"{each.path} was checked by {runtime}, not by Core ML itself, which runs on Apple's systems only."
    timed = {measurement.file for measurement in facts.measurements}
    if timed and (left := [each.path for each in facts.deployed if each.manifest.file.file not in timed]):
        yield f"Not measured, since the device does not run it: {', '.join(left)}."


def _values(facts: Facts) -> dict[str, Any]:
    return {"facts": facts, "licence": licences.find(facts.license), "version": fbnet_zoo.__version__}


def _timing(measurement: Measurement) -> dict[str, Any]:
    return {
        "measured": measurement,
        "summary": summarize(measurement.samples_ms),
        "device": describe(measurement.device),
        "versions": ", ".join(f"{library} {version}" for library, version in sorted(measurement.versions.items())),
    }
