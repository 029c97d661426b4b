"""A whole training in a run folder: from the name of a network to weights that `create` loads."""

import json
import logging
import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fbnet_zoo import __version__, arch_file, modules
from fbnet_zoo.class_names import difference, to_text
from fbnet_zoo.datasets import ImageDataset, dataset_digest, with_classes
from fbnet_zoo.datasets.reading import Track
from fbnet_zoo.errors import InputError
from fbnet_zoo.layers import check_batch
from fbnet_zoo.model import FBNet
from fbnet_zoo.networks import class_names_of, classifier_of, has_classifier
from fbnet_zoo.spec import ArchSpec, PreprocessSpec
from fbnet_zoo.train.batches import Inputs
from fbnet_zoo.train.loop import EpochMetrics, Progress, fit, steps_per_epoch
from fbnet_zoo.train.processes import Processes
from fbnet_zoo.train.qat import adopt, prepare
from fbnet_zoo.train.recipe import Recipe
from fbnet_zoo.train.run_folder import RunFolder
from fbnet_zoo.weights import RANDOM, checkpoints
from fbnet_zoo.zoo import create

WEIGHTS = "weights.safetensors"
"""File name of the trained weights in a run folder."""

_OTHER_WEIGHTS = "give weights trained on it, such as those that 'fbnet-zoo train' writes"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trained:
    """The result of a training.

    Attributes:
        network: network with the trained weights, in evaluation mode.
        metrics: metrics of the last epoch.
        weights: path of the weights file.
    """

    network: FBNet
    metrics: EpochMetrics
    weights: Path


def inputs_of(network: nn.Module, dataset: ImageDataset) -> Inputs:
    """Return a network's input format for a data set, by its weights or definition; small images are not cropped.

    Raises:
        InputError: the network has other classes, or the same ones in another order; see `matching_dataset`. Or it is
            not one of this library.
    """
    network = classifier_of(network)
    if network.class_names is not None:
        names = class_names_of(network, _num_classes(network))
        if names is not None and tuple(names) != dataset.classes:
            raise _other_classes(network, dataset)
    preprocess = preprocess_of(network.spec, network.weights, dataset)
    return Inputs(preprocess=preprocess, channels=modules.in_channels(network))


def matching_dataset(network: FBNet, dataset: ImageDataset) -> ImageDataset:
    """Return a data set with its classes in the order of a network's; if the network has no names, unchanged.

    Raises:
        InputError: the network has other classes, or another number of them.
    """
    has, wanted = _num_classes(network), len(dataset.classes)
    if has != wanted:
        raise InputError(
            f"weights {network.weights} have {has} classes, but {dataset.name} has {wanted}; {_OTHER_WEIGHTS}"
        )
    names = class_names_of(network, has)
    if names is None:
        _warn_of_positions(network, dataset)
        return dataset
    if set(names) != set(dataset.classes):
        raise _other_classes(network, dataset)
    return with_classes(dataset, names)


def _num_classes(network: FBNet) -> int:
    size = network.spec.eval_preprocess(network.weights).crop
    return modules.num_outputs(network, size) if has_classifier(network) else 0


def _other_classes(network: FBNet, dataset: ImageDataset) -> InputError:
    differs = difference(network.class_names or (), dataset.classes)
    return InputError(f"weights {network.weights} have other classes than {dataset.name}: {differs}; {_OTHER_WEIGHTS}")


def _warn_of_positions(network: FBNet, dataset: ImageDataset) -> None:
    """Say that classes are matched by position, unless the weights are random or the folders are ImageNet's."""
    if network.weights is None or network.weights.startswith(RANDOM):
        return
    if not all(re.fullmatch(r"n\d{8}", name) for name in dataset.classes):
        log.warning(
            "weights %s do not name their classes: they are matched by position with those of %s, %s",
            network.weights,
            dataset.name,
            ", ".join(map(repr, dataset.classes[:4])) + (", …" if len(dataset.classes) > 4 else ""),
        )


def preprocess_of(spec: ArchSpec, weights: str | None, dataset: ImageDataset) -> PreprocessSpec:
    """Return the preprocessing of a data set, by weights or definition; small images are not cropped."""
    preprocess = spec.eval_preprocess(weights)
    return preprocess if dataset.size is None else preprocess.model_copy(update={"resize": preprocess.crop})


def train(  # noqa: PLR0913 - the options of the command line
    name: str | Path,
    dataset: ImageDataset,
    recipe: Recipe,
    out: Path,
    *,
    pretrained: bool | str | Path = False,
    qat: bool = False,
    resume: bool = False,
    device: str = "cpu",
    processes: Processes | None = None,
    progress: Progress | None = None,
    until: int | None = None,
    track: Track | None = None,
) -> Trained:
    """Train an entry of the zoo, from scratch or from weights, write the run to a folder, and return the result.

    The folder holds `config.json`, `metrics.jsonl` with a line per epoch, `checkpoint.pt` and `weights.safetensors`.

    Args:
        name: name of the network or path of its definition, as for `create`.
        dataset: images to train on, which determine the classes. If the weights to start from name other classes, the
            classifier is initialized.
        recipe: training settings.
        out: run folder.
        pretrained: weights to start from, as for `create`.
        qat: whether to simulate the rounding of int8 files while training, so that the weights tolerate it; metrics are
            then those with rounding.
        resume: whether to resume a run in the folder; the result is the same as without the interruption.
        device: device to train on.
        processes: cooperating processes, with device and precision (default: one on `device`), which pass the same
            arguments; only the main one reads and writes the folder.
        progress: called after every epoch, in the main process.
        until: number of epochs after which to stop (default: all of the recipe's). The schedule is that of all epochs:
            a call with `resume` continues, and the result is the same as without the stop.
        track: reports progress while every image is read once, before the folder is created.

    Raises:
        InputError: a value is invalid, an image cannot be read, or the folder holds another run, or is in use by one.
        ConversionError: the libraries cannot quantize the network.
        MissingExtraError: a library that `qat` needs is missing.
        WeightsError: the weights to start from are not available, or do not fit.
        TrainingError: the loss or a weight is NaN or infinite; the last good checkpoint is kept.
    """
    together = processes or Processes(device=device)
    recipe = recipe.model_copy(update={"threads": recipe.threads or torch.get_num_threads()})
    network = _start(name, pretrained, dataset, recipe, qat=qat)
    dataset = with_classes(dataset, network.class_names or dataset.classes)
    start, inputs = network.weights, inputs_of(network, dataset)
    if qat and (start is None or recipe.ema_decay is not None):
        raise InputError("qat requires trained weights, and no moving average; give weights, and set ema_decay to null")
    if qat and together.count > 1:
        raise InputError("qat runs in a single process; start it without a launcher")
    check_batch(network.plan, inputs.preprocess.crop, recipe.batch_size)
    steps_per_epoch(dataset, recipe)
    folder = RunFolder(out)
    together.on_main(lambda: folder.require_free(resume=resume))  # before every image is read
    config = together.on_main(lambda: {**_config(network, dataset, recipe, together, track), "qat": qat})
    trained = prepare(network) if qat else network
    with ExitStack() as until_the_end:
        claim = folder.claimed(config, _versions(), resume=resume)
        together.on_main(lambda: until_the_end.enter_context(claim))  # after everything that may be refused
        metrics = fit(
            trained, dataset, recipe, inputs, folder=folder, processes=together, progress=progress, until=until
        )
        if qat:
            adopt(network, trained)
        network.spec = network.spec.model_copy(update={"preprocess": inputs.preprocess})
        network.weights = f"trained{' for int8' if qat else ''} on {dataset.name}" + (f" from {start}" if start else "")
        training = {key: value for key, value in config.items() if key != "definition"}
        notes = {
            "weights": network.weights,
            "license": network.license,
            "class_names": to_text(dataset.classes),
            "training": json.dumps(training),
        }
        state = network.cpu().state_dict()
        together.on_main(lambda: checkpoints.write(out / WEIGHTS, state, network.spec, notes))
    return Trained(network=network.eval(), metrics=metrics, weights=out / WEIGHTS)


def _start(
    name: str | Path, pretrained: bool | str | Path, dataset: ImageDataset, recipe: Recipe, *, qat: bool
) -> FBNet:
    """Return the network to train, whose class names are those of the data set, in the order of its weights."""
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(recipe.seed)
        network = create(
            name,
            pretrained,
            num_classes=len(dataset.classes),
            drop_rate=recipe.drop_rate,
            drop_path_rate=recipe.drop_path_rate,
        )
        named = network.class_names
        if named is not None and set(named) != set(dataset.classes):
            if qat:
                raise _other_classes(network, dataset)
            log.warning(
                "%s has other classes than %s (%s): the classifier is initialized",
                network.weights,
                dataset.name,
                difference(named, dataset.classes),
            )
            network.reset_classifier(len(dataset.classes))
    network.class_names = network.class_names or dataset.classes
    return network


def _config(
    network: FBNet, dataset: ImageDataset, recipe: Recipe, processes: Processes, track: Track | None
) -> dict[str, Any]:
    """Return everything that the result depends on; every image is read."""
    precision = {} if processes.precision == "no" else {"precision": processes.precision}
    return {
        "network": network.spec.name,
        "weights": network.weights,
        "data": {
            "name": dataset.name,
            "classes": len(dataset.classes),
            "train": len(dataset.train.labels),
            "held_out": len(dataset.held_out.labels),
            "split": dataset.split,
            "class_names": dataset.classes,
            "images_sha256": dataset_digest(dataset, track),
        },
        "device": processes.device if processes.count == 1 else processes.kind,
        "recipe": recipe.model_dump(mode="json", exclude={"workers"}),
        **precision,
        "definition": arch_file.dump(network.spec),
    }


def _versions() -> dict[str, str]:
    return {"fbnet_zoo": __version__, "torch": torch.__version__}
