"""`fbnet-zoo eval`: the accuracy of a network on the held-out images of a data set."""

from typing import Annotated

import typer

from fbnet_zoo._require import quiet
from fbnet_zoo.cli import network, options, predict, screen, train

EPILOG = options.examples(
    "eval fbnet_b --data digits --weights runs/fbnet_b_digits/weights.safetensors",
    "eval fbnet_c --data imagenet/ --json",
)

Weights = Annotated[
    str,
    typer.Option(
        metavar="auto|TAG|PATH|none", help="weights; auto: the definition's first entry; none: random, seed 0"
    ),
]


def command(
    name: options.Name,
    data: train.Data,
    weights: Weights = train.AUTO,
    data_root: train.DataRoot = None,
    download: train.Download = False,
    device: options.Device = "cpu",
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Print the top-1 accuracy on the held-out images of a data set, percent."""
    predict.check_device(device)
    source = None if weights == train.AUTO else weights
    network.resolve(name, weights=source, seed=None)
    dataset = train.open_data(data, data_root, download=download)
    model = network.load(name, weights=source, seed=None, labels=dataset.classes)
    with quiet():
        from fbnet_zoo.datasets import read_images
        from fbnet_zoo.train import evaluate, inputs_of, matching_dataset
    dataset = matching_dataset(model, dataset)
    read_images(dataset.held_out, track=screen.track)
    result = evaluate(model.to(device), dataset.held_out, inputs_of(model, dataset), device=device)
    record = {
        "model": model.spec.name,
        "weights": model.weights,
        "license": model.license,
        "data": dataset.name,
        "split": dataset.split,
        "images": result.images,
        "correct": result.correct,
        "top1": result.top1,
    }
    if as_json:
        screen.show_json(record)
    else:
        about = f"{model.spec.name} ({model.weights}) on {dataset.name}"
        screen.show(f"{about}: top-1 {result.top1:.2f} %, {result.correct} of {result.images} held-out images")
