"""From definitions to checked files; run by `make demo`.

Builds two networks, converts each to every format, runs two photographs through PyTorch and through each file, and
prints one table. Uses published weights if they can be downloaded, seeded random weights otherwise.
"""

import importlib
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

import fbnet_zoo
from fbnet_zoo import data
from fbnet_zoo.converters import TARGETS, Artifact
from fbnet_zoo.errors import FbnetZooError, WeightsUnavailableError
from fbnet_zoo.interruption import handled
from fbnet_zoo.model import FBNet
from fbnet_zoo.weights import randomize

NETWORKS = ("fbnet_b", "fbnetv3_a")
OUT = Path(__file__).parent.parent / "build" / "demo"
SEED = 0
ROUNDS = 15

console = Console()


def main() -> int:
    """Run the demonstration; return the exit status."""
    torch.set_num_threads(1)  # threads of several runtimes would compete
    console.print(f"Converting [bold]{'[/], [bold]'.join(NETWORKS)}[/] to {', '.join(TARGETS)} in {escape(str(OUT))}\n")
    table = _table()
    for name in NETWORKS:
        model = _build(name)
        images, labels = data.load_batch(data.photographs(), model.spec.eval_preprocess(model.weights)), _labels(model)
        expected = _add_pytorch(table, model, images)
        for artifact in _convert(model, labels):
            _add_file(table, artifact, images, expected)
        _print_classes(model, labels, expected)
    console.print(table)
    console.print(f"\nFiles and manifests: {OUT}", markup=False)
    return 0


def _build(name: str) -> FBNet:
    """Return a network with published weights, or with random weights if no hub can be reached."""
    try:
        return fbnet_zoo.create(name, pretrained=True).eval()
    except WeightsUnavailableError as error:
        console.print(f"[yellow]{name}: published weights are not available ({escape(str(error))}).[/]")
        console.print(f"[yellow]{name}: RANDOM WEIGHTS, seed {SEED}: files are checked, classes mean nothing.[/]\n")
    model = fbnet_zoo.create(name).eval()
    randomize(model, SEED)
    return model


def _labels(model: FBNet) -> tuple[str, ...]:
    return data.imagenet_labels()[: model.plan.num_classes]


def _convert(model: FBNet, labels: tuple[str, ...]) -> list[Artifact]:
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(model.spec.name)
        return fbnet_zoo.convert(
            model,
            to=list(TARGETS),
            out=OUT,
            labels=labels,
            progress=lambda step: progress.update(task, description=f"{model.spec.name}  {step}"),
        )


def _add_pytorch(table: Table, model: FBNet, images: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        logits = model(images).numpy()
        latency = _median_ms(lambda: model(images[:1]))
    params = sum(parameter.numel() for parameter in model.parameters())
    table.add_row()
    table.add_row(model.spec.name, "PyTorch", f"{4 * params / 1e6:.1f}", "", "", f"{latency:.1f}")
    return logits


def _add_file(table: Table, artifact: Artifact, images: torch.Tensor, expected: np.ndarray) -> None:
    runner = importlib.import_module(TARGETS[artifact.target].module).load(artifact.path)
    logits = np.concatenate([runner(image[None].numpy()) for image in images])
    same = int((logits.argmax(1) == expected.argmax(1)).sum())
    interpreted = (
        artifact.target == "coreml" and platform.system() != "Darwin"
    )  # proves values, has no meaningful latency
    worst = artifact.manifest.parity.worst
    table.add_row(
        artifact.path.name,
        runner.runtime,
        f"{artifact.manifest.file.size / 1e6:.1f}",
        f"{worst.snr_db:.0f} dB" if worst else "",
        f"{same} of {len(images)}",
        "needs a Mac" if interpreted else f"{_median_ms(lambda: runner(images[:1].numpy())):.1f}",
    )


def _median_ms(run: Callable[[], object]) -> float:
    run()
    samples = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run()
        samples.append(1e3 * (time.perf_counter() - start))
    return statistics.median(samples)


def _print_classes(model: FBNet, labels: tuple[str, ...], logits: np.ndarray) -> None:
    if model.weights not in {entry.tag for entry in model.spec.weights}:
        return  # random weights
    for path, best in zip(data.photographs(), logits.argmax(1), strict=True):
        console.print(f"{model.spec.name} ({model.weights}) on {path.name}: {labels[best]}", markup=False)


def _table() -> Table:
    table = Table(title="Every file computes what PyTorch computes", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("file", no_wrap=True)
    table.add_column("runs in", min_width=11)
    for header in ("MB", "parity", "top-1 as PyTorch", f"host, median of {ROUNDS}, ms"):
        table.add_column(header, justify="right")
    return table


if __name__ == "__main__":
    with handled():
        try:
            sys.exit(main())
        except FbnetZooError as error:
            console.print(f"[red]error:[/] {escape(str(error))}")
            sys.exit(1)
