"""Macs and iPhones, measured with Core ML through coremltools.

Core ML itself chooses the number of threads and, among the allowed compute units, where each operator runs. Each run is
a separate process: `run_coreml` on this Mac, or on a phone the app that coremltools builds, signs and installs there.
"""

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from fbnet_zoo import programs
from fbnet_zoo.benchmarks.devices.apple_coreml import CoreMLDevice
from fbnet_zoo.benchmarks.devices.apple_process import CoreMLResult, CoreMLTarget
from fbnet_zoo.benchmarks.devices.apple_tools import Phone, Tools
from fbnet_zoo.benchmarks.devices.command import Run, run_program
from fbnet_zoo.benchmarks.measure import DeviceState, Inputs, ModelFile
from fbnet_zoo.errors import DeviceError, DeviceLostError, DeviceTimeoutError, DeviceUnavailableError
from fbnet_zoo.folders import temporary
from fbnet_zoo.latency.device import DeviceInfo

log = logging.getLogger(__name__)

TEAM_VARIABLE = "FBNET_ZOO_APPLE_TEAM"
APP = "com.coremltools.modelrunnerd"
"""Bundle ID of coremltools' app that runs models on a phone."""


class MacDevice(CoreMLDevice):
    """This Mac.

    Args:
        info: description of the Mac.
        run: function that runs command lines.
        compute_units: compute units that Core ML may use (default: `all`).
        run_s: time limit of one process, seconds (default: 600).
        cooldown_s: time limit of waiting while macOS throttles the Mac, seconds (default: 900).
        poll_s: interval between thermal readings, seconds (default: 10).

    Raises:
        InputError: the compute units are unknown.
    """

    def __init__(
        self,
        info: DeviceInfo,
        *,
        run: Run = run_program,
        compute_units: str = "all",
        run_s: float = 600,
        cooldown_s: float = 900,
        poll_s: float = 10,
    ) -> None:
        super().__init__(info, run=run, compute_units=compute_units, run_s=run_s)
        self._cooldown_s, self._poll_s = cooldown_s, poll_s

    @classmethod
    def find(cls, *, compute_units: str = "all", run: Run = run_program) -> Self:
        """Return this Mac.

        Raises:
            DeviceUnavailableError: this machine is not a Mac.
            InputError: the compute units are unknown.
        """
        return cls(Tools(run).mac(), run=run, compute_units=compute_units)

    def _state(self) -> DeviceState:
        return self.tools.mac_state()

    def _cool_down(self) -> DeviceState:
        deadline = time.monotonic() + self._cooldown_s
        while (state := self._state()).thermal_status:
            if time.monotonic() > deadline:
                raise DeviceTimeoutError(
                    f"macOS still throttles this Mac after {self._cooldown_s:g} s (pmset -g therm): let it cool"
                )
            log.info("cooling down")
            programs.pause(self._poll_s)
        return state


class IPhoneDevice(CoreMLDevice):
    """An iPhone connected to this Mac. Cleanup removes coremltools' app; the temperature is not available.

    Args:
        phone: the iPhone.
        team: ID of the development team that signs the app.
        run: function that runs command lines.
        compute_units: compute units that Core ML may use (default: `all`).
        run_s: time limit of one process, seconds; the first one builds the app (default: 1200).

    Raises:
        InputError: the compute units are unknown.
    """

    def __init__(
        self, phone: Phone, *, team: str, run: Run = run_program, compute_units: str = "all", run_s: float = 1200
    ) -> None:
        super().__init__(phone.info, run=run, compute_units=compute_units, run_s=run_s)
        self._phone, self._team = phone, team
        self._folders = ExitStack()
        self._folder: Path | None = None
        self._installed = self._lost = False

    @classmethod
    def find(
        cls,
        *,
        team: str | None = None,
        compute_units: str = "all",
        udid: str | None = None,
        run: Run = run_program,
    ) -> Self:
        """Return the connected iPhone.

        Args:
            team: ten-character ID of a development team (default: `FBNET_ZOO_APPLE_TEAM`).
            compute_units: compute units that Core ML may use (default: `all`).
            udid: UDID of the iPhone (default: that of the only connected one).
            run: function that runs command lines.

        Raises:
            DeviceUnavailableError: a requirement is missing, or the iPhone is not ready; the text says what to do.
            InputError: the compute units are unknown.
        """
        tools = Tools(run)
        tools.xcode()
        team = team or os.environ.get(TEAM_VARIABLE)
        if not team:
            raise DeviceUnavailableError(
                "coremltools' app for the iPhone must be signed: pass the ID of your development team (ten characters, "
                f"in Xcode's settings under Accounts) as team, or set {TEAM_VARIABLE}"
            )
        tools.require_devicectl()
        phone = _pick(tools.iphones(), udid)
        _check_phone(phone, tools)
        return cls(phone, team=team, run=run, compute_units=compute_units)

    def cleanup(self) -> None:
        """Remove the app from the phone, and its build folder; if the phone was lost, once it is connected again.

        Raises:
            DeviceUnavailableError: the phone does not respond.
        """
        self._folders.close()
        self._folder = None
        if not self._installed or (self._lost and not self._is_there()):
            return
        try:
            self.tools.uninstall(self._phone.udid, APP)
        except DeviceUnavailableError as error:
            raise DeviceUnavailableError(
                f"{error}; the app {APP} may still be on {self._phone.name}: delete it there"
            ) from error
        self._installed = self._lost = False

    def _versions(self) -> dict[str, str]:
        return {"xcode": self.tools.xcode()}

    def phone_target(self) -> CoreMLTarget:
        if self._folder is None:
            self._folder = self._folders.enter_context(temporary())
            self._installed, self._lost = True, False
        return CoreMLTarget(udid=self._phone.udid, team=self._team, folder=str(self._folder))

    def _execute(self, model: ModelFile, inputs: Inputs, *, runs: int, operators: bool = False) -> CoreMLResult:
        with self._tidy():
            return super()._execute(model, inputs, runs=runs, operators=operators)

    @contextmanager
    def _tidy(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:  # including KeyboardInterrupt
            lost = isinstance(error, DeviceError) and not self._is_there()
            try:
                self.cleanup()
            except DeviceError as failure:
                self._lost = True
                error.add_note(f"cleanup failed too: {failure}")
            if lost:
                raise DeviceLostError(f"{self._phone.name} was disconnected ({error}); reconnect it") from error
            raise

    def _is_there(self) -> bool:
        try:
            return any(each.udid == self._phone.udid and each.connected for each in self.tools.iphones())
        except DeviceError:
            return False


def _pick(phones: Sequence[Phone], udid: str | None) -> Phone:
    connected = [phone for phone in phones if phone.connected and udid in {None, phone.udid}]
    if not connected:
        asked = f"the iPhone {udid} is not connected" if udid else "no iPhone is connected"
        raise DeviceUnavailableError(f"{asked}: connect one by cable, unlock it and trust this Mac")
    if len(connected) > 1:
        names = ", ".join(sorted(phone.name for phone in connected))
        raise DeviceUnavailableError(f"several iPhones are connected ({names}): leave only one connected")
    return connected[0]


def _check_phone(phone: Phone, tools: Tools) -> None:
    if not phone.paired:
        raise DeviceUnavailableError(f"{phone.name} does not trust this Mac: unlock it and tap Trust")
    if not phone.developer_mode:
        raise DeviceUnavailableError(
            f"Developer Mode is off on {phone.name}: enable it there (Settings, Privacy & Security)"
        )
    try:
        locked = tools.is_locked(phone.udid)
    except DeviceUnavailableError as error:
        raise DeviceUnavailableError(f"{phone.name} does not respond: keep it unlocked ({error})") from error
    if locked:
        raise DeviceUnavailableError(f"{phone.name} is locked: unlock it, and keep it unlocked during measurements")
