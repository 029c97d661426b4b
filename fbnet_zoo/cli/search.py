"""`fbnet-zoo search`: from a data set, a device and a budget to a new network of the zoo."""

from pathlib import Path

import typer

from fbnet_zoo._require import quiet
from fbnet_zoo.cli import options, screen, search_options, search_result, train

EPILOG = options.examples(
    "search --space digits_tiny --data digits --lut host_xnnpack_digits_tiny --target-latency 30us --out runs/first",
    "search --space fbnet --data imagenet/ --lut phone_fbnet.json --target-latency 20ms --register --name my_fbnet",
    "search --space digits_masking --method dmasking --data digits --limit macs=300k --seeds 3",
    "search --space fbnet --data imagenet/ --lut phone_fbnet.json --device cuda --mixed-precision bf16 --resume",
)


def command(  # noqa: PLR0913 - one per option
    context: typer.Context,
    space: search_options.SpaceName,
    data: train.Data,
    method: search_options.Method = "dnas",
    lut: search_options.Lut = None,
    target_latency: search_options.TargetLatency = None,
    table_classes: search_options.TableClasses = None,
    limit: search_options.Limit = None,
    penalty: search_options.Penalty = None,
    penalty_metric: search_options.PenaltyMetric = None,
    alpha: search_options.Alpha = None,
    beta: search_options.Beta = None,
    epochs: search_options.Epochs = None,
    warmup_epochs: search_options.Warmup = None,
    batch_size: search_options.BatchSize = None,
    mode: search_options.Mode = None,
    save_memory: search_options.SaveMemory = False,
    samples: search_options.Samples = None,
    config: search_options.ConfigFile = None,
    recipe: train.RecipeFile = None,
    train_epochs: search_options.TrainEpochs = None,
    seed: search_options.Seed = 0,
    seeds: search_options.Seeds = 1,
    input_size: search_options.InputSize = None,
    name: search_options.NameOption = None,
    train_best: search_options.Train = True,
    random: search_options.Random = 0,
    measure: search_options.Measure = None,
    register: search_options.Register = False,
    license_: search_options.License = "not stated",
    out: search_options.Out = None,
    resume: train.Resume = False,
    device: search_options.Device = None,
    mixed_precision: search_options.MixedPrecision = None,
    data_root: train.DataRoot = None,
    download: train.Download = False,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Search a space for the most accurate network that keeps a budget; train it; write definition, weights, report."""
    with quiet():
        from fbnet_zoo.cli import search_steps
        from fbnet_zoo.search.processes import Processes
    processes = Processes.launched(device, mixed_precision)
    job = search_steps.job(context.params)
    folder = out or Path("runs") / f"{job.space.name}_{job.dataset.name}_{method}"
    runs = search_steps.search_all(job, folder, count=seeds, resume=resume, processes=processes)
    processes.leave()
    if not processes.is_main:
        return
    runs = [search_steps.measured(run, job, wanted=measure) for run in runs]
    if train_best:
        runs = [search_steps.trained(run, job, resume=resume, device=processes.device) for run in runs]
    if random:
        runs = search_steps.compared(runs, job, folder, count=random, resume=resume, device=processes.device)
    best = min(runs, key=lambda run: (not run.record.met, -run.record.best.top1))
    entry = search_steps.registered(best, license_) if register else None
    reports = {run.folder: search_steps.reported(run) for run in runs}
    told = [search_result.told(run, report=reports[run.folder]) for run in runs]
    if as_json:
        screen.show_json(told[runs.index(best)] | {"registered": entry and entry.name, "seeds": told})
        return
    search_result.show(best, report=reports[best.folder], entry=entry)
    if len(runs) > 1:
        screen.show(search_result.spread(runs))
