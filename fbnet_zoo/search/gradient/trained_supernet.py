"""The supernet of a completed search as an evaluator of networks."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from fbnet_zoo import arch_file
from fbnet_zoo.class_names import difference
from fbnet_zoo.datasets import dataset_digest
from fbnet_zoo.errors import InputError
from fbnet_zoo.reading import parse_record, read_record
from fbnet_zoo.search.config import Count
from fbnet_zoo.search.gradient.config import GradientConfig
from fbnet_zoo.search.gradient.evaluator import SupernetEvaluator
from fbnet_zoo.search.gradient.images import search_data
from fbnet_zoo.search.gradient.method import GradientMethod
from fbnet_zoo.search.job import SearchJob
from fbnet_zoo.search.methods import METHODS, AnyConfig
from fbnet_zoo.space.encoding import Decision, Encoding, Positions
from fbnet_zoo.spec import Size
from fbnet_zoo.train import Augmentation
from fbnet_zoo.train.checkpoint import check_parts
from fbnet_zoo.train.processes import Processes
from fbnet_zoo.train.run_folder import RunConfig, RunFolder


@dataclass(frozen=True, kw_only=True)
class TrainedSupernet:
    """An evaluator with the weights of the supernet of a completed search.

    Attributes:
        evaluator: evaluator with the encoding of that search.
        encoding: encoding of the networks to evaluate, which may omit decisions with one option.
        about: how accuracy is determined, in words.
    """

    evaluator: SupernetEvaluator
    encoding: Encoding
    about: str
    candidates: None = None

    def top1(self, networks: Sequence[Positions]) -> Iterator[float]:
        """Yield the accuracy of each network, percent."""
        own = self.evaluator.supernet.encoding
        for each in networks:
            yield from self.evaluator.top1([own.positions(self.encoding.choices(each))])


def trained_supernet(run: Path, job: SearchJob, encoding: Encoding, *, device: str = "cpu") -> TrainedSupernet:
    """Return an evaluator with the weights of the supernet in a run folder.

    Batch norm is recalibrated, and accuracy measured, on the two parts of the images of that search: none of the second
    part was used to train the weights.

    Args:
        run: folder of a `dnas` or `dmasking` search of the same space.
        job: the search that needs the evaluator, with the same data set.
        encoding: encoding of the job's space.
        device: device to compute on.

    Raises:
        InputError: the folder holds no such search, or one of another space or data set.
    """
    before = _config(run)
    config = before.search
    if not isinstance(config, GradientConfig):
        raise InputError(f"{run} is a run of {config.method}, which has no supernet; expected one of dnas or dmasking")
    own = replace(
        job,
        config=config,
        input_size=before.input_size,
        batch_size=before.batch_size,
        recipe=job.recipe.model_copy(update={"augmentation": before.augmentation}),
    )
    method = METHODS[config.method].load()
    assert isinstance(method, GradientMethod)  # noqa: S101 - `METHODS` pairs method and config
    _check(run, before, own, encoding, method.encoding(own))
    supernet, saved = method.supernet(own), RunFolder(run).load()
    if saved is None:
        raise InputError(f"{run} has no checkpoint.pt; expected the folder of a dnas or dmasking search")
    found = {key: value for key, value in saved.items() if key == "supernet"}
    check_parts({"supernet": supernet.state_dict()}, found, str(RunFolder(run).checkpoint))
    supernet.load_state_dict(saved["supernet"])
    supernet.to(device=device)
    evaluator = SupernetEvaluator(
        supernet=supernet,
        data=search_data(own.searched, own.loading),
        recalibration_batches=config.recalibration_batches,
        processes=Processes(device=device),
    )
    about = f"with the weights of the supernet in {run.name}"
    return TrainedSupernet(evaluator=evaluator, encoding=encoding, about=about)


def _open(encoding: Encoding) -> list[Decision]:
    return [decision for decision in encoding.decisions if len(decision.options) > 1]


def _config(run: Path) -> "_SearchConfig":
    path, expected = RunFolder(run).config, "the folder of a search"
    try:
        content = read_record(RunConfig, path, expected).config
    except InputError as error:
        raise InputError(f"{run} is not the folder of a search: its config.json cannot be read ({error})") from error
    if isinstance(content.get("search"), dict):
        known = {key: value for key, value in content["search"].items() if (key, value) != ("mode", "soft")}
        content["search"] = {"method": content.get("method"), **known}
    return parse_record(_SearchConfig, json.dumps(content), f"{path}: config", expected)


class _SearchData(BaseModel):
    """What a configuration says about the images."""

    model_config = ConfigDict(strict=True)

    name: str
    classes: int
    class_names: list[str] | None = None
    images_sha256: str | None = None


class _SearchConfig(BaseModel):
    """What an evaluator needs of the configuration of a search, with its method in `search`."""

    model_config = ConfigDict(strict=True)

    search: AnyConfig
    space: str
    input_size: Size | None
    batch_size: Count
    augmentation: Augmentation
    definition: str
    data: _SearchData | None


def _check(run: Path, before: _SearchConfig, job: SearchJob, encoding: Encoding, own: Encoding) -> None:
    dataset, data = job.searched, before.data
    if before.definition != arch_file.dump(job.space.frame) or _open(own) != _open(encoding):
        raise InputError(f"{run} searched {before.space}, whose definition is not that of {job.space.name} here")
    if data is None or data.classes != len(dataset.classes) or data.name != dataset.name:
        raise InputError(f"{run} was searched with {data.name if data else 'no images'}; use the same --data")
    if (names := data.class_names or list(dataset.classes)) != list(dataset.classes):
        raise InputError(
            f"{run} was searched with other classes than those of {dataset.name}: "
            f"{difference(names, dataset.classes)}; use the same --data"
        )
    if data.images_sha256 not in {None, dataset_digest(dataset)}:
        raise InputError(f"{run} was searched with other images of the name {dataset.name}; use the same --data")
