"""From a network to a bundle: convert, measure, describe, seal, and put it at its place as a whole."""

import copy
import json
import logging
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fbnet_zoo import arch_file
from fbnet_zoo.benchmarks import store
from fbnet_zoo.benchmarks.measure import Device, Measurement
from fbnet_zoo.benchmarks.profile import Profile
from fbnet_zoo.complexity import cost
from fbnet_zoo.converters import manifest as manifests
from fbnet_zoo.converters import targets
from fbnet_zoo.converters.artifact import Artifact
from fbnet_zoo.converters.convert import convert
from fbnet_zoo.converters.publish import replace_path, workplace
from fbnet_zoo.deploy import card, labels, record, timing
from fbnet_zoo.deploy.card import Facts
from fbnet_zoo.deploy.choose import choose
from fbnet_zoo.deploy.labels import Labels
from fbnet_zoo.deploy.options import AUTO, DeployOptions
from fbnet_zoo.deploy.platforms import Platform
from fbnet_zoo.deploy.record import Bundle, Choice, Deployed
from fbnet_zoo.deploy.reference import Reference, compare_file
from fbnet_zoo.deploy.snippets import render
from fbnet_zoo.errors import InputError
from fbnet_zoo.model import FBNet
from fbnet_zoo.report import deployment

LABELS, PREPROCESSING, DEFINITION = "labels.txt", "preprocessing.json", "definition.yaml"
REPORT, MEASUREMENTS = "report.html", "measurements.jsonl"

_COLOURS = 3

log = logging.getLogger(__name__)

Progress = Callable[[str], None]


def deploy(
    model: FBNet,
    options: DeployOptions,
    *,
    out: str | Path,
    device: Device | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Bundle:
    """Make a folder with a network, ready for apps: files, code that runs them, and all that is known of them.

    Nothing is at `out` before everything is done.

    Args:
        model: takes colour images and has classes; it is not changed.
        options: what the bundle shall be.
        out: the folder to make.
        device: to measure on; whoever opened it closes it.
        force: replace a bundle that is there.
        progress: is told what happens next.

    Returns:
        What `manifest.json` in the folder holds.

    Raises:
        InputError: something does not go together, or `out` is in the way.
        MissingExtraError: a library is not installed.
        ConversionError: a file cannot be written, or does not compute what the model computes.
        DeviceError: the device failed.
    """
    final = Path(out).absolute()
    check_place(final, force=force)
    _check_model(model)
    classes = labels.choose(options.labels, model.plan.num_classes)
    for platform in options.platforms:
        targets.require_libraries(targets.TARGETS[platform.target])
    if device:
        timing.check(options.platforms, device)
    with workplace(final.parent) as folder:
        job = _Job(
            model=copy.deepcopy(model).cpu().float().eval(),
            options=options,
            labels=classes,
            device=device,
            folder=folder,
            staging=Path(tempfile.mkdtemp(dir=folder)) / final.name,
            progress=progress or log.debug,
        )
        bundle = job.run()
        replace_path(job.staging, final)
    return bundle


def check_place(out: Path, *, force: bool) -> None:
    """Make sure that a bundle can be put somewhere without losing anything.

    Raises:
        InputError: something is there that is no bundle, or a bundle and not `force`.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / record.NAME).is_file():
        raise InputError(f"{out}: exists and is no bundle; give a folder that does not exist yet")
    Bundle.load(out)  # else it is somebody else's manifest
    if not force:
        raise InputError(f"{out}: there is a bundle already; --force replaces it, or give another folder")


def _check_model(model: FBNet) -> None:
    if model.plan.stem.in_channels != _COLOURS:
        raise InputError(
            f"this {model.spec.name} takes {model.plan.stem.in_channels} channels; a bundle is for colour images"
        )
    if not model.plan.num_classes:
        raise InputError(f"this {model.spec.name} has no classes; a bundle is for classifiers")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """One bundle in the making.

    Attributes:
        folder: for whatever is not finished.
        staging: what becomes the bundle.
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
        deployed = tuple(self.deployed())
        measurements, profiles = self.measured(deployed)
        self.progress("describe")
        facts = self.facts(deployed, measurements)
        self.describe(facts, profiles)
        return self.seal(facts)

    def deployed(self) -> Iterator[Deployed]:
        """Convert for every platform; put the files and their snippets at their places, and compare them again."""
        converted = self.converted()
        reference = Reference.of(self.model, converted[0][0].manifest.preprocess)
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

    def converted(self) -> list[tuple[Artifact, Choice | None]]:
        """Convert all together, so that they share what they can, or choose a precision for each."""
        platforms, out, precision = self.options.platforms, self.folder / "converted", self.options.precision
        if precision == AUTO:
            return [self.chosen(platform, out) for platform in platforms]
        shared: dict[str, Any] = {"labels": self.labels.names}
        for platform in platforms:
            shared |= self.options.converting(platform, precision)
        to = [platform.target for platform in platforms]
        artifacts = convert(self.model, to=to, out=out, name="model", progress=self.progress, **shared)
        return [(artifact, None) for artifact in artifacts]

    def chosen(self, platform: Platform, out: Path) -> tuple[Artifact, Choice]:
        each = {
            precision: self.options.converting(platform, precision) | {"labels": self.labels.names}
            for precision in self.options.precisions(platform)
        }
        return choose(
            self.model, platform, out=out, name="model", options=each, device=self.device, progress=self.progress
        )

    def measured(self, deployed: tuple[Deployed, ...]) -> tuple[list[Measurement], list[Profile]]:
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
        """Write what people and apps read."""
        page = deployment.page(
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
            card.LICENCE: card.licence_text(facts),
            REPORT: page,
        }
        for name, text in texts.items():
            (self.staging / name).write_text(text, encoding="utf-8")

    def seal(self, facts: Facts) -> Bundle:
        """Write the manifest, last, and return it as it can be read again."""
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
    """Give every file the permissions of one that was plainly written: some libraries write for the user alone."""
    mode = (folder / LABELS).stat().st_mode
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)


def _preprocessing(facts: Facts) -> dict[str, object]:
    """Return how an image becomes the input of each file, for programs."""
    said = {"inputs", "outputs"}
    files = {
        each.path: each.manifest.model_dump(mode="json", include=said, exclude_none=True) for each in facts.deployed
    }
    return {"model": facts.spec.name, **facts.preprocess.model_dump(mode="json"), "files": files}
