"""Macs and iPhones, measured with Core ML through coremltools.

Core ML decides itself how many threads work and, within the compute units that it may use, what runs where. Each run is
a process of its own: `run_coreml` on this Mac; for a phone, the app that coremltools builds, signs and installs there.
"""

import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Self

from fbnet_zoo.benchmarks.devices.apple_coreml import CoreMLDevice
from fbnet_zoo.benchmarks.devices.apple_process import Answer, Target
from fbnet_zoo.benchmarks.devices.apple_tools import Phone, Tools
from fbnet_zoo.benchmarks.devices.command import Run, run_program
from fbnet_zoo.benchmarks.measure import DeviceState, Inputs, ModelFile
from fbnet_zoo.errors import DeviceError, DeviceLostError, DeviceTimeoutError, DeviceUnavailableError
from fbnet_zoo.latency.device import DeviceInfo

log = logging.getLogger(__name__)

TEAM_VARIABLE = "FBNET_ZOO_APPLE_TEAM"
APP = "com.coremltools.modelrunnerd"
"""What coremltools calls the app that runs models on a phone."""


class MacDevice(CoreMLDevice):
    """The Mac that this runs on.

    Args:
        info: which Mac it is.
        run: runs every command line.
        compute_units: what Core ML may use.
        run_s: how long one process may take, seconds.
        cooldown_s: how long to wait while macOS slows the Mac down, seconds.
        poll_s: how often to look, seconds.

    Raises:
        InputError: there are no such compute units.
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
            DeviceUnavailableError: it is none.
            InputError: there are no such compute units.
        """
        return cls(Tools(run).mac(), run=run, compute_units=compute_units)

    def _state(self) -> DeviceState:
        return self.tools.mac_state()

    def _cool_down(self) -> DeviceState:
        deadline = time.monotonic() + self._cooldown_s
        while (state := self._state()).thermal_status:
            if time.monotonic() > deadline:
                raise DeviceTimeoutError(
                    f"macOS still slows this Mac down after {self._cooldown_s:g} s (pmset -g therm): let it cool"
                )
            log.info("cooling down")
            time.sleep(self._poll_s)
        return state


class IPhoneDevice(CoreMLDevice):
    """An iPhone at this Mac. coremltools' app is removed from it when it is cleaned up; it tells no temperature.

    Args:
        phone: which one.
        team: of developers, that signs the app.
        run: runs every command line.
        compute_units: what Core ML may use.
        run_s: how long one process may take, seconds; the first one builds the app.

    Raises:
        InputError: there are no such compute units.
    """

    def __init__(
        self, phone: Phone, *, team: str, run: Run = run_program, compute_units: str = "all", run_s: float = 1200
    ) -> None:
        super().__init__(phone.info, run=run, compute_units=compute_units, run_s=run_s)
        self._phone, self._team = phone, team
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @classmethod
    def find(
        cls,
        *,
        team: str | None = None,
        compute_units: str = "all",
        udid: str | None = None,
        run: Run = run_program,
    ) -> Self:
        """Return the connected iPhone, or that of a UDID if there are several.

        Args:
            team: the ten characters of a team of developers; what `FBNET_ZOO_APPLE_TEAM` says if not given.
            compute_units: what Core ML may use.
            udid: of the iPhone.
            run: runs every command line.

        Raises:
            DeviceUnavailableError: something is missing, or the iPhone is in no state to be used; the text says what to
                do.
            InputError: there are no such compute units.
        """
        tools = Tools(run)
        tools.xcode()
        team = team or os.environ.get(TEAM_VARIABLE)
        if not team:
            raise DeviceUnavailableError(
                "coremltools' app for the iPhone must be signed: name your team of developers (ten characters, in "
                f"Xcode's settings under Accounts) as team, or in {TEAM_VARIABLE}"
            )
        tools.require_devicectl()
        phone = _pick(tools.iphones(), udid)
        _check_phone(phone, tools)
        return cls(phone, team=team, run=run, compute_units=compute_units)

    def cleanup(self) -> None:
        """Remove the app from the phone, and what it was built from.

        Raises:
            DeviceUnavailableError: the phone does not answer.
        """
        if self._folder is None:
            return
        self._forget()
        try:
            self.tools.uninstall(self._phone.udid, APP)
        except DeviceUnavailableError as error:
            raise DeviceUnavailableError(
                f"{error}; the app {APP} may stay on {self._phone.name}: delete it there"
            ) from error

    def _forget(self) -> None:
        if self._folder:
            self._folder.cleanup()
        self._folder = None

    def _versions(self) -> dict[str, str]:
        return {"xcode": self.tools.xcode()}

    def phone_job(self) -> Target:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="fbnet_zoo-iphone-")
        return Target(udid=self._phone.udid, team=self._team, folder=self._folder.name)

    def _answer(self, model: ModelFile, inputs: Inputs, *, runs: int, operators: bool = False) -> Answer:
        with self._tidy():
            return super()._answer(model, inputs, runs=runs, operators=operators)

    @contextmanager
    def _tidy(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:  # an interruption by the user, too
            lost = isinstance(error, DeviceError) and not self._is_there()
            try:
                self.cleanup()
            except DeviceError as failure:
                error.add_note(f"cleaning up failed too: {failure}")
            if lost:
                raise DeviceLostError(f"{self._phone.name} went away meanwhile ({error}); plug it in again") from error
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
        raise DeviceUnavailableError(f"{asked}: plug one in with a cable, unlock it and trust this Mac")
    if len(connected) > 1:
        names = ", ".join(sorted(phone.name for phone in connected))
        raise DeviceUnavailableError(f"several iPhones are connected ({names}): leave one of them plugged in")
    return connected[0]


def _check_phone(phone: Phone, tools: Tools) -> None:
    if not phone.paired:
        raise DeviceUnavailableError(f"{phone.name} does not trust this Mac: unlock it and tap Trust")
    if not phone.developer_mode:
        raise DeviceUnavailableError(
            f"{phone.name} lets no developers in: switch on Developer Mode there (Settings, Privacy & Security)"
        )
    try:
        locked = tools.is_locked(phone.udid)
    except DeviceUnavailableError as error:
        raise DeviceUnavailableError(f"{phone.name} does not answer: unlock it and keep it so ({error})") from error
    if locked:
        raise DeviceUnavailableError(f"{phone.name} is locked: unlock it, and keep it so while it is measured")
