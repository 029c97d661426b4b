"""What `fbnet-zoo bench` measures: converted files with their manifests, and networks that it converts first."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fbnet_zoo._require import quiet
from fbnet_zoo.cli import network, screen
from fbnet_zoo.converters.artifact import ConvertOptions
from fbnet_zoo.converters.targets import TARGETS, find
from fbnet_zoo.errors import FbnetZooError, InputError

if TYPE_CHECKING:
    from fbnet_zoo.benchmarks.measure import ModelFile
    from fbnet_zoo.model import FBNet

TORCH = "torch"
"""PyTorch itself, as if it were a target: a saved `torch.export` program."""

TARGET_OF_SUFFIX = {f".{target.suffix}": target.name for target in TARGETS.values()} | {".pt2": TORCH}
_TO = {"host": ("onnx", "executorch"), "android": ("executorch",), "ios": ("coreml",), "mac": ("coreml",)}
_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """How networks become files.

    Attributes:
        to: names of targets, `torch` among them; none takes those that suit the device.
        precisions: of the files; none is fp32.
        weights: as `fbnet_zoo.cli.network.load` takes it.
        seed: likewise.
        out: folder of the files.
    """

    to: Sequence[str]
    precisions: Sequence[str]
    weights: str | None
    seed: int | None
    out: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What can be measured, and what went wrong on the way there, as `fbnet_zoo.cli.screen.describe` says it."""

    models: "tuple[ModelFile, ...]"
    failures: tuple[dict[str, Any], ...]


def is_file(word: str) -> bool:
    """Tell whether a word names a converted file, which need not exist.

    >>> is_file("build/fbnet_b.onnx"), is_file("fbnet_b"), is_file("my.yaml")
    (True, False, False)
    """
    return Path(word).suffix in TARGET_OF_SUFFIX


def find_models(words: Sequence[str], conversion: Conversion, *, device: str) -> Found:
    """Return a file for each word that names one, and files in every format and precision for each network.

    Args:
        words: paths of files, and networks as `fbnet-zoo convert` takes them.
        conversion: of the networks.
        device: name of the device that shall run them.

    Raises:
        InputError: something does not exist, has changed since it was converted, or does not go together.
    """
    networks = [word for word in words if not is_file(word)]
    if not networks and (conversion.to or conversion.precisions or conversion.weights):
        raise InputError("--to, --precision and --weights are for networks; a file has its own, so leave them out")
    to = list(conversion.to or _TO[device.partition(":")[0]])
    if with_a_writer := [name for name in to if name != TORCH]:
        find(with_a_writer)
    for target in to if networks else ():
        _check_target(target, device)
    for name in networks:
        network.resolve(name, weights=conversion.weights, seed=conversion.seed)
    models: list[ModelFile] = [from_file(Path(word), device) for word in words if is_file(word)]
    failures: list[dict[str, Any]] = []
    for name in networks:
        for outcome in _convert(name, conversion, to):
            if isinstance(outcome, Exception):
                screen.report(outcome, as_json=False)
                failures.append({"model": name, "error": screen.describe(outcome)})
            else:
                models.append(outcome)
    return Found(models=tuple(models), failures=tuple(failures))


def _check_target(target: str, device: str) -> None:
    kind = device.partition(":")[0]
    if kind != "host" and target not in _TO[kind]:  # the host says itself what it cannot run
        raise InputError(f"the device {kind} runs files for {' and '.join(_TO[kind])}, not for {target}")


def from_file(path: Path, device: str = "host") -> "ModelFile":
    """Return a converted file, and what it is by the manifest beside it.

    Without a manifest its name stands for the network, and its precision is not known.

    Args:
        path: of the file.
        device: name of the device that shall run it.

    Raises:
        InputError: it does not exist, is of no known format or of one that the device does not run, or is not what the
            manifest tells of.
    """
    from fbnet_zoo.benchmarks.measure import ModelFile
    from fbnet_zoo.converters.manifest import FileRecord, Manifest

    if not path.exists():
        raise InputError(f"{path}: there is no such file; fbnet-zoo convert writes one")
    if path.suffix not in TARGET_OF_SUFFIX:
        raise InputError(f"{path}: not a converted file; expected {', '.join(TARGET_OF_SUFFIX)}")
    target, manifest_path = TARGET_OF_SUFFIX[path.suffix], path.with_name(f"{path.name}.json")
    _check_target(target, device)
    if not manifest_path.exists():
        if target != TORCH:
            screen.say("note", f"{path} has no manifest, so its precision is not known", "cyan")
        return ModelFile(path=path, name=path.stem, target=target, precision=_UNKNOWN)
    manifest = Manifest.load(manifest_path)
    if FileRecord.of(path).sha256 != manifest.file.sha256:
        raise InputError(f"{path}: not the file that its manifest tells of: damaged or changed; convert it again")
    return ModelFile(
        path=path,
        name=manifest.model,
        target=manifest.target,
        precision=manifest.precision,
        backend=manifest.facts.get("backend"),
    )


def _convert(name: str, conversion: Conversion, to: Sequence[str]) -> "Iterator[ModelFile | Exception]":
    precisions = list(dict.fromkeys(conversion.precisions or ("fp32",)))
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
                yield convert(model, target, conversion.out / stem, {"precision": precision}, progress)


def _write(
    model: "FBNet", target: str, path: Path, options: Mapping[str, Any], progress: Callable[[str], None]
) -> "ModelFile | Exception":
    from fbnet_zoo.converters.convert import convert_each

    try:
        (outcome,) = convert_each(model, to=[target], out=path.parent, name=path.name, progress=progress, **options)
    except InputError as error:  # of one format; others may have this precision
        return error
    return outcome if isinstance(outcome, Exception) else from_file(outcome.path)


def _save(
    model: "FBNet", target: str, path: Path, options: Mapping[str, Any], progress: Callable[[str], None]
) -> "ModelFile | Exception":
    """Save what all converters start from."""
    import torch

    from fbnet_zoo.benchmarks.measure import ModelFile
    from fbnet_zoo.converters.program import export

    if options["precision"] != "fp32":
        return InputError(f"{target} is measured in fp32 only; leave it out of --to, or {options['precision']} out")
    progress(f"{target}: export")
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(f"{path.name}.pt2")
    try:
        with quiet():
            torch.export.save(export(model, ConvertOptions()).exported, file)
    except (FbnetZooError, OSError) as error:
        return error
    return ModelFile(path=file, name=model.spec.name, target=target, precision="fp32")
