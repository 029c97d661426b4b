"""A whole training in a run folder: from the name of a network to weights that `create` loads."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fbnet_zoo import __version__, arch_file, modules
from fbnet_zoo.datasets import ImageDataset
from fbnet_zoo.errors import InputError
from fbnet_zoo.model import FBNet, classifier_of
from fbnet_zoo.spec import ArchSpec, PreprocessSpec
from fbnet_zoo.train.batches import Inputs
from fbnet_zoo.train.loop import EpochMetrics, Progress, fit
from fbnet_zoo.train.qat import adopt, prepare
from fbnet_zoo.train.recipe import Recipe
from fbnet_zoo.train.run_folder import RunFolder
from fbnet_zoo.weights import checkpoints
from fbnet_zoo.zoo import create

WEIGHTS = "weights.safetensors"
"""File name of the trained weights in a run folder."""


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
    """Return a network's input format for a data set, by its weights or definition; small images are not cropped."""
    network = classifier_of(network)
    preprocess = preprocess_of(network.spec, network.weights, dataset)
    return Inputs(preprocess=preprocess, channels=modules.in_channels(network))


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
    progress: Progress | None = None,
) -> Trained:
    """Train an entry of the zoo, from scratch or from weights, write the run to a folder, and return the result.

    The folder holds `config.json`, `metrics.jsonl` with a line per epoch, `checkpoint.pt` and `weights.safetensors`.

    Args:
        name: name of the network or path of its definition, as for `create`.
        dataset: images to train on, which determine the classes.
        recipe: training settings.
        out: run folder.
        pretrained: weights to start from, as for `create`.
        qat: whether to simulate the rounding of int8 files while training, so that the weights tolerate it; metrics are
            then those with rounding.
        resume: whether to resume a run in the folder; the result is the same as without the interruption.
        device: device to train on.
        progress: called after every epoch.

    Raises:
        InputError: a value is invalid, or the folder holds another run.
        ConversionError: the libraries cannot quantize the network.
        MissingExtraError: a library that `qat` needs is missing.
        WeightsError: the weights to start from are not available, or do not fit.
        TrainingError: the loss or a weight is NaN or infinite; the last good checkpoint is kept.
    """
    recipe = recipe.model_copy(update={"threads": recipe.threads or torch.get_num_threads()})
    network = _start(name, pretrained, dataset, recipe)
    start, inputs = network.weights, inputs_of(network, dataset)
    if qat and (start is None or recipe.ema_decay is not None):
        raise InputError("qat requires trained weights, and no moving average; give weights, and set ema_decay to null")
    folder, config = RunFolder(out), {**_config(network, dataset, recipe, device), "qat": qat}
    folder.begin(config, _versions(), resume=resume)
    trained = prepare(network) if qat else network
    metrics = fit(trained, dataset, recipe, inputs, folder=folder, device=device, progress=progress)
    if qat:
        adopt(network, trained)
    network.spec = network.spec.model_copy(update={"preprocess": inputs.preprocess})
    network.weights = f"trained{' for int8' if qat else ''} on {dataset.name}" + (f" from {start}" if start else "")
    training = {key: value for key, value in config.items() if key != "definition"}
    notes = {"weights": network.weights, "license": network.license, "training": json.dumps(training)}
    checkpoints.write(out / WEIGHTS, network.cpu().state_dict(), network.spec, notes)
    return Trained(network=network.eval(), metrics=metrics, weights=out / WEIGHTS)


def _start(name: str | Path, pretrained: bool | str | Path, dataset: ImageDataset, recipe: Recipe) -> FBNet:
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(recipe.seed)
        return create(
            name,
            pretrained,
            num_classes=len(dataset.classes),
            drop_rate=recipe.drop_rate,
            drop_path_rate=recipe.drop_path_rate,
        )


def _config(network: FBNet, dataset: ImageDataset, recipe: Recipe, device: str) -> dict[str, Any]:
    """Return everything that the result depends on."""
    return {
        "network": network.spec.name,
        "weights": network.weights,
        "data": {
            "name": dataset.name,
            "classes": len(dataset.classes),
            "train": len(dataset.train.labels),
            "held_out": len(dataset.held_out.labels),
            "split": dataset.split,
        },
        "device": device,
        "recipe": recipe.model_dump(mode="json"),
        "definition": arch_file.dump(network.spec),
    }


def _versions() -> dict[str, str]:
    return {"fbnet_zoo": __version__, "torch": torch.__version__}
