"""The program `adb`, Android's debug bridge, and the server that it keeps.

`adb shell` ends with 0 when the link breaks, `adb connect` when it is refused, and old devices (shell v1) have no exit
codes at all: `adb_link` adds what that takes.
"""

import logging
import os
import re
from collections.abc import Mapping

from fbnet_zoo.benchmarks.devices.command import Output, Run, run_program
from fbnet_zoo.errors import DeviceTimeoutError, DeviceUnavailableError

log = logging.getLogger(__name__)

_CURES = {
    "unauthorized": "unlock the phone and accept its question about USB debugging",
    "authorizing": "unlock the phone and accept its question about USB debugging",
    "offline": "unplug it and plug it in again, or run `adb reconnect offline`",
    "no permissions": "this user may not open the USB device: add udev rules for it, or join the group plugdev",
}


class Server:
    """The `adb` program and the server that it keeps.

    Args:
        run: runs every command line.
        program: name or path of `adb`.
        timeout_s: for whatever says no other, seconds.
    """

    def __init__(self, *, run: Run = run_program, program: str = "adb", timeout_s: float = 30) -> None:
        self._run, self._program, self.timeout_s = run, program, timeout_s

    def call(self, *arguments: str, timeout_s: float | None = None) -> Output:
        """Run one command of adb.

        Raises:
            DeviceUnavailableError: there is no adb.
            DeviceTimeoutError: it did not end in time.
        """
        limit = timeout_s or self.timeout_s
        try:
            output = self._run([self._program, *arguments], limit)
        except TimeoutError as error:
            what = " ".join(arguments)
            raise DeviceTimeoutError(f"adb did not end within {limit:g} s: adb {what[:200]}") from error
        except OSError as error:
            raise DeviceUnavailableError(
                f"{self._program} cannot be started ({error.strerror or error}): install Android's platform-tools "
                "(Debian and Ubuntu: apt install adb) and put adb on the PATH"
            ) from error
        log.debug("adb %s: exit code %d: %s", " ".join(arguments), output.exit_code, output.text)
        return output

    def version(self) -> str:
        """Return the version of adb, `unknown` if it does not say."""
        found = re.search(r"^Version (\S+)", self.call("version").text, re.MULTILINE)
        return found[1] if found else "unknown"

    def states(self) -> dict[str, str]:
        """Return the state of every connected device by its serial number, as adb words it.

        Raises:
            DeviceUnavailableError: adb's server does not answer.
        """
        output = self.call("devices")
        if output.exit_code:
            raise DeviceUnavailableError(f"adb's server does not answer: {output.text}")
        lines = (line.split("\t", 1) for line in output.stdout.decode(errors="replace").splitlines() if "\t" in line)
        return {serial: state.strip() for serial, state in lines}

    def pick(self, serial: str | None = None) -> str:
        """Return the serial number of the device to use, which may be left out if there is but one.

        Args:
            serial: of a device; the environment's `ANDROID_SERIAL` if not given.

        Raises:
            DeviceUnavailableError: there is none, there are several, or it is in no state to be used.
        """
        states = self.states()
        serial = serial or os.environ.get("ANDROID_SERIAL")
        if serial is None and len(states) > 1:
            raise DeviceUnavailableError(f"several devices are connected: say which one of {', '.join(sorted(states))}")
        if serial is None and not states:
            raise DeviceUnavailableError("no device is connected: plug in a phone and switch USB debugging on")
        chosen = serial or next(iter(states))
        check_state(chosen, states)
        return chosen


def check_state(serial: str, states: Mapping[str, str]) -> None:
    """Make sure that a device is there and lets us in.

    Raises:
        DeviceUnavailableError: it is not, or does not.
    """
    state = states.get(serial)
    if state == "device":
        return
    if state is None:
        others = f"connected are {', '.join(sorted(states))}" if states else "none is"
        raise DeviceUnavailableError(f"{serial} is not connected; {others}")
    cure = next((cure for start, cure in _CURES.items() if state.startswith(start)), "start Android on it")
    raise DeviceUnavailableError(f"{serial} cannot be used, it is {state!r}: {cure}")
