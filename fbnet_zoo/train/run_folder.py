"""The folder of a run: its configuration, its metrics, and the checkpoint to resume from."""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field

from fbnet_zoo.atomic import atomic_file, storing_in, write_atomically
from fbnet_zoo.class_names import in_order
from fbnet_zoo.errors import InputError
from fbnet_zoo.folders import claimed
from fbnet_zoo.reading import decode, parse_record, read_bytes, read_record
from fbnet_zoo.spec import Record

RecordT = TypeVar("RecordT", bound=BaseModel)

_METRICS, _AGAIN = "the metrics of a run, one JSON object per line", "start again in another folder"

_RECENT = frozenset({"class_names", "images_sha256"})
"""Facts about the data that earlier versions, whose runs can be resumed, did not record."""

log = logging.getLogger(__name__)


class RunConfig(Record):
    """The content of `config.json`.

    Attributes:
        config: everything that the result depends on.
        versions: package name to version.
    """

    config: dict[str, Any]
    versions: dict[str, str]


class _Step(BaseModel):
    """What every line of the metrics has."""

    model_config = ConfigDict(strict=True)

    step: Annotated[int, Field(ge=1)]


class RunFolder:
    """A folder with `config.json`, `metrics.jsonl`, `checkpoint.pt` and the results of a run.

    Args:
        path: path of the folder, created if needed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config, self.metrics = path / "config.json", path / "metrics.jsonl"
        self.checkpoint = path / "checkpoint.pt"

    def require_free(self, *, resume: bool) -> None:
        """Refuse a folder that holds a run, unless that is to be resumed.

        Raises:
            InputError: the folder already holds a run, and `resume` is false.
        """
        if self.config.exists() and not resume:
            raise InputError(f"{self.path} already holds a run; resume it (--resume), or use another folder")

    @contextmanager
    def claimed(self, config: Mapping[str, Any], versions: Mapping[str, str], *, resume: bool) -> Iterator[None]:
        """Claim the folder for a run: write the configuration of a new one, or compare that of a resumed one.

        To be called after all other checks, so that a run that cannot begin leaves no folder.

        Args:
            config: everything that the result depends on, as plain values.
            versions: package name to version; a different version gives a warning.
            resume: whether to resume a run in the folder.

        Raises:
            InputError: another process uses the folder, it already holds a run and `resume` is false, its configuration
                differs, or it cannot be written.
        """
        with claimed(self.path):
            self._begin(config, versions, resume=resume)
            yield

    def _begin(self, config: Mapping[str, Any], versions: Mapping[str, str], *, resume: bool) -> None:
        self.require_free(resume=resume)
        if self.config.exists():
            self._compare(config, versions)
            return
        text = json.dumps({"config": config, "versions": versions}, indent=2) + "\n"
        write_atomically(self.config, text)

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint with a state of tensors and plain values, atomically."""
        with atomic_file(self.checkpoint) as file:
            torch.save(state, file)

    def load(self) -> dict[str, Any] | None:
        """Return the state in the checkpoint, `None` if there is none; code in the file is never executed.

        Raises:
            InputError: the checkpoint is damaged.
        """
        if not self.checkpoint.exists():
            return None
        try:
            return torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file can raise almost anything
            damage = f"{self.checkpoint} is damaged ({type(error).__name__}); start again in another folder"
            raise InputError(damage) from error

    def log(self, record: Mapping[str, Any]) -> None:
        """Append a line to the metrics."""
        with storing_in(self.path), self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())  # a checkpoint that survives a power cut has its line

    def forget_after(self, step: int) -> None:
        """Remove metrics lines written after a checkpoint, as they will be written again.

        Raises:
            InputError: a line is damaged; the text gives file, line and key.
        """
        kept = [record for record in self.records() if record["step"] <= step]
        write_atomically(self.metrics, "".join(json.dumps(record) + "\n" for record in kept))

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the metrics, without an incomplete last line.

        Raises:
            InputError: the file or a line is damaged; the text gives file, line and key.
        """
        for where, line in self._lines():
            parse_record(_Step, line, where, _METRICS)
            yield json.loads(line)

    def read(self, kind: type[RecordT]) -> tuple[RecordT, ...]:
        """Return the metrics as records, whose field `step` rises from line to line.

        Raises:
            InputError: the file or a line is damaged; the text gives file, line and key.
        """
        steps = [0, *(record["step"] for record in self.records())]
        found = []
        for (where, line), (before, step) in zip(self._lines(), pairwise(steps), strict=True):
            if step <= before:
                raise InputError(f"{where}: step: {step} does not follow {before}; {_AGAIN}")
            found.append(parse_record(kind, line, where, _METRICS))
        return tuple(found)

    def _lines(self) -> Iterator[tuple[str, str]]:
        """Yield place and text of each whole line."""
        whole, end, _ = (read_bytes(self.metrics, _METRICS) if self.metrics.exists() else b"").rpartition(b"\n")
        lines = decode(whole, str(self.metrics), _METRICS).split("\n") if end else []
        for number, line in enumerate(lines, start=1):
            yield f"{self.metrics}:{number}", line

    def _compare(self, config: Mapping[str, Any], versions: Mapping[str, str]) -> None:
        before = read_record(RunConfig, self.config, "the configuration of a run")
        now = json.loads(json.dumps(config))
        for key in {**now, **before.config}:
            if key not in now:
                raise InputError(f"{self.config}: config.{key}: is not part of this run; {_AGAIN}")
            if key not in before.config:
                raise InputError(f"{self.config}: config.{key}: is missing; {_AGAIN}")
            if before.config[key] != (value := self._recorded(before.config[key], now[key])):
                change = _difference(before.config[key], value)
                raise InputError(
                    f"{self.path} holds a run with another {key} ({change}); use the same, or another folder"
                )
        if before.versions != versions:
            log.warning("%s was started with other library versions: results may differ in the last digits", self.path)

    def _recorded(self, before: Any, now: Any) -> Any:
        """Return a value without what the version that started the run did not record."""
        left = _RECENT & (now.keys() - before.keys()) if isinstance(before, dict) and isinstance(now, dict) else None
        if not left:
            return now
        names = now["class_names"]
        if "class_names" in left and sorted(names) != names == in_order(names):
            raise InputError(
                f"{self.path} was started by an earlier version, which had the classes in the order "
                f"{', '.join(sorted(names)[:4])}, …; start again in another folder"
            )
        log.warning(
            "%s was started by an earlier version, which did not record the names of the classes and a digest of the "
            "images: make sure that they are the same",
            self.path,
        )
        return {key: value for key, value in now.items() if key not in left}


def _difference(before: Any, now: Any) -> str:
    """Return the difference of two values in words, for mappings that of the first entry that differs."""
    if isinstance(before, dict) and isinstance(now, dict):
        key = next(key for key in {**before, **now} if before.get(key) != now.get(key))
        return f"{key}: {_difference(before.get(key), now.get(key))}"
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        at = next(at for at, (one, other) in enumerate(zip(before, now, strict=True)) if one != other)
        return f"{at}: {_difference(before[at], now[at])}"
    shown = [text if len(text := str(value)) <= 40 else "a longer text" for value in (before, now)]
    return f"{shown[0]}, now {shown[1]}" if shown[0] != shown[1] else "it was changed"
