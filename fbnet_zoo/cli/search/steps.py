"""The steps of `fbnet-zoo search`, in order."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fbnet_zoo.atomic import write_atomically
from fbnet_zoo.benchmarks.devices.discovery import open_device
from fbnet_zoo.benchmarks.lut.network_figures import ENERGY, LATENCY, Quantity
from fbnet_zoo.benchmarks.lut.networks import device_speed, is_of, network_samples
from fbnet_zoo.benchmarks.measure import Device
from fbnet_zoo.cli import quantities, screen, train
from fbnet_zoo.cli.lut.networks import read_networks
from fbnet_zoo.cli.search import arguments, result
from fbnet_zoo.errors import InputError
from fbnet_zoo.folders import temporary
from fbnet_zoo.latency.files import find_table
from fbnet_zoo.latency.predictor import Predictor, fit_predictor
from fbnet_zoo.latency.table import LatencyTable
from fbnet_zoo.registry import list_models
from fbnet_zoo.report import search_page
from fbnet_zoo.search import baseline
from fbnet_zoo.search import front as fronts
from fbnet_zoo.search.config import Front
from fbnet_zoo.search.gradient.config import GradientConfig
from fbnet_zoo.search.job import SearchJob
from fbnet_zoo.search.methods import METHODS
from fbnet_zoo.search.oracle import read_oracle, table_encoding
from fbnet_zoo.search.record import MeasuredRecord
from fbnet_zoo.search.runs import TAG, SearchRun, run_search, train_best, update_record
from fbnet_zoo.search.workers.settings import Workers
from fbnet_zoo.space import Space, load_space
from fbnet_zoo.spec import MAX_SEED, ArchSpec
from fbnet_zoo.train.processes import Processes
from fbnet_zoo.train.recipe import load_over
from fbnet_zoo.zoo import install

REPORT, MEASURED = "report.html", "measured"

_MEASURED = 8
"""Number of compared networks that are measured as a whole."""

_USUAL_SPREAD = 1.25
"""Factor by which latencies differ from one day to the next on an idle machine."""

log = logging.getLogger(__name__)


def job(options: Mapping[str, Any]) -> SearchJob:
    """Return the job given by the options.

    Raises:
        InputError: an option is invalid or missing.
    """
    arguments.check_method(options)
    arguments.check_latencies(options)
    data, lut = options["data"], options["lut"]
    space, table = load_space(options["space"]), find_table(lut) if lut else None
    _check_name(space, options)
    dataset = train.open_data(data, options["data_root"], download=options["download"]) if data else None
    kind = dataset.kind if dataset else "folder"
    usual = METHODS[options["method"]].config.usual(kind)
    base = load_over(options["config"], usual) if options["config"] else usual
    recipe = train.recipe_for(
        kind, options["recipe"], {"epochs": options["train_epochs"], "workers": options["workers"]}, qat=False
    )
    classes = options["table_classes"] or (len(dataset.classes) if dataset else 1000)
    latency, energy = (_predictor(each, classes, options) for each in (LATENCY, ENERGY))
    found = SearchJob(
        space=space,
        dataset=dataset,
        config=base,
        recipe=recipe,
        batch_size=options["batch_size"] or recipe.batch_size,
        table=table,
        other_tables=tuple(find_table(name) for name in options["also_lut"] or ()),
        predictor=latency,
        other_predictors=(energy,) if energy else (),
        table_classes=options["table_classes"],
        input_size=options["input_size"],
        name=options["name"],
        supernet=options["supernet"],
        workers=_workers(options),
        classes=options["classes"],
    )
    if options["oracle"]:
        encoding = table_encoding(options["oracle"], space, options["input_size"])
        found = replace(found, oracle=read_oracle(options["oracle"], encoding))
    return replace(found, config=arguments.config(base, options, arguments.known_units(found)))


def _workers(options: Mapping[str, Any]) -> Workers:
    """Return where networks are trained.

    Raises:
        InputError: the time limit is malformed.
    """
    try:
        limit = options["candidate_time_limit"]
        limit_s = None if limit is None else quantities.seconds(limit)
    except InputError as error:
        raise InputError(f"--candidate-time-limit {error}") from error
    return Workers(count=options["candidate_workers"], ray_address=options["ray_address"], limit_s=limit_s)


def _predictor(quantity: Quantity, classes: int, options: Mapping[str, Any]) -> Predictor | None:
    """Return a predictor fitted to the measured networks of a file, if one is given."""
    path: Path | None = options[quantity.plural]
    if path is None:
        return None
    key = options[f"{quantity.name}_key"] or "network"
    column = options[f"{quantity.name}_column"] or quantity.column
    networks, (measured,) = read_networks(
        path, key=key, columns=[column], space=options["space"], classes=classes, quantity=quantity
    )
    found = fit_predictor(
        networks,
        measured,
        priors=[find_table(name) for name in options["prior"] or ()],
        name=f"{path.name}:{key}:{column}",
        cost=quantity.name,
        unit=quantity.unit,
    )
    text = (
        f"{quantity.name} is predicted from {len(networks)} networks; the error for each, left out, is "
        f"{found.error:.1f} %"
    )
    screen.say("note", text, "cyan")
    return found


def _check_name(space: Space, options: Mapping[str, Any]) -> None:
    """Refuse, before the search, a name that could not be registered after it."""
    name = options["name"]
    if name is not None:
        space.decode(space.sample(0), name=name)
    if name in list_models() and options["register"] and not options["resume"]:
        raise InputError(f"an entry named {name!r} exists; use another --name")


def front(options: Mapping[str, Any], job: SearchJob) -> Front | None:
    """Return the front given by the options, if any.

    Raises:
        InputError: an option is invalid, or no network satisfies the lowest limit.
    """
    found = arguments.front(options, arguments.known_units(job))
    if found is not None:
        fronts.check_front(found, job)
    return found


def find_fronts(runs: Sequence[SearchRun], job: SearchJob, front: Front, *, device: str) -> list[SearchRun]:
    """Find a network for each limit of a front in every run; return the updated runs."""
    with screen.steps("front", front.points * len(runs)) as progress:
        return [fronts.find_front(run, job, front, device=device, progress=progress) for run in runs]


def check_speed(job: SearchJob, *, wanted: bool | None) -> None:
    """Warn if the table is of this machine, but the machine is now faster or slower."""
    table, device = job.table, open_device("host")
    if table is None or wanted is False or job.table_classes not in {None, job.num_classes} or not is_of(table, device):
        return
    network = job.definition(job.space.sample(0))
    with temporary() as folder:
        found = device_speed(table, network, device, folder, screen.steps, num_classes=job.num_classes)
    if not 1 / _USUAL_SPREAD <= found.ratio <= _USUAL_SPREAD:
        log.warning(
            "this machine takes %.2f times as long as its table %s says (%.4g ms instead of %.4g ms for one network)"
            "%s; wait until it is idle, or measure the table again with 'fbnet-zoo lut measure'",
            found.ratio,
            table.name,
            found.measured_ms,
            found.predicted_ms,
            _other_clock(found.limits_khz, table.limits_khz),
        )


def _other_clock(now: Sequence[int], then: Sequence[int]) -> str:
    """Return how the limits of the clock differ from those of a table, as a part of a sentence."""
    if not now or not then or tuple(now) == tuple(then):
        return ""
    limits = [" and ".join(f"{khz / 1e6:.4g} GHz" for khz in dict.fromkeys(each)) for each in (now, then)]
    return f", its cores are limited to {limits[0]} (then {limits[1]})"


def search_all(
    job: SearchJob, folder: Path, *, count: int, resume: bool, processes: Processes, claims: ExitStack
) -> list[SearchRun]:
    """Search with consecutive seeds, with a subfolder for each if there are several; return the runs.

    The folders stay claimed until `claims` is closed.
    """
    return [
        _searched(each, where, resume=resume, processes=processes, claims=claims)
        for each, where in _seeded(job, folder, count)
    ]


def _seeded(job: SearchJob, folder: Path, count: int) -> Iterator[tuple[SearchJob, Path]]:
    first = job.config.seed
    if first + count - 1 > MAX_SEED:
        raise InputError(
            f"--seeds {count} from --seed {first} on exceed the largest seed, {MAX_SEED}; lower one of them"
        )
    for seed in range(first, first + count):
        each = replace(job, config=job.config.model_copy(update={"seed": seed}))
        yield each, folder / f"seed_{seed}" if count > 1 else folder


def _searched(job: SearchJob, folder: Path, *, resume: bool, processes: Processes, claims: ExitStack) -> SearchRun:
    if not processes.is_main:
        return run_search(job, folder, resume=resume, processes=processes)
    noun = METHODS[job.config.method].noun
    title = f"search {job.space.name}, seed {job.config.seed}"
    comparing = "comparing networks with the weights of the supernet" if isinstance(job.config, GradientConfig) else ""
    with result.listening(title, job.config.total, noun=noun, last=comparing) as listener:
        return run_search(
            job,
            folder,
            resume=resume,
            processes=processes,
            progress=listener.searched,
            track=screen.track,
            begun=listener.begin,
            claims=claims,
        )


def train_found(run: SearchRun, job: SearchJob, *, resume: bool, processes: Processes) -> SearchRun:
    """Train the best network of a run from scratch; return the updated run."""
    if not processes.is_main:
        return train_best(run, job, resume=resume, processes=processes)
    with result.listening(f"train {run.definition.name}", job.recipe.epochs) as listener:
        listener.begin()
        return train_best(run, job, resume=resume, processes=processes, progress=listener.trained)


def measure_networks(run: SearchRun, job: SearchJob, *, wanted: bool | None) -> SearchRun:
    """Measure the best networks as a whole, if wanted (default: if the table is of this machine)."""
    table = job.table
    if table is None or wanted is False:
        return run
    device = open_device("host")
    if wanted is None and not is_of(table, device):
        return run
    found = tuple(_measurements(run, job, table, device))
    return update_record(run, run.record.model_copy(update={"measured": found}))


def _measurements(run: SearchRun, job: SearchJob, table: LatencyTable, device: Device) -> Iterator[MeasuredRecord]:
    networks = {each.name: each for each in run.record.networks[:_MEASURED]}
    definitions = [job.definition(each.choices, name=each.name) for each in networks.values()]
    samples = network_samples(
        table, definitions, device, run.folder / MEASURED, screen.steps, num_classes=job.num_classes
    )
    for name, each in samples.items():
        p10, median, p90 = np.percentile(each, (10, 50, 90)).tolist()
        predicted = networks[name].costs[LATENCY.name]
        yield MeasuredRecord(name=name, predicted_ms=predicted, measured_ms=median, p10_ms=p10, p90_ms=p90)


def train_random(
    runs: Sequence[SearchRun], job: SearchJob, folder: Path, *, count: int, resume: bool, device: str
) -> list[SearchRun]:
    """Train random networks near the same limits, and record them in every run."""
    with result.listening("train random networks", job.recipe.epochs, times=count) as listener:
        listener.begin()
        place = folder / baseline.FOLDER
        found = baseline.random_baseline(
            job, place, count=count, resume=resume, device=device, progress=listener.trained
        )
    return [baseline.compared(run, job, found, device=device) for run in runs]


def write_report(run: SearchRun) -> Path:
    """Write the page of a run; return its path."""
    text = search_page(run.record, run.history, run.definition)
    write_atomically(run.folder / REPORT, text)
    return run.folder / REPORT


def register(run: SearchRun, license_: str) -> ArchSpec:
    """Add the network of a run to the user's own zoo, with its weights if it was trained.

    Raises:
        InputError: the user's zoo has another entry of this name, or cannot be written.
    """
    return install(run.definition, run.weights, tag=TAG, licence=license_ if run.weights else None)
