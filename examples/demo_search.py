"""A search for this machine, from operators to converted files; run by `make demo`.

Measures the operators of the space `digits_tiny`, searches for a network for handwritten digits within a latency limit,
trains it and two random networks within the same limit, converts it to every format, and prints the accuracy of PyTorch
and of each file on held-out digits.
"""

import importlib
import shutil
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import fbnet_zoo
from fbnet_zoo.benchmarks.devices import open_device
from fbnet_zoo.benchmarks.lut import Rounds, TableJob, Writer
from fbnet_zoo.converters import TARGETS
from fbnet_zoo.datasets import open_dataset
from fbnet_zoo.errors import FbnetZooError
from fbnet_zoo.interruption import handled
from fbnet_zoo.latency import LatencyTable
from fbnet_zoo.model import FBNet
from fbnet_zoo.search import SearchJob, SearchRun, latency_cost, random_baseline, run_search, train_best
from fbnet_zoo.search.gradient import DnasConfig
from fbnet_zoo.space import Encoding, load_space
from fbnet_zoo.train import default_recipe, evaluate, inputs_of

OUT = Path(__file__).parent.parent / "build" / "demo" / "search"
SPACE, DATA, EPOCHS, RANDOM = "digits_tiny", "digits", 20, 2
SHARE = 0.35
"""Latency limit, as a share of the range from the fastest to the slowest network of the space."""

console = Console()


def main() -> int:
    """Run the demonstration; return the exit status."""
    torch.set_num_threads(1)  # equal numbers of threads give equal networks on any machine
    shutil.rmtree(OUT, ignore_errors=True)
    console.print(f"\nSearching {SPACE} for this machine, with images of {DATA}, in {OUT}\n", markup=False)
    job = _job(_measure_table())
    found = _search(job)
    _report("training random networks")
    others = random_baseline(job, OUT / "random", count=RANDOM).records
    network = fbnet_zoo.create(OUT / "result.yaml", pretrained=True).eval()
    _report("converting")
    artifacts = fbnet_zoo.convert(network, to=list(TARGETS), out=OUT / "files", dynamic_batch=False)
    dataset = job.required_dataset
    title = f"{len(dataset.held_out.labels)} held-out digits, {dataset.split}"
    table = Table(title=title, box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("network", no_wrap=True)
    table.add_column("runs in", min_width=11)
    for header in ("by the table, ms", "top-1, %"):
        table.add_column(header, justify="right")
    latency = f"{found.record.best.costs['latency']:.4f}"
    table.add_row(found.definition.name, "PyTorch", latency, f"{_top1(network, network, job):.2f}")
    for artifact in artifacts:
        runner = importlib.import_module(TARGETS[artifact.target].module).load(artifact.path)
        table.add_row(artifact.path.name, runner.runtime, "", f"{_top1(_batches(runner), network, job):.2f}")
    table.add_row()
    for number, each in enumerate(others, start=1):
        table.add_row(f"random network {number}", "PyTorch", f"{each.costs['latency']:.4f}", f"{each.top1:.2f}")
    table.add_row("random networks, mean", "PyTorch", "", f"{statistics.fmean(each.top1 for each in others):.2f}")
    console.print(table)
    limit, met = job.config.limits["latency"], "met" if found.record.met else "NOT met"
    console.print(
        f"\nThe limit of {limit:.4f} ms is {met}. The run, with its definition and weights: {OUT}", markup=False
    )
    return 0


def _report(step: str) -> None:
    print(step, file=sys.stderr)


@contextmanager
def _steps(title: str, total: int) -> Iterator[Callable[[str], None]]:
    """Report a long job by its title alone."""
    _report(f"{title}: {total} steps")
    yield lambda step: None


def _measure_table() -> LatencyTable:
    """Measure the operators of the space on this machine."""
    space, folder = load_space(SPACE), OUT / "operators"
    folder.mkdir(parents=True)
    job = TableJob(
        name="this_machine",
        space=space,
        num_classes=len(open_dataset(DATA).classes),
        networks=(),
        writer=Writer(target="executorch", precision="fp32", frame=space.frame, folder=folder),
        rounds=Rounds(count=2, spread=1.0),
    )
    return job.measure(open_device("host"), folder / "measurements.jsonl", _steps)[0]


def _job(table: LatencyTable) -> SearchJob:
    space, dataset = load_space(SPACE), open_dataset(DATA)
    latency = latency_cost(Encoding(space), table, num_classes=len(dataset.classes))
    limit = latency.least + SHARE * (latency.most - latency.least)
    recipe = default_recipe(dataset.kind).model_copy(update={"epochs": EPOCHS, "threads": 1})
    usual = DnasConfig.usual(dataset.kind)
    return SearchJob(
        space=space,
        dataset=dataset,
        config=usual.model_copy(update={"penalty": None, "limits": {latency.name: limit}}),
        recipe=recipe,
        batch_size=recipe.batch_size,
        table=table,
        name="demo_digits",
    )


def _search(job: SearchJob) -> SearchRun:
    """Search, and train the best network."""
    total = job.config.total
    run = run_search(
        job, OUT, progress=lambda record: _report(f"search: epoch {record.number} of {total}: {record.summary()}")
    )
    return train_best(
        run, job, progress=lambda epoch: _report(f"training: epoch {epoch.epoch} of {EPOCHS}: loss {epoch.loss:.3f}")
    )


def _batches(runner: Callable[[np.ndarray], np.ndarray]) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function that runs a file of batch size 1 on batches."""
    return lambda images: torch.from_numpy(np.concatenate([runner(image[None].numpy()) for image in images]))


def _top1(runs: Callable[[torch.Tensor], torch.Tensor], network: FBNet, job: SearchJob) -> float:
    return evaluate(runs, job.required_dataset.held_out, inputs_of(network, job.required_dataset)).top1


if __name__ == "__main__":
    with handled():
        try:
            sys.exit(main())
        except FbnetZooError as error:
            console.print(f"[red]error:[/] {escape(str(error))}")
            sys.exit(1)
