"""A phone of the sandbox kind: `adb_daemon` with the programs that an Android device has, and adb's real server.

The runner that is put on it replays captured outputs of the real one; everything between it and the library is real.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from fbnet_zoo.benchmarks.devices.adb import Server
from fbnet_zoo.benchmarks.devices.adb_link import Link
from fbnet_zoo.benchmarks.devices.android import AndroidDevice, Limits
from fbnet_zoo.benchmarks.measure import ModelFile
from tests.helpers.adb_daemon import Access, AdbDaemon
from tests.helpers.paths import DATA
from tests.helpers.surroundings import PATIENCE_S

CAPTURES: dict[str, dict[str, Any]] = {
    case["case"]: case for case in map(json.loads, (DATA / "executor_runner.jsonl").read_text().splitlines())
}

FAST = Limits(cooldown_s=PATIENCE_S, poll_s=0.01, run_s=PATIENCE_S)
"""Nothing is waited for in vain, and no limit is reached on a machine with other things to do."""

STATES = {"open": "device", "unauthorized": "unauthorized", "silent": "offline"}
"""What adb calls a phone that is connected, by how it lets adb in."""

PROGRAMS = {
    "getprop": 'cat "$SANDBOX/properties"',
    "nproc": "echo 8",
    "dumpsys": """case $1 in
battery)
    warmth=$(head -n 1 "$SANDBOX/warmth")  # tenths of a degree, one line per question, the last one stays
    [ "$(wc -l < "$SANDBOX/warmth")" -gt 1 ] && sed -i 1d "$SANDBOX/warmth"
    printf 'Current Battery Service state:\\n  AC powered: false\\n  USB powered: true\\n'
    printf '  level: 83\\n  temperature: %s\\n' "$warmth" ;;
thermalservice)
    printf 'Thermal Status: %s\\nCurrent temperatures from HAL:\\n' "$(cat "$SANDBOX/thermal_status")"
    printf '\\tTemperature{mValue=33.5, mType=3, mName=skin, mStatus=0}\\n' ;;
deviceidle)
    case $2 in
    get) cat "$SANDBOX/forced_idle" ;;
    force-idle) echo true > "$SANDBOX/forced_idle"; echo "Now forced in to deep idle mode" ;;
    unforce) echo false > "$SANDBOX/forced_idle"; echo "Light state: ACTIVE, deep state: ACTIVE" ;;
    esac ;;
esac""",
    "logcat": 'cat "$SANDBOX/log" 2>/dev/null',
    "taskset": '[ -f "$SANDBOX/no_taskset" ] && exit 1; echo "$1" >> "$SANDBOX/masks"; shift; exec "$@"',
}

RUNNER = """#!/bin/sh
absent=
echo "$*" >> "$SANDBOX/runs"
cat "$SANDBOX/forced_idle" >> "$SANDBOX/idle_meanwhile"
replay=$SANDBOX/replay
for option in "$@"; do
    case $option in
    --model_path=*) [ -f "${option#*=}" ] || absent=model ;;
    --inputs=*) for input in $(echo "${option#*=}" | tr , " "); do [ -f "$input" ] || absent=${absent:-input}; done ;;
    --num_executions=*) [ -d "$replay.${option#*=}" ] && replay=$replay.${option#*=} ;;
    --etdump_path=*) [ -f "$SANDBOX/trace" ] && cp "$SANDBOX/trace" "${option#*=}" ;;
    esac
done
[ -n "$absent" ] && replay=$SANDBOX/absent_$absent
[ -f "$SANDBOX/meanwhile" ] && . "$SANDBOX/meanwhile"
cat "$replay/stdout"
if [ -f "$SANDBOX/logs_to_logcat" ]; then
    sed -E "s/^([IEF]) [^ ]+ [^ ]+\\] /\\1\\/ExecuTorch($$): /" "$replay/stderr" >> "$SANDBOX/log"
else
    cat "$replay/stderr" >&2
fi
exit "$(cat "$replay/exit_code")"
"""

PROPERTIES = {
    "ro.product.manufacturer": "Sandbox",
    "ro.product.model": "Phone 9",
    "ro.soc.model": "SX-1",
    "ro.build.version.release": "14",
    "ro.build.version.sdk": "34",
    "ro.product.cpu.abilist": "arm64-v8a,armeabi-v7a",
}


class Phone(AdbDaemon):
    """A device with four slow cores, three fast ones and a faster one; 31.2 C warm."""

    def __init__(self, root: Path, *, shell_v2: bool = True, access: Access = "open") -> None:
        super().__init__(root, shell_v2=shell_v2, access=access)
        for name, text in PROGRAMS.items():
            self.write(f"bin/{name}", f"#!/bin/sh\n{text}\n").chmod(0o755)
        self.write("properties", "".join(f"[{name}]: [{value}]\n" for name, value in PROPERTIES.items()))
        self.write("warmth", "312\n")
        self.write("thermal_status", "0\n")
        self.write("forced_idle", "false\n")
        self._capture("absent_model", "x86_64/wrong_path")
        self._capture("absent_input", "x86_64/bad_inputs_path")
        for first, cores, fastest in ((0, "0 1 2 3", 1_800_000), (4, "4 5 6", 2_400_000), (7, "7", 2_900_000)):
            policy = f"sys/devices/system/cpu/cpufreq/policy{first}"
            values = {"related_cpus": cores, "scaling_governor": "walt", "scaling_cur_freq": "300000"}
            values |= dict.fromkeys(("cpuinfo_max_freq", "scaling_max_freq"), str(fastest))
            for name, value in values.items():
                self.write(f"{policy}/{name}", f"{value}\n")
            self.write(f"{policy}/stats/time_in_state", f"300000 1200\n{fastest} 34\n")

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def replay(self, case: str, *, executions: int | None = None, without: str | None = None) -> None:
        """Let the runner print a captured output, for so many executions or for all; leave out lines with a word.

        Where the model or an input is not on the phone, it says so instead, as the real one does.
        """
        self._capture("replay" if executions is None else f"replay.{executions}", case, without)

    def _capture(self, folder: str, case: str, without: str | None = None) -> None:
        capture = CAPTURES[case]
        lines = [f"{line}\n" for line in capture["stderr"] if not without or without not in line]
        self.write(f"{folder}/stderr", "".join(lines))
        self.write(f"{folder}/stdout", capture["stdout"])
        self.write(f"{folder}/exit_code", str(capture["exit_code"]))

    def lines(self, name: str) -> list[str]:
        path = self.root / name
        return path.read_text().splitlines() if path.exists() else []

    @property
    def files(self) -> list[str]:
        """What lies where the library may put files."""
        folder = self.root / "data/local/tmp"
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


Plug = Callable[..., Phone]


@pytest.fixture(scope="session")
def adb_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What makes adb use a server of our own, with keys of its own, that looks for no emulators."""
    if shutil.which("adb") is None:
        pytest.skip("adb is not on the PATH (Debian and Ubuntu: apt install adb)")
    folder = str(tmp_path_factory.mktemp("adb"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {"ANDROID_ADB_SERVER_PORT": port, "ADB_LOCAL_TRANSPORT_MAX_PORT": "5553"}
    environment |= {"HOME": folder, "TMPDIR": folder, "ADB_MDNS": "0"}
    yield environment
    subprocess.run(["adb", "kill-server"], env={**os.environ, **environment}, check=False, capture_output=True)


@pytest.fixture
def adb_server(adb_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is set, and no device is connected."""
    for name, value in adb_environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)
    adb("disconnect")


@pytest.fixture
def plug(adb_server: None, tmp_path: Path) -> Iterator[Plug]:
    """Makes phones and connects them, in whatever state they let adb get to."""
    with ExitStack() as stack:

        def plug(name: str = "phone", *, shell_v2: bool = True, access: Access = "open") -> Phone:
            phone = stack.enter_context(Phone(tmp_path / name, shell_v2=shell_v2, access=access))
            connect(phone)
            return phone

        yield plug
        adb("disconnect")


@pytest.fixture(params=[True, pytest.param(False, marks=pytest.mark.slow)], ids=["shell_v2", "shell_v1"])
def any_phone(request: pytest.FixtureRequest, plug: Plug) -> Phone:
    """A phone that has exit codes, and one that has not."""
    return plug(shell_v2=request.param)


@pytest.fixture
def phone(plug: Plug) -> Phone:
    """A phone."""
    return plug()


@pytest.fixture
def runner(tmp_path: Path) -> Path:
    """The program to put on phones."""
    path = tmp_path / "executor_runner"
    path.write_text(RUNNER)
    return path


@pytest.fixture
def model_file(tmp_path: Path) -> ModelFile:
    """A file that no runner of these tests looks into."""
    path = tmp_path / "fb.pte"
    path.write_bytes(bytes(range(256)) * 500)
    return ModelFile(path=path, name="fbnet_c", target="executorch", precision="fp32", backend="xnnpack")


@pytest.fixture
def device(phone: Phone, runner: Path) -> Iterator[AndroidDevice]:
    """What measures on the phone."""
    with device_of(phone, runner) as device:
        yield device


def device_of(phone: Phone, runner: Path, limits: Limits = FAST) -> AndroidDevice:
    """Return what measures on a phone."""
    return AndroidDevice(Link(Server(), phone.serial, reconnect_s=PATIENCE_S), runner=runner, limits=limits)


def eventually(holds: Callable[[], bool]) -> bool:
    """Wait until something holds that happens on the phone without us."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)
    return holds()


def iterations(case: str) -> tuple[float, ...]:
    """Return the times of a captured output, ms."""
    log = "".join(CAPTURES[case]["stderr"])
    return tuple(float(number) for number in re.findall(r"Iteration \d+ of \d+: ([\d.]+) ms", log))


def connect(phone: Phone) -> None:
    """Let adb connect until it says so; a silent phone would keep its command waiting, so nobody waits for that."""
    asking = None
    while Server().states().get(phone.serial) != STATES[phone.access]:
        if asking is None or asking.poll() is not None:  # again: adb opens no connection while it closes another
            asking = subprocess.Popen(["adb", "connect", phone.serial], stdout=subprocess.DEVNULL)
    if asking:
        asking.kill()
        asking.wait()


def replug(phone: Phone) -> None:
    """Connect a phone again, as plugging in its cable does."""
    adb("disconnect", phone.serial)
    connect(phone)


def adb(*arguments: str) -> str:
    return subprocess.run(
        ["adb", *arguments], check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=PATIENCE_S
    ).stdout
