"""Files from plain URLs: with a time-out, a lowest speed and a largest size."""

import time
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from urllib.request import Request, urlopen

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from fbnet_zoo import limits

TIMEOUT_S = 15.0
"""Longest time without any data, including the time to connect."""

LOWEST_SPEED, SPEED_TIME_S = 1_000, 30.0
"""Lowest speed, bytes per second, and the time over which it is averaged, as for curl's options of these names."""

_CHUNK = 1 << 16


def download(url: str, path: Path) -> int | None:
    """Download a file; the caller checks that it is complete and the right one, before it is kept.

    Args:
        url: an http or https address.
        path: path of the new file.

    Returns:
        The size that the server announced, bytes, if it did.

    Raises:
        OSError: the server cannot be reached, refuses (`HTTPError`), stalls or is too slow (`TimeoutError`); or the
            file cannot be written.
        HTTPException: the answer is malformed.
        InputError: the file is larger than the limit `download_bytes`.
    """
    with urlopen(Request(url), timeout=TIMEOUT_S) as answer, path.open("wb") as file:  # noqa: S310 - http(s) only
        length = answer.headers.get("Content-Length", "")
        announced = int(length) if length.isdigit() and int(length) else None
        limits.check("download_bytes", announced or 0, f"{url} has")
        received = 0
        with _bar() as bar:
            task = bar.add_task("downloading", total=announced)
            for chunk in _chunks(answer):
                received += len(chunk)
                limits.check("download_bytes", received, f"{url} has sent")
                file.write(chunk)
                bar.advance(task, len(chunk))
    return announced


def _bar() -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _chunks(answer: HTTPResponse) -> Iterator[bytes]:
    """Yield what arrives, as it arrives.

    Raises:
        TimeoutError: it arrives too slowly.
    """
    since, received = time.monotonic(), 0
    while chunk := answer.read1(_CHUNK):
        received += len(chunk)
        yield chunk
        if (passed := time.monotonic() - since) >= SPEED_TIME_S:
            if received < LOWEST_SPEED * passed:
                raise TimeoutError(f"slower than {LOWEST_SPEED} bytes per second for {passed:.0f} s")
            since, received = time.monotonic(), 0
