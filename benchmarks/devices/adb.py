"""The program `adb` (Android Debug Bridge) and its server.

`adb shell` exits with 0 when the connection breaks, as does `adb connect` when it is refused, and old devices (shell
v1) report no exit codes at all: `adb_link` makes up for that.
"""

import logging
import os
import re
from collections.abc import Mapping

from fbnet_zoo.benchmarks.devices.command import Output, Run, run_program
from fbnet_zoo.errors import DeviceTimeoutError, DeviceUnavailableError

log = logging.getLogger(__name__)

_CURES = {
    "unauthorized": "unlock the phone and allow USB debugging",
    "authorizing": "unlock the phone and allow USB debugging",
    "offline": "unplug and reconnect it, or run `adb reconnect offline`",
    "no permissions": "you have no access to the USB device: add udev rules for it, or join the group plugdev",
}


class Server:
    """The `adb` program and its server.

    Args:
        run: function that runs command lines.
        program: name or path of `adb` (default: `adb`).
        timeout_s: default time limit of a command, seconds (default: 30).
    """

    def __init__(self, *, run: Run = run_program, program: str = "adb", timeout_s: float = 30) -> None:
        self._run, self._program, self.timeout_s = run, program, timeout_s

    def call(self, *arguments: str, timeout_s: float | None = None) -> Output:
        """Run an adb command.

        Raises:
            DeviceUnavailableError: adb is not installed.
            DeviceTimeoutError: the command did not finish in time.
        """
        limit = timeout_s or self.timeout_s
        try:
            output = self._run([self._program, *arguments], limit)
        except TimeoutError as error:
            what = " ".join(arguments)
            raise DeviceTimeoutError(f"adb did not finish within {limit:g} s: adb {what[:200]}") from error
        except OSError as error:
            raise DeviceUnavailableError(
                f"{self._program} cannot be started ({error.strerror or error}): install Android's platform-tools "
                "(Debian and Ubuntu: apt install adb) and put adb on the PATH"
            ) from error
        log.debug("adb %s: exit code %d: %s", " ".join(arguments), output.exit_code, output.text)
        return output

    def version(self) -> str:
        """Return the version of adb, or `unknown`."""
        found = re.search(r"^Version (\S+)", self.call("version").text, re.MULTILINE)
        return found[1] if found else "unknown"

    def states(self) -> dict[str, str]:
        """Return serial number and adb state of every connected device.

        Raises:
            DeviceUnavailableError: the adb server does not respond.
        """
        output = self.call("devices")
        if output.exit_code:
            raise DeviceUnavailableError(f"the adb server does not respond: {output.text}")
        lines = (line.split("\t", 1) for line in output.stdout.decode(errors="replace").splitlines() if "\t" in line)
        return {serial: state.strip() for serial, state in lines}

    def pick(self, serial: str | None = None) -> str:
        """Return the serial number of the device to use.

        Args:
            serial: serial number (default: `ANDROID_SERIAL` from the environment, else the only connected device).

        Raises:
            DeviceUnavailableError: no device or several are connected, or the device is not ready.
        """
        states = self.states()
        serial = serial or os.environ.get("ANDROID_SERIAL")
        if serial is None and len(states) > 1:
            raise DeviceUnavailableError(f"several devices are connected; choose one of {', '.join(sorted(states))}")
        if serial is None and not states:
            raise DeviceUnavailableError("no device is connected; connect a phone and enable USB debugging")
        chosen = serial or next(iter(states))
        check_state(chosen, states)
        return chosen


def check_state(serial: str, states: Mapping[str, str]) -> None:
    """Check that a device is connected and accepts adb commands.

    Raises:
        DeviceUnavailableError: the device is not connected or not ready.
    """
    state = states.get(serial)
    if state == "device":
        return
    if state is None:
        raise DeviceUnavailableError(f"{serial} is not connected; found {', '.join(sorted(states)) or 'no device'}")
    cure = next((cure for start, cure in _CURES.items() if state.startswith(start)), "boot it into Android")
    raise DeviceUnavailableError(f"{serial} is not ready (state {state!r}): {cure}")
