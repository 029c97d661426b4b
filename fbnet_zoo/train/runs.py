"""A whole training in a run folder: from the name of a network to weights that `create` loads."""

import json
import logging
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fbnet_zoo import __version__, arch_file
from fbnet_zoo.class_names import difference, to_text
from fbnet_zoo.datasets import ImageDataset, dataset_digest, with_classes
from fbnet_zoo.datasets.reading import Track
from fbnet_zoo.errors import InputError
from fbnet_zoo.layers import check_batch
from fbnet_zoo.model import FBNet
from fbnet_zoo.train.loop import EpochMetrics, Progress, fit, require_trainable
from fbnet_zoo.train.matching import inputs_of, other_classes
from fbnet_zoo.train.processes import Processes
from fbnet_zoo.train.qat import adopt, prepare
from fbnet_zoo.train.recipe import Recipe
from fbnet_zoo.train.run_folder import RunFolder
from fbnet_zoo.train.teacher import Teacher, teacher_of
from fbnet_zoo.weights import checkpoints
from fbnet_zoo.zoo import create

WEIGHTS = "weights.safetensors"
"""File name of the trained weights in a run folder."""

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
    teacher: nn.Module | None = None,
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
        teacher: network to learn from, in place of the one that the recipe names, as for `fit`.

    Raises:
        InputError: a value is invalid, an image cannot be read, the teacher does not fit, or the folder holds another
            run, or is in use by one.
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
    if qat:
        _require_qat(start, recipe, together)
    check_batch(network.plan, inputs.preprocess.crop, recipe.batch_size)
    require_trainable(network, dataset, recipe, together)
    source = teacher_of(recipe, teacher)
    taught = {} if source is None else {"teacher": Teacher(source, dataset, inputs, together.device).about()}
    folder = RunFolder(out)
    together.on_main(lambda: folder.require_free(resume=resume))  # before every image is read
    config = together.on_main(lambda: {**_config(network, dataset, recipe, together, track), "qat": qat, **taught})
    trained = prepare(network) if qat else network
    with ExitStack() as until_the_end:
        claim = folder.claimed(config, _versions(), resume=resume)
        together.on_main(lambda: until_the_end.enter_context(claim))  # after everything that may be refused
        metrics = fit(
            trained,
            dataset,
            recipe,
            inputs,
            folder=folder,
            processes=together,
            progress=progress,
            teacher=source,
            until=until,
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


def _require_qat(start: str | None, recipe: Recipe, processes: Processes) -> None:
    """Refuse what fine-tuning with simulated rounding cannot do."""
    if start is None or recipe.ema_decay is not None:
        raise InputError("qat requires trained weights, and no moving average; give weights, and set ema_decay to null")
    if processes.count > 1:
        raise InputError("qat runs in a single process; start it without a launcher")
    if recipe.freeze or recipe.layer_lr_decay != 1:
        raise InputError("qat trains all layers alike; remove 'freeze' and 'layer_lr_decay' from the recipe")


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
                raise other_classes(network, dataset)
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
