"""Commands in two processes that are told of each other, as `torchrun` starts them."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from tests.helpers.paths import ROOT
from tests.helpers.surroundings import PATIENCE_S

GROUND = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

Outcomes = list[dict[str, Any]]


def free_port() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


def together(*command: str) -> None:
    """Run a command in two processes that are told of each other; neither outlives this."""
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    running = []
    for rank in ("0", "1"):
        ground = {**GROUND, **group, "RANK": rank, "LOCAL_RANK": rank}
        line = [sys.executable, "-W", "error", *command]
        running.append(subprocess.Popen(line, env=ground, stderr=subprocess.PIPE, text=True))
    try:
        said = [process.communicate(timeout=PATIENCE_S)[1] for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    assert [process.returncode for process in running] == [0, 0], "\n".join(said)


def seen(folder: Path) -> Outcomes:
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]
