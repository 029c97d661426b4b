"""The folder of a run: its configuration, its metrics, and the checkpoint to resume from."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from fbnet_zoo.atomic import atomic_file, write_atomically
from fbnet_zoo.errors import InputError
from fbnet_zoo.folders import claimed

log = logging.getLogger(__name__)


class RunFolder:
    """A folder with `config.json`, `metrics.jsonl`, `checkpoint.pt` and the results of a run.

    Args:
        path: path of the folder, created if needed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config, self.metrics = path / "config.json", path / "metrics.jsonl"
        self.checkpoint = path / "checkpoint.pt"

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
        if not self.config.exists():
            text = json.dumps({"config": config, "versions": versions}, indent=2) + "\n"
            write_atomically(self.config, text)
        elif resume:
            self._compare(config, versions)
        else:
            raise InputError(f"{self.path} already holds a run; resume it (--resume), or use another folder")

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
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def forget_after(self, step: int) -> None:
        """Remove metrics lines written after a checkpoint, as they will be written again."""
        kept = [record for record in self.records() if record["step"] <= step]
        text = "".join(json.dumps(record) + "\n" for record in kept)
        write_atomically(self.metrics, text)

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the metrics, without an incomplete last line."""
        if self.metrics.exists():
            for line in self.metrics.read_text(encoding="utf-8").splitlines(keepends=True):
                if line.endswith("\n"):
                    yield json.loads(line)

    def _compare(self, config: Mapping[str, Any], versions: Mapping[str, str]) -> None:
        before = json.loads(self.config.read_text(encoding="utf-8"))
        for key, value in json.loads(json.dumps(config)).items():
            if before["config"].get(key) != value:
                change = _difference(before["config"].get(key), value)
                raise InputError(
                    f"{self.path} holds a run with another {key} ({change}); use the same, or another folder"
                )
        if before["versions"] != versions:
            log.warning("%s was started with other library versions: results may differ in the last digits", self.path)


def _difference(before: Any, now: Any) -> str:
    """Return the difference of two values in words, for mappings that of the first entry that differs."""
    if isinstance(before, dict) and isinstance(now, dict):
        key = next(key for key in {**before, **now} if before.get(key) != now.get(key))
        return f"{key}: {_difference(before.get(key), now.get(key))}"
    shown = [text if len(text := str(value)) <= 40 else "a longer text" for value in (before, now)]
    return f"{shown[0]}, now {shown[1]}" if shown[0] != shown[1] else "it was changed"
