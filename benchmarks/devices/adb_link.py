"""The way to one Android device: commands with an exit code, files that arrive whole, a link that is repaired once."""

import hashlib
import logging
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from posixpath import dirname
from shlex import quote
from typing import TypeVar

from fbnet_zoo.benchmarks.devices.adb import Server, check_state
from fbnet_zoo.errors import DeviceLostError, DeviceStorageError

log = logging.getLogger(__name__)

_POLL_S = 0.25
_SLOWEST_BYTES_PER_S = 500_000
_NETWORK_SERIAL = re.compile(r".+:\d+")
_DIGEST = re.compile(r"\b[0-9a-f]{64}\b")

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a command on a device printed, both streams together, and its exit code."""

    exit_code: int
    text: str


class _LinkBrokenError(Exception):
    pass


class Link:
    """The way to one device.

    Args:
        server: of adb.
        serial: of the device.
        reconnect_s: how long to wait for it to come back, seconds.
    """

    def __init__(self, server: Server, serial: str, *, reconnect_s: float = 20) -> None:
        self.server, self.serial, self._reconnect_s = server, serial, reconnect_s

    def check(self) -> None:
        """Make sure that the device is there and lets us in.

        Raises:
            DeviceUnavailableError: it is not, or does not.
        """
        check_state(self.serial, self.server.states())

    def shell(self, command: str, *, timeout_s: float | None = None) -> Reply:
        """Run a command on the device. It must do no harm when it is run again, because the link may break.

        Raises:
            DeviceLostError: the link broke and did not come back, or broke again.
            DeviceTimeoutError: the command did not end in time; it may still be running there.
        """
        return self._twice(lambda: self._shell(command, timeout_s))

    def push(self, local: Path, remote: str) -> None:
        """Copy a file to the device, whose folder is made, and compare the digests.

        Raises:
            DeviceStorageError: it has no space or refuses, or what arrived is not what was sent.
            DeviceLostError: the link broke and did not come back, or broke again.
        """
        self._twice(lambda: self._push(local, remote))

    def pull(self, remote: str, local: Path) -> None:
        """Copy a file from the device, and compare the digests; `local` appears whole or not at all.

        Raises:
            DeviceStorageError: there is no such file, or what arrived is not what was sent.
            DeviceLostError: the link broke and did not come back, or broke again.
        """
        self._twice(lambda: self._pull(remote, local))

    def _twice(self, action: Callable[[], T]) -> T:
        try:
            return action()
        except _LinkBrokenError as first:
            log.warning("%s: the link broke (%s); connecting again", self.serial, first)
            self._reconnect(first)
        try:
            return action()
        except _LinkBrokenError as second:
            raise DeviceLostError(f"{self.serial}: the link broke twice ({second}); try another cable") from second

    def _reconnect(self, reason: Exception) -> None:
        on_network = _NETWORK_SERIAL.fullmatch(self.serial) is not None
        self.server.call(*(("disconnect", self.serial) if on_network else ("-s", self.serial, "reconnect")))
        deadline = time.monotonic() + self._reconnect_s
        while (state := self.server.states().get(self.serial)) != "device":
            if on_network and state is None:
                # More than once: while the old connection is being taken down, adb does not make a new one.
                self.server.call("connect", self.serial)
            if time.monotonic() > deadline:
                raise DeviceLostError(
                    f"{self.serial}: the link broke ({reason}) and the device did not come back within "
                    f"{self._reconnect_s:g} s: it is {state or 'not connected'}; plug it in again"
                )
            time.sleep(_POLL_S)

    def _shell(self, command: str, timeout_s: float | None = None) -> Reply:
        mark = f"end-{secrets.token_hex(8)}"
        # `echo` first ends an unfinished line. Both streams together: shell v1 does not tell them apart. When the link
        # breaks, adbd hangs up on this shell alone, which passes it on; `wait` lets it do so at once.
        whole = f"( {command} ) 2>&1 & trap 'kill -HUP $!' HUP; wait $!; code=$?; echo; echo {mark}:$code"
        output = self.server.call("-s", self.serial, "shell", whole, timeout_s=timeout_s)
        text = output.stdout.decode(errors="replace").replace("\r\n", "\n")
        found = re.search(rf"\n{mark}:(\d+)\s*$", text)
        if found is None:
            raise _LinkBrokenError(output.stderr.decode(errors="replace").strip() or "the output ended too early")
        return Reply(exit_code=int(found[1]), text=text[: found.start()])

    def _push(self, local: Path, remote: str) -> None:
        made = self._shell(f"mkdir -p {quote(dirname(remote))}")
        if made.exit_code:
            raise DeviceStorageError(f"{self.serial}: cannot make {dirname(remote)}: {made.text.strip()}")
        limit = self.server.timeout_s + local.stat().st_size / _SLOWEST_BYTES_PER_S
        output = self.server.call("-s", self.serial, "push", str(local), remote, timeout_s=limit)
        if refusal := re.search(r": remote (.+)", output.text):
            self._shell(f"rm -f {quote(remote)}")
            cure = "; free some space there" if "No space" in refusal[1] else ""
            raise DeviceStorageError(f"{self.serial}: cannot take {local.name}: {refusal[1]}{cure}")
        if output.exit_code:
            raise _LinkBrokenError(output.text)
        self._compare(local, remote)

    def _compare(self, local: Path, remote: str) -> None:
        expected, found = _digest(local), self._remote_digest(remote)
        if found is None:
            raise _LinkBrokenError(f"{remote} did not arrive")
        if found != expected:
            self._shell(f"rm -f {quote(remote)}")
            raise DeviceStorageError(
                f"{self.serial}: {local.name} arrived damaged: its sha256 is {found}, not {expected}; "
                "the storage or the cable is faulty"
            )

    def _remote_digest(self, remote: str) -> str | None:
        reply = self._shell(f"[ -f {quote(remote)} ] || exit 3; sha256sum {quote(remote)}")
        missing = 3
        if reply.exit_code == missing:
            return None
        found = _DIGEST.search(reply.text)
        if reply.exit_code or found is None:
            raise DeviceStorageError(
                f"{self.serial}: files cannot be verified, sha256sum says {reply.text.strip()!r}; Android 7 has it"
            )
        return found[0]

    def _pull(self, remote: str, local: Path) -> None:
        expected = self._remote_digest(remote)
        if expected is None:
            raise DeviceStorageError(f"{self.serial}: there is no {remote}")
        partial = local.with_name(f".{local.name}.{secrets.token_hex(4)}")
        try:
            output = self.server.call("-s", self.serial, "pull", remote, str(partial))
            if output.exit_code or not partial.is_file():
                raise _LinkBrokenError(output.text)
            if _digest(partial) != expected:
                raise DeviceStorageError(f"{self.serial}: {remote} arrived damaged; the cable is faulty")
            partial.replace(local)
        finally:
            partial.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
