"""`fbnet-zoo search`: from a data set, a device and a budget to a new network."""

from contextlib import ExitStack
from pathlib import Path

import typer

from fbnet_zoo._require import quiet
from fbnet_zoo.cli import options, screen
from fbnet_zoo.cli.search import arguments, result

EPILOG = options.examples(
    "search --space digits_tiny --data digits --lut host_xnnpack_digits_tiny --target-latency 30us --out runs/first",
    "search --space fbnet --data imagenet/ --lut phone_fbnet.json --target-latency 20ms --register --name my_fbnet",
    "search --space digits_masking --method dmasking --data digits --limit macs=300k --seeds 3",
    "search --space digits_tiny --method evolution --data digits --limit macs=400k",
    "search --space digits_tiny --method chamnet --data digits --limit macs=1M --candidate-workers 2",
    "search --space digits_tiny --method random --data digits --budget 24 --candidate-workers 4 --halving 2",
    "search --space fbnet --data imagenet/ --latencies gpu.csv --latency-column gpu_ms --target-latency 3ms",
    "search --space fbnet --data imagenet/ --lut phone_fbnet.json --energies phone.jsonl --limit energy=12mJ",
    "search --space fbnet --data imagenet/ --lut phone_fbnet.json --device cuda --mixed-precision bf16 --resume",
)


def command(  # noqa: PLR0913 - one argument per option
    context: typer.Context,
    space: arguments.SpaceName,
    data: arguments.Data = None,
    classes: arguments.Classes = None,
    data_root: arguments.DataRoot = None,
    download: arguments.Download = False,
    method: arguments.Method = "dnas",
    input_size: arguments.InputSize = None,
    name: arguments.NameOption = None,
    lut: arguments.Lut = None,
    also_lut: arguments.AlsoLut = None,
    target_latency: arguments.TargetLatency = None,
    latencies: arguments.Latencies = None,
    latency_key: arguments.LatencyKey = None,
    latency_column: arguments.LatencyColumn = None,
    energies: arguments.Energies = None,
    energy_key: arguments.EnergyKey = None,
    energy_column: arguments.EnergyColumn = None,
    prior: arguments.Priors = None,
    table_classes: arguments.TableClasses = None,
    limit: arguments.Limit = None,
    limits_from: arguments.LimitsFrom = None,
    limits_to: arguments.LimitsTo = None,
    points: arguments.Points = 5,
    penalty: arguments.Penalty = None,
    penalty_metric: arguments.PenaltyMetric = None,
    alpha: arguments.Alpha = None,
    beta: arguments.Beta = None,
    epochs: arguments.Epochs = None,
    warmup_epochs: arguments.Warmup = None,
    batch_size: arguments.BatchSize = None,
    save_memory: arguments.SaveMemory = False,
    samples: arguments.Samples = None,
    candidates: arguments.Candidates = None,
    budget: arguments.Budget = None,
    candidate_epochs: arguments.CandidateEpochs = None,
    candidate_batch: arguments.CandidateBatch = None,
    target_error: arguments.TargetError = None,
    candidate_workers: arguments.CandidateWorkers = None,
    candidate_time_limit: arguments.CandidateTimeLimit = None,
    ray_address: arguments.RayAddress = None,
    halving: arguments.Halving = None,
    supernet: arguments.SupernetRun = None,
    oracle: arguments.OracleFile = None,
    recipe: arguments.RecipeFile = None,
    train_epochs: arguments.TrainEpochs = None,
    workers: arguments.Workers = None,
    train_best: arguments.Train = True,
    random: arguments.Random = 0,
    measure: arguments.Measure = None,
    register: arguments.Register = False,
    license_: arguments.License = "not stated",
    out: arguments.Out = None,
    resume: arguments.Resume = False,
    config: arguments.ConfigFile = None,
    seed: arguments.Seed = 0,
    split_seed: arguments.SplitSeed = 0,
    seeds: arguments.Seeds = 1,
    device: arguments.Device = None,
    mixed_precision: arguments.MixedPrecision = None,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Search a space for the most accurate network within a budget, train it, and write definition, weights, report."""
    with quiet():
        from fbnet_zoo.cli.search import steps
        from fbnet_zoo.train.processes import Processes
    processes = Processes.launched(device, mixed_precision)
    job = steps.job(context.params)
    front = steps.front(context.params, job)
    source = job.dataset.name if job.dataset else Path(str(oracle)).stem
    folder = out or Path("runs") / f"{job.space.name}_{source}_{method}"
    processes.on_main(lambda: steps.check_speed(job, wanted=measure))
    claims = context.with_resource(ExitStack())  # the folders are this command's until it ends
    runs = steps.search_all(job, folder, count=seeds, resume=resume, processes=processes, claims=claims)
    if front:
        runs = processes.on_main(lambda: steps.find_fronts(runs, job, front, device=processes.device))
    runs = processes.on_main(lambda: [steps.measure_networks(run, job, wanted=measure) for run in runs])
    if train_best and job.dataset:
        runs = [steps.train_found(run, job, resume=resume, processes=processes) for run in runs]
    processes.leave()
    if not processes.is_main:
        return
    if random:
        runs = steps.train_random(runs, job, folder, count=random, resume=resume, device=processes.device)
    best = min(runs, key=lambda run: (not run.record.met, -run.record.best.top1))
    entry = steps.register(best, license_) if register else None
    reports = {run.folder: steps.write_report(run) for run in runs}
    records = [result.to_json(run, report=reports[run.folder]) for run in runs]
    if as_json:
        screen.show_json(records[runs.index(best)] | {"registered": entry and entry.name, "seeds": records})
        return
    result.show(best, report=reports[best.folder], entry=entry)
    if len(runs) > 1:
        screen.show(result.spread(runs))
