"""The folder of a run: what was asked for, what happened, and the state to go on from."""

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from fbnet_zoo.atomic import atomic_file, write_atomically
from fbnet_zoo.errors import InputError

log = logging.getLogger(__name__)


class RunFolder:
    """A folder that holds `config.json`, `metrics.jsonl`, `checkpoint.pt` and what a run makes.

    Args:
        path: of the folder; made where needed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config, self.metrics = path / "config.json", path / "metrics.jsonl"
        self.checkpoint = path / "checkpoint.pt"

    def begin(self, config: Mapping[str, Any], versions: Mapping[str, str], *, resume: bool) -> None:
        """Write down what the run does, or make sure that it is the same as before.

        Args:
            config: what the result depends on, as plain values.
            versions: of the libraries; another one is warned of.
            resume: go on with a run that the folder may hold already.

        Raises:
            InputError: there is a run already and it shall not be gone on with, or it was another one.
        """
        if self.config.exists():
            if not resume:
                raise InputError(f"{self.path} holds a run already; go on with it (--resume), or give another folder")
            self._compare(config, versions)
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.path} cannot be made ({error.strerror}); give another folder") from error
        text = json.dumps({"config": config, "versions": versions}, indent=2) + "\n"
        write_atomically(self.config, text)

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint by a state of tensors and plain values, whole or not at all."""
        with atomic_file(self.checkpoint) as file:
            torch.save(state, file)

    def load(self) -> dict[str, Any] | None:
        """Return the state of the checkpoint, `None` where there is none; nothing in it is ever executed.

        Raises:
            InputError: it is damaged.
        """
        if not self.checkpoint.exists():
            return None
        try:
            return torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except Exception as error:  # readers of damaged files raise almost anything
            damage = f"{self.checkpoint} is damaged ({type(error).__name__}); start again in another folder"
            raise InputError(damage) from error

    def log(self, record: Mapping[str, Any]) -> None:
        """Append a line to the metrics."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def forget_after(self, step: int) -> None:
        """Take lines out of the metrics that were written after a checkpoint, for they will be written again."""
        kept = [record for record in self.records() if record["step"] <= step]
        text = "".join(json.dumps(record) + "\n" for record in kept)
        write_atomically(self.metrics, text)

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the metrics, without a last line that was not written whole."""
        if self.metrics.exists():
            for line in self.metrics.read_text(encoding="utf-8").splitlines(keepends=True):
                if line.endswith("\n"):
                    yield json.loads(line)

    def _compare(self, config: Mapping[str, Any], versions: Mapping[str, str]) -> None:
        before = json.loads(self.config.read_text(encoding="utf-8"))
        for key, value in json.loads(json.dumps(config)).items():
            if before["config"].get(key) != value:
                told = _difference(before["config"].get(key), value)
                raise InputError(f"{self.path} holds a run with another {key} ({told}); say the same, or start another")
        if before["versions"] != versions:
            log.warning("%s was begun with other versions: its result may differ in the last digits", self.path)


def _difference(before: Any, now: Any) -> str:
    """Tell two values apart, in mappings by the first entry that differs."""
    if isinstance(before, dict) and isinstance(now, dict):
        key = next(key for key in {**before, **now} if before.get(key) != now.get(key))
        return f"{key}: {_difference(before.get(key), now.get(key))}"
    shown = [text if len(text := str(value)) <= 40 else "a longer text" for value in (before, now)]
    return f"{shown[0]}, now {shown[1]}" if shown[0] != shown[1] else "it was changed"
