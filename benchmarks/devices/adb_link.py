"""Connection to one Android device: commands with exit codes, verified file transfers, one reconnect on failure."""

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

from fbnet_zoo import programs
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
    """Exit code and output (both streams) of a command on a device."""

    exit_code: int
    text: str


class _LinkBrokenError(Exception):
    pass


class Link:
    """Connection to one device.

    Args:
        server: adb server.
        serial: serial number of the device.
        reconnect_s: time limit of a reconnect, seconds (default: 20).
    """

    def __init__(self, server: Server, serial: str, *, reconnect_s: float = 20) -> None:
        self.server, self.serial, self._reconnect_s = server, serial, reconnect_s

    def check(self) -> None:
        """Check that the device is connected and accepts adb commands.

        Raises:
            DeviceUnavailableError: the device is not connected or not ready.
        """
        check_state(self.serial, self.server.states())

    def is_ready(self) -> bool:
        """Return whether the device accepts adb commands, after one attempt to restore a connection over the network.

        Raises:
            DeviceUnavailableError: the adb server does not respond.
            DeviceTimeoutError: the adb server did not respond in time.
        """
        if _NETWORK_SERIAL.fullmatch(self.serial) and self.server.states().get(self.serial) != "device":
            self.server.call("disconnect", self.serial)
            self.server.call("connect", self.serial)
        return self.server.states().get(self.serial) == "device"

    def shell(self, command: str, *, timeout_s: float | None = None) -> Reply:
        """Run a command on the device. The command must be repeatable: it runs again if the connection breaks.

        Raises:
            DeviceLostError: the connection broke and could not be restored, or broke twice.
            DeviceTimeoutError: the command did not finish in time; it may still be running there.
        """
        return self._twice(lambda: self._shell(command, timeout_s))

    def push(self, local: Path, remote: str) -> None:
        """Copy a file to the device, creating its folder, and verify the digest.

        Raises:
            DeviceStorageError: the device has no space or refuses the file, or the file was damaged in transfer.
            DeviceLostError: the connection broke and could not be restored, or broke twice.
        """
        self._twice(lambda: self._push(local, remote))

    def pull(self, remote: str, local: Path) -> None:
        """Copy a file from the device, verify the digest and write `local` atomically.

        Raises:
            DeviceStorageError: the file does not exist, or was damaged in transfer.
            DeviceLostError: the connection broke and could not be restored, or broke twice.
        """
        self._twice(lambda: self._pull(remote, local))

    def _twice(self, action: Callable[[], T]) -> T:
        try:
            return action()
        except _LinkBrokenError as first:
            log.warning("%s: connection broken (%s); reconnecting", self.serial, first)
            self._reconnect(first)
        try:
            return action()
        except _LinkBrokenError as second:
            raise DeviceLostError(f"{self.serial}: connection broken twice ({second}); try another cable") from second

    def _reconnect(self, reason: Exception) -> None:
        on_network = _NETWORK_SERIAL.fullmatch(self.serial) is not None
        self.server.call(*(("disconnect", self.serial) if on_network else ("-s", self.serial, "reconnect")))
        deadline = time.monotonic() + self._reconnect_s
        while (state := self.server.states().get(self.serial)) != "device":
            if on_network and state is None:
                # Repeatedly: adb opens no new connection while it is closing the old one.
                self.server.call("connect", self.serial)
            if time.monotonic() > deadline:
                raise DeviceLostError(
                    f"{self.serial}: connection broken ({reason}) and not restored within {self._reconnect_s:g} s: "
                    f"the device is {state or 'not connected'}; reconnect it"
                )
            programs.pause(_POLL_S)

    def _shell(self, command: str, timeout_s: float | None = None) -> Reply:
        mark = f"end-{secrets.token_hex(8)}"
        # The first `echo` ends a partial line. Both streams are merged, as shell v1 does. When the connection breaks,
        # adbd sends SIGHUP to this shell only, which must forward it; `wait` lets the trap run at once.
        whole = f"( {command} ) 2>&1 & trap 'kill -HUP $!' HUP; wait $!; code=$?; echo; echo {mark}:$code"
        output = self.server.call("-s", self.serial, "shell", whole, timeout_s=timeout_s)
        text = output.stdout.decode(errors="replace").replace("\r\n", "\n")
        found = re.search(rf"\n{mark}:([0-9]{{1,3}})\s*$", text)
        if found is None:
            raise _LinkBrokenError(output.stderr.decode(errors="replace").strip() or "the output is truncated")
        return Reply(exit_code=int(found[1]), text=text[: found.start()])

    def _push(self, local: Path, remote: str) -> None:
        made = self._shell(f"mkdir -p {quote(dirname(remote))}")
        if made.exit_code:
            raise DeviceStorageError(f"{self.serial}: cannot create {dirname(remote)}: {made.text.strip()}")
        limit = self.server.timeout_s + local.stat().st_size / _SLOWEST_BYTES_PER_S
        output = self.server.call("-s", self.serial, "push", str(local), remote, timeout_s=limit)
        if refusal := re.search(r": remote (.+)", output.text):
            self._shell(f"rm -f {quote(remote)}")
            cure = "; free some space on the device" if "No space" in refusal[1] else ""
            raise DeviceStorageError(f"{self.serial}: cannot store {local.name}: {refusal[1]}{cure}")
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
                f"{self.serial}: {local.name} was damaged in transfer: its sha256 is {found}, expected {expected}; "
                "check the storage and the cable"
            )

    def _remote_digest(self, remote: str) -> str | None:
        reply = self._shell(f"[ -f {quote(remote)} ] || exit 3; sha256sum {quote(remote)}")
        missing = 3
        if reply.exit_code == missing:
            return None
        found = _DIGEST.search(reply.text)
        if reply.exit_code or found is None:
            raise DeviceStorageError(
                f"{self.serial}: cannot verify files: sha256sum, part of Android 7 and later, printed "
                f"{reply.text.strip()!r}"
            )
        return found[0]

    def _pull(self, remote: str, local: Path) -> None:
        expected = self._remote_digest(remote)
        if expected is None:
            raise DeviceStorageError(f"{self.serial}: {remote} does not exist")
        partial = local.with_name(f".{local.name}.{secrets.token_hex(4)}")
        try:
            output = self.server.call("-s", self.serial, "pull", remote, str(partial))
            if output.exit_code or not partial.is_file():
                raise _LinkBrokenError(output.text)
            if _digest(partial) != expected:
                raise DeviceStorageError(f"{self.serial}: {remote} was damaged in transfer; check the cable")
            partial.replace(local)
        finally:
            partial.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
