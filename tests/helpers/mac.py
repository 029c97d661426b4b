"""A Mac of the sandbox kind: the programs of macOS and Xcode as scripts on the PATH, and an iPhone behind `devicectl`.

What they print is in the layout of the real ones (macOS 15, Xcode 16). coremltools, which talks to the iPhone through
`devicectl`, is the real one; the iPhone answers what coremltools' app would (`remote_device.py` of coremltools 9.0).
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from fbnet_zoo._require import require
from fbnet_zoo.benchmarks.devices.command import Output, run_program
from fbnet_zoo.benchmarks.measure import ModelFile
from fbnet_zoo.benchmarks.runtimes import run_coreml
from tests.helpers.mil_packages import save_built
from tests.helpers.surroundings import PATIENCE_S

UDID = "00008130-0002058401E8001C"
TEAM = "AB12CD34EF"

PROGRAMS = {
    "sw_vers": "printf 'ProductName:\\t\\tmacOS\\nProductVersion:\\t\\t15.5\\nBuildVersion:\\t\\t24F74\\n'",
    "sysctl": """case $* in
"-n vm.loadavg") echo '{ 1.52 1.70 1.80 }' ;;
*) printf 'hw.model: Mac14,2\\nmachdep.cpu.brand_string: Apple M2\\nhw.ncpu: 8\\nhw.memsize: 17179869184\\n'
   printf 'hw.optional.arm64: 1\\n' ;;
esac""",
    "ioreg": """printf '  | {\\n  |   "IOPlatformUUID" = "7C5E0D5A-0000-4D7B-9A51-6B1F3B2F0A11"\\n'""",
    "pmset": """case $2 in
batt) printf "Now drawing from 'AC Power'\\n -InternalBattery-0 (id=24182883)\\t87%%; charging; 0:41 remaining\\n" ;;
therm)
    limit=$(head -n 1 "$MAC/speed")  # percent, one line per question, the last one stays
    [ "$(wc -l < "$MAC/speed")" -gt 1 ] && sed -i 1d "$MAC/speed"
    printf 'Note: No thermal warning level has been recorded\\nNote: No performance warning level has been recorded\\n'
    printf 'CPU Power notify\\n\\tCPU_Scheduler_Limit \\t= 100\\n\\tCPU_Speed_Limit \\t= %s\\n' "$limit" ;;
esac""",
    "xcodebuild": """[ "$1" = -version ] && { printf 'Xcode 16.4\\nBuild version 16F6\\n'; exit; }
echo "$*" >> "$MAC/builds"
for word in "$@"; do case $word in SYMROOT=*) mkdir -p "${word#SYMROOT=}/Release-iphoneos/modelrunner.app" ;; esac; done
[ ! -f "$MAC/no_profile" ]""",
    "xcrun": """[ "$1" = --find ] && { echo "/Applications/Xcode.app/Contents/Developer/usr/bin/$2"; exit; }
exec "$@\"""",
}

DEVICECTL = """
import json, os, shutil, sys, time
from pathlib import Path
mac, words = Path(os.environ["MAC"]), sys.argv[1:]
option = lambda name: next((w.split("=", 1)[1] if "=" in w else words[i + 1] for i, w in enumerate(words)
                            if w == name or w.startswith(name + "=")), None)
out = option("--json-output") or option("-j")
with (mac / "calls").open("a") as log:
    print(" ".join(words[:3]), file=log)

def answer(message):
    reply = {"id": message["id"], "result": {"modelID": message["params"]["modelID"]}}
    if (mac / "refuses").exists():
        reply = {"id": message["id"], "error": {"code": -32000, "message": (mac / "refuses").read_text()}}
    folder = mac / "container/Documents/modelrunnerd/responses" / message["id"]
    folder.mkdir(parents=True)
    if message["method"].endswith("Prediction") and "result" in reply:
        (folder / "out.bin").write_bytes(bytes(16))
        storage = {"offset": 0, "size": 16}
        output = {"shape": [1, 4], "strides": [4, 1], "dataType": "Float32", "storage": storage}
        reply["result"]["outputs"] = {"logits": output}
        reply["resource"] = "out.bin"
    if message["method"].rpartition(".")[2] in ("Prediction", "Load") and "result" in reply:
        duration, *later = json.loads((mac / "durations_ns").read_text())
        reply["result"]["duration"] = duration
        (mac / "durations_ns").write_text(json.dumps(later))
    (folder / "message.json").write_text(json.dumps(reply))

def copy(source, destination):
    if not source.exists():
        sys.exit("ERROR: there is no " + str(source))
    destination.parent.mkdir(parents=True, exist_ok=True)
    (shutil.copytree if source.is_dir() else shutil.copy)(source, destination)

result = {}
if words[:2] == ["list", "devices"]:
    result = {"devices": json.loads((mac / "devices.json").read_text())}
elif words[:3] == ["device", "info", "lockState"]:
    if (mac / "silent").exists():
        sys.exit("ERROR: The device was not, or could not be, unlocked. (com.apple.mobiledevice error -402653181)")
    result = {"passcodeRequired": (mac / "locked").exists(), "unlockedSinceBoot": True}
elif words[:3] == ["device", "install", "app"]:
    (mac / "app").touch()
    result = {"installedApplications": [{"bundleID": "com.coremltools.modelrunnerd", "databaseUUID": "0"}]}
elif words[:3] == ["device", "uninstall", "app"]:
    (mac / "app").unlink()
elif words[:3] == ["device", "process", "launch"]:
    parent = os.getppid()  # whose end is ours, where the shell has not become us
    while os.getppid() == parent:
        time.sleep(0.02)
elif words[:3] == ["device", "copy", "to"]:
    if (mac / "unplugs").exists():
        (mac / "devices.json").write_text("[]")
        sys.exit("ERROR: the connection was interrupted")
    destination = mac / "container" / option("--destination")
    copy(Path(option("--source")), destination)
    if destination.name == "message.json":
        answer(json.loads(destination.read_text()))
    result = {"source": option("--source"), "destination": option("--destination")}
elif words[:3] == ["device", "copy", "from"]:
    copy(mac / "container" / option("--source"), Path(option("--destination")))
    result = {"source": option("--source"), "destination": option("--destination")}
if out:
    Path(out).write_text(json.dumps({"info": {"outcome": "success"}, "result": result}))
"""


class Mac:
    """What the programs read and leave, in one folder."""

    def __init__(self, root: Path) -> None:
        self.root, self.programs = root, root / "bin"
        for name, text in PROGRAMS.items():
            self.write(f"bin/{name}", f"#!/bin/sh\n{text}\n").chmod(0o755)
        self.write("bin/devicectl", f"#!{sys.executable} -SE\n{DEVICECTL}").chmod(0o755)
        self.write("speed", "100\n")
        self.connect(iphone())
        (root / "modelrunner/ModelRunner.xcworkspace").mkdir(parents=True)

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def lines(self, name: str) -> list[str]:
        path = self.root / name
        return path.read_text().splitlines() if path.exists() else []

    def connect(self, *devices: dict[str, Any]) -> None:
        self.write("devices.json", json.dumps(devices))

    def has_app(self) -> bool:
        return (self.root / "app").exists()


def iphone(name: str = "Ada's iPhone", udid: str = UDID, **changes: Any) -> dict[str, Any]:
    """Return a phone as `devicectl` tells of it, with some facts changed."""
    told: dict[str, dict[str, Any]] = {
        "connectionProperties": {"pairingState": "paired", "transportType": "wired", "tunnelState": "connected"},
        "deviceProperties": {
            "developerModeStatus": "enabled",
            "name": name,
            "osBuildUpdate": "22G86",
            "osVersionNumber": "18.6",
        },
        "hardwareProperties": {
            "cpuType": {"name": "arm64e", "subType": 2, "type": 16777228},
            "deviceType": "iPhone",
            "hardwareModel": "D83AP",
            "marketingName": "iPhone 15 Pro",
            "platform": "iOS",
            "productType": "iPhone16,1",
            "reality": "physical",
            "udid": udid,
        },
    }
    for part in told.values():
        part.update({key: value for key, value in changes.items() if key in part})
    return {**told, "identifier": f"id-{udid}"}


@pytest.fixture
def mac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mac:
    """The programs are on the PATH, and nothing else is set."""
    mac = Mac(tmp_path / "mac")
    monkeypatch.setenv("PATH", f"{mac.programs}:/usr/bin:/bin")
    monkeypatch.setenv("MAC", str(mac.root))
    monkeypatch.delenv("FBNET_ZOO_APPLE_TEAM", raising=False)
    return mac


def run_here(command: Sequence[str], timeout_s: float) -> Output:
    """Run programs as they are, but the process of Core ML in this one, where coremltools' edges can be replaced."""
    if command[1:3] != ["-m", run_coreml.__name__]:
        return run_program(command, timeout_s)
    run_coreml.main(Path(command[3]), Path(command[4]))
    return Output(exit_code=0, stdout=b"", stderr=b"")


@pytest.fixture(scope="session")
def tiny_package(tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    """A small Core ML file with four outputs."""
    path = tmp_path_factory.mktemp("package") / "net.mlpackage"
    save_built(path, lambda mb, x: mb.relu(x=mb.add(x=x, y=1.0), name="logits"), shape=(1, 4))
    return ModelFile(path=path, name="net", target="coreml", precision="fp32")


@pytest.fixture
def phone_edges(mac: Mac) -> Iterator[None]:
    """Replace what coremltools cannot do on Linux: compile a model, and find its app's source (not in its wheel)."""
    wrapper = require("coremltools.models.ml_program.experimental.async_wrapper", extra="coreml")
    remote = require("coremltools.models.ml_program.experimental.remote_device", extra="coreml")

    def compile_model(model: str, destination_path: str | None = None) -> str:
        assert destination_path
        Path(destination_path).mkdir()
        return destination_path

    started: list[subprocess.Popen[bytes]] = []
    start = remote._DeviceCtl._run_command_async

    def start_and_remember(command: str) -> subprocess.Popen[bytes]:
        started.append(start(command))
        return started[-1]

    control, project = remote._DeviceCtl, mac.root / "modelrunner"
    with ExitStack() as stack:
        replace = stack.enter_context
        replace(mock.patch.object(wrapper, "compile_model", side_effect=compile_model, autospec=True))
        replace(mock.patch.object(remote._ModelRunnerAppBuilder, "_get_project_path", return_value=project))
        replace(mock.patch.object(control, "_validation_done", False))
        replace(mock.patch.object(control, "_run_command_async", side_effect=start_and_remember))
        yield
    for process in started:  # coremltools leaves their pipes open; its process ends soon, this one does not
        process.communicate(timeout=PATIENCE_S)
