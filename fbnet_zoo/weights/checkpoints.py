"""Checkpoint files: recognized by all of their keys, verified, written atomically."""

import functools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

from fbnet_zoo import arch_file, class_names, planner
from fbnet_zoo.atomic import write_atomically
from fbnet_zoo.errors import InputError, WeightsError
from fbnet_zoo.spec import ArchSpec, Layout
from fbnet_zoo.weights import contents, layouts
from fbnet_zoo.weights.layouts import CLASSIFIER, CLASSIFIER_BIAS, LAYOUTS, STEM, Shape
from fbnet_zoo.weights.sources import SAFETENSORS

_COUNTER = ".num_batches_tracked"
"""Suffix of a batch-norm buffer that inference does not use and older files do not have."""

_VARIANCE = ".running_var"
_LENGTH_BYTES = 8
"""Length of the length of a safetensors file's header, which is also the alignment of the values."""

_REMEDY = "expected a checkpoint of that network"
_UNUSABLE = "the training diverged or the file is damaged; use another checkpoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The values of a whole network, under our names; every key and shape is verified.

    Attributes:
        spec: the matching definition, with the batch-norm epsilon and the preprocessing of the weights.
        values: parameters and buffers by name; those of the classifier may be missing.
        weights: tag of the definition, address, or name of the file.
        license: license of the weights, if known.
        class_names: names of the classes by index, if known.
    """

    spec: ArchSpec
    values: Mapping[str, Tensor]
    weights: str
    license: str | None = None
    class_names: tuple[str, ...] | None = None

    @property
    def num_classes(self) -> int:
        """Number of outputs of the classifier; 0 without one."""
        return len(self.values[CLASSIFIER]) if CLASSIFIER in self.values else 0

    @property
    def in_channels(self) -> int:
        """Number of channels of the images."""
        return self.values[STEM].shape[1] * self.spec.stem.groups


@torch.no_grad()
def read(path: Path, specs: Sequence[ArchSpec], among: tuple[Layout, ...] = LAYOUTS) -> Checkpoint:
    """Return a checkpoint that has all keys and shapes of a definition.

    Args:
        path: a safetensors file (`.safetensors`), or a file that `torch.save` wrote of a state dict or of a dictionary
            with one; nothing in it is ever executed.
        specs: possible definitions, in order of preference.
        among: possible layouts of names.

    Raises:
        InputError: there is no such file.
        WeightsError: the file cannot be read, fits none of the definitions, or has values that are NaN or infinite, or
            negative variances.
    """
    content, metadata = contents.read(path)
    state, match = _recognize(path, contents.state_dicts(path, content), specs, among)
    values = {ours: _value(path, state, theirs) for ours, theirs in match.names.items()}
    if path.suffix != SAFETENSORS:  # in which no values share memory
        values = _unshared(values)
    _shape_classifier(match, values)
    _check_shapes(path, match, values)
    _check_numbers(path, match, values)
    found = Checkpoint(spec=match.spec, values=values, weights=path.name)
    return _with_metadata(path, found, metadata) if match.layout == "fbnet_zoo" else found


def write(path: Path, state: Mapping[str, Tensor], spec: ArchSpec, notes: Mapping[str, str | None]) -> None:
    """Write a network's state dict with its definition as a safetensors file, atomically.

    Args:
        path: path of the file, ending in `.safetensors`.
        state: values by our names.
        spec: the definition.
        notes: further texts for the file; `read` returns `weights`, `license` and `class_names`.

    Raises:
        InputError: the file cannot be written, or has another extension.
    """
    if path.suffix != SAFETENSORS:
        raise InputError(
            f"{path} cannot be written: a network is saved as safetensors; give a path ending in {SAFETENSORS}"
        )
    from safetensors.torch import save

    texts = {"format": "pt", "name": spec.name, "definition": arch_file.dump(spec), **notes}
    metadata = {key: text for key, text in texts.items() if text is not None}
    content = save({name: value.contiguous() for name, value in state.items()}, metadata)
    write_atomically(path, _sorted_header(content))


def _sorted_header(content: bytes) -> bytes:
    """Return a safetensors file with its metadata in order, which is otherwise different in every process.

    Source: https://github.com/huggingface/safetensors#format (length of the header, JSON padded with spaces, values).
    """
    start = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
    header = json.loads(content[_LENGTH_BYTES:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)  # so that values are aligned
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text + content[start:]


def _value(path: Path, state: Mapping[str, Any], name: str) -> Tensor:
    if name not in state:
        return torch.tensor(0)  # number of batches
    value = state[name]
    if not _is_dense(value) or not (value.is_floating_point() or name.endswith(_COUNTER)):
        raise WeightsError(f"{path} cannot be used: its {name!r} is {_kind(value)}, expected a dense tensor of floats")
    value = value.contiguous()
    return value.long() if name.endswith(_COUNTER) else value.float()


def _is_dense(value: Any) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor) and value.layout is torch.strided and value.is_cpu


def _kind(value: Any) -> str:
    if not isinstance(value, Tensor):
        return f"one object of the type {type(value).__name__}"
    return f"a tensor of {value.dtype} on {value.device} with the layout {value.layout}"


def _unshared(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy values that share memory, such as a flat buffer; otherwise parameters would be trained together."""
    memory = {name: value.untyped_storage().data_ptr() for name, value in values.items()}
    times = Counter(memory.values())
    return {name: value.clone() if times[memory[name]] > 1 else value for name, value in values.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Match:
    """A definition and a layout, with the layout's names by ours and the shapes of the network."""

    spec: ArchSpec
    layout: Layout
    names: dict[str, str]
    shapes: dict[str, Shape]


def _recognize(
    path: Path, states: Sequence[dict[str, Any]], specs: Sequence[ArchSpec], among: tuple[Layout, ...]
) -> tuple[dict[str, Any], _Match]:
    """Find the state dict, definition and layout whose keys are the same."""
    tried = []
    for state, match in ((state, match) for state in states for spec in specs for match in _matches(spec, among)):
        names = _without_classifier(match.names) if match.names[CLASSIFIER] not in state else match.names
        difference = sum(not name.endswith(_COUNTER) for name in state.keys() ^ names.values())
        if not difference:
            return state, replace(match, names=names)
        tried.append((difference, state, match))
    _, state, nearest = min(tried, key=lambda item: item[0])
    raise WeightsError(f"{path} does not fit {nearest.spec.name}: {_first_difference(state, nearest)}")


@functools.lru_cache(maxsize=16)  # one process often loads the same networks many times
def _matches(spec: ArchSpec, among: tuple[Layout, ...]) -> tuple[_Match, ...]:
    plan = planner.plan(spec)
    shapes = layouts.shapes(plan)
    return tuple(
        _Match(spec=spec, layout=layout, names=layouts.keys(plan, layout, shapes), shapes=shapes) for layout in among
    )


def _without_classifier(names: dict[str, str]) -> dict[str, str]:
    return {ours: theirs for ours, theirs in names.items() if ours not in {CLASSIFIER, CLASSIFIER_BIAS}}


def _first_difference(state: Mapping[str, Any], match: _Match) -> str:
    named = f"the nearest layout of names ({match.layout})"
    for name in match.names.values():
        if name not in state and not name.endswith(_COUNTER):
            return f"it lacks {name!r} of {named}; {_REMEDY}"
    known = set(match.names.values())
    first = next(name for name in state if name not in known)
    return f"it has {first!r}, which is not in {named}; {_REMEDY}"


def _shape_classifier(match: _Match, values: dict[str, Tensor]) -> None:
    """Convert between the two forms of a classifier, linear and 1x1 convolution."""
    if CLASSIFIER in values:
        shape = values[CLASSIFIER].shape
        if shape[2:] in {(), (1, 1)}:
            values[CLASSIFIER] = values[CLASSIFIER].view((*shape[:2], *match.shapes[CLASSIFIER][2:]))


def _check_shapes(path: Path, match: _Match, values: Mapping[str, Tensor]) -> None:
    """Check all shapes, except the numbers of image channels and classes."""
    expected = dict(match.shapes)
    stem, classes = values[STEM].shape, values[CLASSIFIER].shape[:1] if CLASSIFIER in values else ()
    expected[STEM] = (expected[STEM][0], *(stem[1:2] or (1,)), *expected[STEM][2:])
    expected[CLASSIFIER], expected[CLASSIFIER_BIAS] = (*classes, *expected[CLASSIFIER][1:]), tuple(classes)
    for name, value in values.items():
        if value.shape != expected[name] or 0 in value.shape:
            raise WeightsError(
                f"{path} does not fit {match.spec.name}: its {match.names[name]!r} has the shape {tuple(value.shape)}, "
                f"expected {expected[name]}; {_REMEDY}"
            )


def _check_numbers(path: Path, match: _Match, values: Mapping[str, Tensor]) -> None:
    for name, value in values.items():
        # a sum is finite only if all values are, and much faster than looking at each
        if not value.sum().isfinite() and not (finite := value.isfinite()).all():
            count = int((~finite).sum())
            problem = f"{count} of {value.numel()} values of {match.names[name]!r} are NaN or infinite"
        elif name.endswith(_VARIANCE) and (lowest := float(value.min())) < 0:
            problem = f"{match.names[name]!r} has a negative variance, {lowest:g}"
        else:
            continue
        raise WeightsError(f"{path} cannot be used: {problem}; {_UNUSABLE}")


def _with_metadata(path: Path, checkpoint: Checkpoint, metadata: Mapping[str, str]) -> Checkpoint:
    """Return a checkpoint with what `write` put into the metadata."""
    spec, definition = checkpoint.spec, metadata.get("definition")
    if definition is not None:
        try:
            saved = arch_file.parse_uncounted(definition, origin="its definition")
        except InputError as error:
            raise WeightsError(f"{path} contains an invalid definition ({error}); save it again") from error
        theirs, ours = planner.plan(saved), planner.plan(spec)
        if (theirs.stem, theirs.stages, theirs.head) != (ours.stem, ours.stages, ours.head):
            raise WeightsError(
                f"{path} was saved from {saved.name}, whose layers have the same shapes as those of {spec.name} but "
                f"other paddings or activations; create {saved.name}"
            )
        spec = spec.model_copy(update={"bn_eps": saved.bn_eps, "preprocess": saved.preprocess or spec.preprocess})
    return replace(
        checkpoint,
        spec=spec,
        weights=metadata.get("weights", path.name),
        license=metadata.get("license"),
        class_names=_class_names(path, metadata.get("class_names"), checkpoint.num_classes),
    )


def _class_names(path: Path, text: str | None, num_classes: int) -> tuple[str, ...] | None:
    if text is None:
        return None
    try:
        return class_names.from_text(text, num_classes)
    except InputError as error:
        raise WeightsError(f"{path}: metadata key 'class_names': {error}; save it again") from error
