"""Create a bundle from a network: convert, measure, describe, seal, and move it to its final path as a whole."""

import json
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from fbnet_zoo import arch_file
from fbnet_zoo.atomic import storing_in
from fbnet_zoo.benchmarks import store
from fbnet_zoo.benchmarks.measure import Device, Measurement
from fbnet_zoo.benchmarks.profile import Profile
from fbnet_zoo.complexity import cost
from fbnet_zoo.converters import manifest as manifests
from fbnet_zoo.converters import targets
from fbnet_zoo.converters.artifact import Artifact, Progress
from fbnet_zoo.converters.conversion import convert
from fbnet_zoo.converters.publish import replace_path, workplace
from fbnet_zoo.deploy import card, labels, record, timing
from fbnet_zoo.deploy.card import Facts
from fbnet_zoo.deploy.choose import choose
from fbnet_zoo.deploy.labels import Labels
from fbnet_zoo.deploy.options import AUTO, DeployOptions
from fbnet_zoo.deploy.platforms import Platform
from fbnet_zoo.deploy.record import Bundle, Choice, Deployed
from fbnet_zoo.deploy.reference import ReferenceImages, compare_file
from fbnet_zoo.deploy.snippets import render
from fbnet_zoo.errors import InputError
from fbnet_zoo.model import FBNet
from fbnet_zoo.modules import in_channels, num_outputs, plain_copy
from fbnet_zoo.networks import class_names_of, classifier_of, has_classifier
from fbnet_zoo.report import deployment_page
from fbnet_zoo.weights.defined import difference_from_definition

LABELS, PREPROCESSING, DEFINITION = "labels.txt", "preprocessing.json", "definition.yaml"
REPORT, MEASUREMENTS = "report.html", "measurements.jsonl"

_COLOR_CHANNELS = 3

log = logging.getLogger(__name__)


def deploy(
    model: nn.Module,
    options: DeployOptions,
    *,
    out: str | Path,
    device: Device | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Bundle:
    """Create a bundle: a folder with a network for apps, code that runs it, and a description.

    Nothing appears at `out` before the bundle is complete.

    Args:
        model: a classifier of color images, also wrapped by `torch.compile` or `DataParallel`; not modified.
        options: options of the bundle.
        out: folder to create.
        device: device to measure on; the caller closes it.
        force: replace an existing bundle.
        progress: called with each step as it begins.

    Returns:
        The contents of `manifest.json` in the folder.

    Raises:
        InputError: the model does not fit the options, the device runs none of the files, or `out` exists.
        MissingExtraError: a library is not installed.
        ConversionError: a file cannot be written, or does not compute what the model computes.
        DeviceError: the device failed.
    """
    final = Path(out).absolute()
    check_place(final, force=force)
    network = plain_copy(classifier_of(model)).cpu().float().eval()
    count = _checked_classes(network)
    classes = labels.choose(options.labels, count, class_names_of(network, count))
    for platform in options.platforms:
        targets.require_libraries(targets.TARGETS[platform.target])
    if device:
        timing.check(options.platforms, device)
    with storing_in(final.parent), workplace(final.parent) as folder:
        deployment = _Deployment(
            model=network,
            options=options,
            labels=classes,
            device=device,
            folder=folder,
            staging=Path(tempfile.mkdtemp(dir=folder)) / final.name,
            progress=progress or log.debug,
        )
        bundle = deployment.run()
        replace_path(deployment.staging, final)
    return bundle


def check_place(out: Path, *, force: bool) -> None:
    """Check that a bundle can be created at a path without overwriting anything.

    Raises:
        InputError: the path exists and is not a bundle, or is a bundle and `force` is not set.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / record.NAME).is_file():
        raise InputError(f"{out}: exists and is not a bundle; choose a new folder")
    Bundle.load(out)  # checks that the manifest is a bundle's
    if not force:
        raise InputError(f"{out}: a bundle already exists; replace it with --force, or choose a new folder")


def _checked_classes(model: FBNet) -> int:
    """Return the number of classes; a bundle describes the definition, so the network has to be as it says."""
    channels = in_channels(model)
    if channels != _COLOR_CHANNELS:
        raise InputError(f"{model.spec.name} has {channels} input channels; a bundle requires {_COLOR_CHANNELS}")
    if not has_classifier(model):
        raise InputError(f"{model.spec.name} has no classes; a bundle requires a classifier")
    if difference := difference_from_definition(model):
        raise InputError(
            f"a bundle describes a network by its definition, but this {model.spec.name} differs from it: "
            f"{difference}; convert it instead"
        )
    return num_outputs(model, model.spec.eval_preprocess(model.weights).crop)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Deployment:
    """One call of `deploy`.

    Attributes:
        folder: folder for temporary files.
        staging: folder that becomes the bundle.
    """

    model: FBNet
    options: DeployOptions
    labels: Labels
    device: Device | None
    folder: Path
    staging: Path
    progress: Progress

    def run(self) -> Bundle:
        self.staging.mkdir()
        deployed = tuple(self.convert_and_place())
        measurements, profiles = self.measure(deployed)
        self.progress("describe")
        facts = self.facts(deployed, measurements)
        self.describe(facts, profiles)
        return self.seal(facts)

    def convert_and_place(self) -> Iterator[Deployed]:
        """Convert for every platform, place the files and their snippets, and compare the files with the reference."""
        converted = self.convert()
        reference = ReferenceImages.of(self.model, converted[0][0].manifest.preprocess)
        reference.save(self.staging)
        for platform, (artifact, choice) in zip(self.options.platforms, converted, strict=True):
            path = self.staging / platform.path
            path.parent.mkdir()
            artifact.path.rename(path)
            file = artifact.manifest.file.model_copy(update={"file": platform.file})
            manifest = artifact.manifest.model_copy(update={"file": file})
            for snippet in platform.snippets:
                text = render(snippet, manifest, classes=len(self.labels.names))
                (path.parent / snippet).write_text(text, encoding="utf-8")
            yield Deployed(
                platform=platform.name,
                path=platform.path,
                snippets=platform.snippets,
                manifest=manifest,
                on_reference=compare_file(path, manifest, reference),
                choice=choice,
            )

    def convert(self) -> list[tuple[Artifact, Choice | None]]:
        """Convert for all platforms together, so that they share an export, or choose a precision for each."""
        platforms, out, precision = self.options.platforms, self.folder / "converted", self.options.precision
        if precision == AUTO:
            return [self.choose(platform, out) for platform in platforms]
        shared: dict[str, Any] = {"labels": self.labels.names}
        for platform in platforms:
            shared |= self.options.convert_options(platform, precision)
        to = [platform.target for platform in platforms]
        artifacts = convert(self.model, to=to, out=out, name="model", progress=self.progress, **shared)
        return [(artifact, None) for artifact in artifacts]

    def choose(self, platform: Platform, out: Path) -> tuple[Artifact, Choice]:
        each = {
            precision: self.options.convert_options(platform, precision) | {"labels": self.labels.names}
            for precision in self.options.precisions(platform)
        }
        return choose(
            self.model, platform, out=out, name="model", options=each, device=self.device, progress=self.progress
        )

    def measure(self, deployed: tuple[Deployed, ...]) -> tuple[list[Measurement], list[Profile]]:
        if not self.device:
            return [], []
        self.progress("measure")
        files = {self.staging / each.path: each.manifest for each in deployed}
        measurements = list(timing.measure(self.device, files))
        for measurement in measurements:
            store.append(self.staging / MEASUREMENTS, measurement)
        return measurements, timing.profile(self.device, files)

    def facts(self, deployed: tuple[Deployed, ...], measurements: list[Measurement]) -> Facts:
        preprocess, classes = deployed[0].manifest.preprocess, len(self.labels.names)
        return Facts(
            spec=self.model.spec,
            cost=cost(self.model.spec, preprocess.crop, num_classes=classes),
            weights=self.model.weights,
            license=self.model.license,
            preprocess=preprocess,
            classes=classes,
            labels=self.labels.source,
            deployed=deployed,
            measurements=tuple(measurements),
            created=manifests.now(),
        )

    def describe(self, facts: Facts, profiles: list[Profile]) -> None:
        """Write the texts for people and apps."""
        page = deployment_page(
            facts.spec,
            [each.manifest for each in facts.deployed],
            facts.measurements,
            profiles,
            input_size=facts.preprocess.crop,
            notes=facts.notes,
        )
        texts = {
            LABELS: "".join(f"{name}\n" for name in self.labels.names),
            PREPROCESSING: json.dumps(_preprocessing(facts), indent=2) + "\n",
            DEFINITION: arch_file.dump(facts.spec),
            card.CARD: card.model_card(facts),
            card.LICENSE: card.license_text(facts),
            REPORT: page,
        }
        for name, text in texts.items():
            (self.staging / name).write_text(text, encoding="utf-8")

    def seal(self, facts: Facts) -> Bundle:
        """Write the manifest, last, and return it as read back from the file."""
        _make_readable(self.staging)
        libraries = {library for each in facts.deployed for library in targets.TARGETS[each.manifest.target].libraries}
        bundle = Bundle(
            model=facts.spec.name,
            weights=facts.weights,
            license=facts.license,
            created=facts.created,
            labels=facts.labels,
            deployed=facts.deployed,
            notes=facts.notes,
            versions=manifests.versions(sorted(libraries)),
            files=record.entries(self.staging),
        )
        bundle.save(self.staging)
        return Bundle.load(self.staging)


def _make_readable(folder: Path) -> None:
    """Give every file the default permissions: some libraries make files readable by the user only."""
    mode = (folder / LABELS).stat().st_mode
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)


def _preprocessing(facts: Facts) -> dict[str, object]:
    """Return the contents of `preprocessing.json`."""
    fields = {"inputs", "outputs"}
    files = {
        each.path: each.manifest.model_dump(mode="json", include=fields, exclude_none=True) for each in facts.deployed
    }
    return {"model": facts.spec.name, **facts.preprocess.model_dump(mode="json"), "files": files}
