"""Everything that is read from the output of programs on phones and Macs: a valid output, and what reads it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fbnet_zoo.benchmarks.context import measurement
from fbnet_zoo.benchmarks.devices.adb import Server
from fbnet_zoo.benchmarks.devices.android_state import fast_cores, parse_info, parse_state
from fbnet_zoo.benchmarks.devices.apple_tools import Tools
from fbnet_zoo.benchmarks.devices.command import Output
from fbnet_zoo.benchmarks.measure import DeviceState, ModelFile
from fbnet_zoo.benchmarks.runtimes.executor_runner import parse
from fbnet_zoo.latency.device import DeviceInfo
from tests.helpers.paths import TINY

INFO = """\
[ro.product.model]: [Phone 9]
[ro.product.cpu.abilist]: [arm64-v8a,armeabi-v7a]
[ro.build.version.release]: [14]
== memory
MemTotal:        4194304 kB
== cores
8
"""
STATE = """\
== battery
  AC powered: false
  level: 83
  temperature: 315
== thermal
Thermal Status: 1
\tTemperature{mValue=33.5, mType=3, mName=skin, mStatus=0}
== memory
MemAvailable:    2097152 kB
== policy0
related_cpus: 0 1 2 3
scaling_governor: walt
cpuinfo_max_freq: 1804800
scaling_max_freq: 1804800
scaling_cur_freq: 300000
300000 1234
1804800 567
"""
LOG = """\
I 00:00:00.000647 executorch:executor_runner.cpp:624] Model loaded in 9.125 ms.
I 00:00:00.010647 executorch:executor_runner.cpp:700] Iteration 1 of 3: 12.500000 ms
I 00:00:00.020647 executorch:executor_runner.cpp:700] Iteration 2 of 3: 10.250000 ms
I 00:00:00.030647 executorch:executor_runner.cpp:700] Iteration 3 of 3: 10.125000 ms
I 00:00:00.040647 executorch:executor_runner.cpp:710] Model executed successfully 3 time(s) in 32.875000 ms.
"""
DEVICES = "List of devices attached\n0123456789ABCDEF\tdevice\n"
MAC = """\
ProductVersion: 15.5
BuildVersion: 24F74
hw.model: Mac14,2
hw.ncpu: 8
hw.memsize: 17179869184
Now drawing from 'AC Power'
 -InternalBattery-0 (id=24182883)\t87%; charging; 0:41 remaining
\tCPU_Scheduler_Limit \t= 100
\tCPU_Speed_Limit \t= 62
{ 1.52 1.70 1.80 }
Xcode 16.4
"""
PHONES = """\
{"result": {"devices": [{
 "hardwareProperties": {"udid": "00008130", "deviceType": "iPhone", "reality": "physical",
  "marketingName": "iPhone 15 Pro", "cpuType": {"name": "arm64e"}},
 "deviceProperties": {"name": "Ada's iPhone", "osVersionNumber": "18.6", "developerModeStatus": "enabled"},
 "connectionProperties": {"tunnelState": "connected", "pairingState": "paired"}}]}}
"""


def _state(text: str) -> object:
    state = parse_state(text)
    return fast_cores(state.policies, 2), state.model_dump_json()


def _log(text: str) -> object:
    """Read the log as that of a run that succeeded and, if it can be, record it."""
    output = parse(text, 0)
    model = ModelFile(path=TINY, name="tiny", target="executorch", precision="fp32")
    return measurement(
        model,
        DeviceState(),
        DeviceState(),
        runtime="executor_runner",
        device=DeviceInfo(kind="android", id="0"),
        threads=1,
        warmup=1,
        samples_ms=output.iterations_ms or (output.total_ms,),
        load_ms=output.load_ms,
    )


def _answering(text: str) -> Callable[[Sequence[str], float], Output]:
    """Return a function that runs every program with the same output, also in the file of `--json-output`."""

    def run(command: Sequence[str], _: float) -> Output:
        if "--json-output" in command:
            Path(command[-1]).write_text(text)
        return Output(exit_code=0, stdout=text.encode(), stderr=b"")

    return run


def _mac(text: str) -> Any:
    tools = Tools(_answering(text))
    return tools.mac(), tools.mac_state(), tools.xcode()


PRINTED: dict[str, tuple[str, Callable[[str], object]]] = {
    "getprop": (INFO, lambda text: parse_info(text, "serial")),
    "dumpsys": (STATE, _state),
    "executor_runner": (LOG, _log),
    "executor_runner that fails": (LOG, lambda text: parse(text, 1)),
    "adb devices": (DEVICES, lambda text: Server(run=_answering(text)).pick()),
    "programs of macOS": (MAC, _mac),
    "devicectl": (PHONES, lambda text: Tools(_answering(text)).iphones()),
}
"""Name of each program to a valid output, and what reads it."""
