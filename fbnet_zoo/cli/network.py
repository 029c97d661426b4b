"""Networks with weights, and labels of classes, from the arguments of a command."""

from pathlib import Path
from typing import TYPE_CHECKING

from fbnet_zoo import limits, registry
from fbnet_zoo._require import quiet
from fbnet_zoo.errors import InputError, WeightsError, WeightsUnavailableError
from fbnet_zoo.reading import read_text
from fbnet_zoo.spec import ArchSpec

if TYPE_CHECKING:
    from fbnet_zoo.model import FBNet

NO_WEIGHTS = "none"
IMAGENET_CLASSES = 1000

_WITHOUT = "or use random weights: --weights none --seed 0"


def load(name: str, *, weights: str | None, seed: int | None, labels: tuple[str, ...] | None = None) -> "FBNet":
    """Return a network with weights, in evaluation mode.

    It has as many classes as its weights; with random weights, as many as there are labels.

    Args:
        name: name, alias, name with a tag, or path of a YAML definition.
        weights: a tag, path or address, or `none` for random weights (default: the tag in `name`, else the definition's
            first entry).
        seed: seed of random weights (default: 0).
        labels: names of the classes.

    Raises:
        InputError: there is no such network or tag, or it has no published weights.
        WeightsError: the weights cannot be read, or do not fit.
    """
    spec, source = resolve(name, weights=weights, seed=seed)
    with quiet():
        from fbnet_zoo.model import FBNet
        from fbnet_zoo.weights.loading import randomize
    if source is not None:
        return _trained(spec, source, registry.folder(name)).eval()
    model = FBNet(spec, num_classes=len(labels) if labels else IMAGENET_CLASSES)
    randomize(model, seed or 0)
    return model.eval()


def resolve(name: str, *, weights: str | None, seed: int | None) -> tuple[ArchSpec, str | None]:
    """Return the definition, and where its weights come from: a tag, path or address, or `None` for random weights.

    Raises:
        InputError: there is no such network or tag, or the arguments contradict each other.
    """
    if seed is not None and weights != NO_WEIGHTS:
        raise InputError("--seed is the seed of random weights; add --weights none, or leave it out")
    spec, tag = registry.resolve(name)
    if weights == NO_WEIGHTS:
        return spec, None
    if weights == "":
        raise InputError("--weights is empty; give a tag, a path or an address, or leave it out")
    if tag is not None and weights not in {None, tag}:
        raise InputError(f"{name} already names weights, but --weights is {weights!r}; give one of the two")
    default = spec.weights[0].tag if spec.weights else None
    source = weights or tag or default
    if source is None:
        raise InputError(f"{spec.name} has no published weights; give a checkpoint, --weights PATH, {_WITHOUT}")
    return spec, source


def _trained(spec: ArchSpec, source: str, folder: Path) -> "FBNet":
    from fbnet_zoo.model import FBNet
    from fbnet_zoo.weights.loading import fill, read

    try:
        checkpoint = read(spec, source, folder)
    except WeightsUnavailableError as error:
        raise WeightsUnavailableError(f"{error}, {_WITHOUT}") from error
    if not checkpoint.num_classes:
        raise WeightsError(
            f"{checkpoint.weights} has no classifier; give a checkpoint of the whole network, {_WITHOUT}"
        )
    model = FBNet(checkpoint.spec, num_classes=checkpoint.num_classes, in_chans=checkpoint.in_channels, init=False)
    fill(model, checkpoint)
    return model


def read_labels(path: Path) -> tuple[str, ...]:
    """Read the names of classes, one per line of a UTF-8 file.

    Raises:
        InputError: the file cannot be read, or a line is empty.
    """
    lines = [line.strip() for line in read_text(path, "one label per line").splitlines()]
    if not all(lines) or not lines:
        number = lines.index("") + 1 if lines else 1
        raise InputError(f"{path}:{number}: an empty line; expected one label per line")
    limits.check("rows", len(lines), f"{path} has")
    return tuple(lines)
