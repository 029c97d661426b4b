"""Files to measure: converted files with their manifests, and networks that are converted first."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fbnet_zoo._require import quiet
from fbnet_zoo.cli import network, options, screen
from fbnet_zoo.cli.parameters import split
from fbnet_zoo.converters.artifact import ConvertOptions
from fbnet_zoo.converters.targets import RUNTIMES, TARGETS, TORCH, find, runtimes_on
from fbnet_zoo.errors import FbnetZooError, InputError

if TYPE_CHECKING:
    from fbnet_zoo.benchmarks.measure import ModelFile
    from fbnet_zoo.model import FBNet

TARGET_OF_SUFFIX = {f".{each.suffix}": each.name for each in TARGETS.values()} | {
    f".{each.suffix}": each.target for each in RUNTIMES.values()
}
_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """How to convert networks to files.

    Attributes:
        to: names of targets, or `torch` (default: those that the device runs).
        precision: precisions of the files (default: fp32).
        weights: a tag, path or address, as in `fbnet_zoo.cli.network.load`.
        seed: seed of random weights.
        keep: folder that keeps the files (default: none).
    """

    to: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TARGET...",
            help="formats for networks: targets of convert, or torch (default: those that the device runs)",
            callback=split,
        ),
    ] = None
    precision: Annotated[
        list[str] | None,
        typer.Option(metavar="P...", help="precisions for networks (default: fp32)", callback=split),
    ] = None
    weights: options.Weights = None
    seed: options.Seed = None
    keep: Annotated[
        Path | None, typer.Option(metavar="DIR", help="keep the files that networks are converted to in this folder")
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Files to measure, and failures of the conversion, as `fbnet_zoo.cli.screen.describe` returns them."""

    models: "tuple[ModelFile, ...]"
    failures: tuple[dict[str, Any], ...]


def is_file(word: str) -> bool:
    """Return whether a word is the path of a converted file, which need not exist.

    >>> is_file("build/fbnet_b.onnx"), is_file("fbnet_b"), is_file("my.yaml")
    (True, False, False)
    """
    return Path(word).suffix in TARGET_OF_SUFFIX


def find_models(words: Sequence[str], conversion: Conversion, *, device: str, folder: Path) -> Found:
    """Return a file for each word that names one, and files in every format and precision for each network.

    Args:
        words: paths of converted files, and names of networks.
        conversion: how to convert the networks.
        device: name of the device that will run them.
        folder: folder of the files of networks.

    Raises:
        InputError: a file or network does not exist, a file has changed since its conversion, or options contradict
            each other.
    """
    networks = [word for word in words if not is_file(word)]
    if not networks and (conversion.to or conversion.precision or conversion.weights):
        raise InputError("--to, --precision and --weights are for networks, not for files; leave them out")
    to = list(conversion.to or _targets(device.partition(":")[0]))
    if with_a_writer := [name for name in to if name != TORCH]:
        find(with_a_writer)
    for target in to if networks else ():
        _check_target(target, device)
    for name in networks:
        network.resolve(name, weights=conversion.weights, seed=conversion.seed)
    models: list[ModelFile] = [from_file(Path(word), device) for word in words if is_file(word)]
    failures: list[dict[str, Any]] = []
    for name in networks:
        for outcome in _convert(name, conversion, to, folder):
            if isinstance(outcome, Exception):
                screen.report(outcome, as_json=False)
                failures.append({"model": name, "error": screen.describe(outcome)})
            else:
                models.append(outcome)
    return Found(models=tuple(models), failures=tuple(failures))


def _check_target(target: str, device: str) -> None:
    kind = device.partition(":")[0]
    if kind != "host" and target not in _targets(kind):  # the host has its own errors
        raise InputError(f"the device {kind} runs files for {' and '.join(_targets(kind))}, not for {target}")


def from_file(path: Path, device: str = "host") -> "ModelFile":
    """Return a converted file, with network and precision from the manifest beside it.

    Without a manifest its name stands for the network, and its precision is unknown.

    Args:
        path: path of the file.
        device: name of the device that will run it.

    Raises:
        InputError: the file does not exist, has an unknown format or one that the device does not run, or does not
            match its manifest.
    """
    from fbnet_zoo.benchmarks.measure import ModelFile
    from fbnet_zoo.converters.manifest import FileRecord, Manifest

    if not path.exists():
        raise InputError(f"{path}: no such file; fbnet-zoo convert writes one")
    if path.suffix not in TARGET_OF_SUFFIX:
        raise InputError(f"{path}: not a converted file; expected {', '.join(TARGET_OF_SUFFIX)}")
    target, manifest_path = TARGET_OF_SUFFIX[path.suffix], path.with_name(f"{path.name}.json")
    _check_target(target, device)
    if not manifest_path.exists():
        if target != TORCH:
            screen.say("note", f"{path} has no manifest, so its precision is unknown", "cyan")
        return ModelFile(path=path, name=path.stem, target=target, precision=_UNKNOWN)
    manifest = Manifest.load(manifest_path)
    if FileRecord.of(path).sha256 != manifest.file.sha256:
        raise InputError(f"{path}: does not match its manifest: damaged or changed; convert it again")
    return ModelFile(
        path=path,
        name=manifest.model,
        target=manifest.target,
        precision=manifest.precision,
        backend=manifest.facts.get("backend"),
    )


def _convert(name: str, conversion: Conversion, to: Sequence[str], folder: Path) -> "Iterator[ModelFile | Exception]":
    precisions = list(dict.fromkeys(conversion.precision or ("fp32",)))
    try:
        model = network.load(name, weights=conversion.weights, seed=conversion.seed)
    except FbnetZooError as error:
        yield error
        return
    for precision in precisions:
        stem = model.spec.name if len(precisions) == 1 else f"{model.spec.name}_{precision}"
        with screen.steps(f"{stem} (converting)", 1 + 3 * len(to)) as progress:
            for target in dict.fromkeys(to):
                convert = _save if target == TORCH else _write
                yield convert(model, target, folder / stem, {"precision": precision}, progress)


def _write(
    model: "FBNet", target: str, path: Path, options: Mapping[str, Any], progress: Callable[[str], None]
) -> "ModelFile | Exception":
    from fbnet_zoo.converters.conversion import convert_each

    try:
        (outcome,) = convert_each(model, to=[target], out=path.parent, name=path.name, progress=progress, **options)
    except InputError as error:  # concerns one format; others may have this precision
        return error
    return outcome if isinstance(outcome, Exception) else from_file(outcome.path)


def _save(
    model: "FBNet", target: str, path: Path, options: Mapping[str, Any], progress: Callable[[str], None]
) -> "ModelFile | Exception":
    """Save the program that all converters start from."""
    import torch

    from fbnet_zoo.benchmarks.measure import ModelFile
    from fbnet_zoo.converters.program import export

    if options["precision"] != "fp32":
        return InputError(
            f"{target} is measured in fp32 only; leave out --to {target} or --precision {options['precision']}"
        )
    progress(f"{target}: export")
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(f"{path.name}.pt2")
    try:
        with quiet():
            torch.export.save(export(model, ConvertOptions()).exported, file)
    except (FbnetZooError, OSError) as error:
        return error
    return ModelFile(path=file, name=model.spec.name, target=target, precision="fp32")


def _targets(device: str) -> list[str]:
    """Return the formats that a kind of device runs, without PyTorch's own."""
    return [target for target in runtimes_on(device) if target != TORCH]
