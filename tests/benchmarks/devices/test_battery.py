"""Energy of a phone by its battery, through the real adb: what the kernel reports is in files of the phone."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fbnet_zoo.benchmarks.devices.android import AndroidDevice
from fbnet_zoo.benchmarks.devices.battery import find_gauge, power_mw
from fbnet_zoo.benchmarks.measure import ModelFile
from fbnet_zoo.errors import EnergyUnavailableError
from tests.helpers.phone import FAST, Phone, device_of, iterations

SUPPLY = "sys/class/power_supply"
BATTERY = f"{SUPPLY}/bms"

DISCHARGING = """AC powered: false
  USB powered: false
  Wireless powered: false
  status: 3
  voltage: 3900
"""

CAT = """#!/bin/sh
# the battery of a running model, or of the phone alone, with a last digit that moves
for file in "$@"; do
    case $file in
    */current_now)
        [ -f "$SANDBOX/meter" ] && . "$SANDBOX/meter"
        echo "${current:-$(/bin/cat "$file")}" ;;
    *) /bin/cat "$file" ;;
    esac
done
"""

METER = """
count=$(/bin/cat "$SANDBOX/count"); count=$((1 - count)); echo $count > "$SANDBOX/count"
current=-$((100000 + count))
[ -f "$SANDBOX/running" ] && current=-$((600000 + count))
"""
"""100 mA, and 600 mA while the model runs."""

READ = (
    'file="$SANDBOX/data/local/tmp/fbnet_zoo/power"; : > "$file"; '
    'until [ "$(wc -l < "$file")" -ge 14 ]; do /bin/sleep 0.02; done'
)
"""Takes until the battery was read often enough, on a machine with other things to do."""

SLEEP = f"""#!/bin/sh
[ "$1" = 0.5 ] || exec /bin/sleep "$1"
{READ}
"""


@pytest.fixture
def unplugged(phone: Phone) -> Phone:
    """A phone that discharges at 4 V."""
    phone.replay("x86_64/fb_10")
    fields = {"type": "Battery", "status": "Discharging", "current_now": "-100000", "voltage_now": "4000000"}
    for name, value in fields.items():
        phone.write(f"{BATTERY}/{name}", f"{value}\n")
    for name, value in {"type": "USB", "online": "0"}.items():
        phone.write(f"{SUPPLY}/usb/{name}", f"{value}\n")
    phone.write("battery", DISCHARGING)
    programs = phone.root / "bin"
    own = (programs / "dumpsys").read_text()
    (programs / "dumpsys").write_text(own.replace("battery)\n", 'battery) cat "$SANDBOX/battery"; exit ;;\nnever)\n'))
    phone.write("bin/cat", CAT).chmod(0o755)
    phone.write("meter", METER)
    phone.write("count", "0\n")
    phone.write("bin/sleep", SLEEP).chmod(0o755)
    phone.write("meanwhile", f'touch "$SANDBOX/running"; {READ}')
    return phone


@pytest.fixture
def meter_device(unplugged: Phone, runner: Path) -> Iterator[AndroidDevice]:
    """What measures on the phone, without waiting."""
    with device_of(unplugged, runner, replace(FAST, metered_s=0.5, meter_poll_s=0.01)) as device:
        yield device


def test_the_energy_of_a_run_is_its_power_above_the_idle_phone(
    unplugged: Phone, meter_device: AndroidDevice, model_file: ModelFile
) -> None:
    """The runner replays ten runs: at 0.5 A above the idle phone and 4 V, 2 W for as long as one of them took."""
    meter = meter_device.energy_meter()
    assert meter.source == "battery: /sys/class/power_supply/bms"
    found = meter.measure(model_file, run_ms=50.0)
    times = iterations("x86_64/fb_10")
    assert (found.runs, found.source) == (10, meter.source)
    assert found.idle_mw == pytest.approx(400, rel=1e-3)
    assert found.seconds == pytest.approx(sum(times) / 1000, rel=0.01)
    assert found.mj == pytest.approx(2_000 * found.seconds / 10, rel=0.02)
    assert "--num_executions=10" in unplugged.lines("runs")[-1]
    assert unplugged.lines("forced_idle") == ["false"]
    meter_device.cleanup()
    assert unplugged.files == []


@pytest.mark.parametrize(
    ("path", "text", "told"),
    [
        ("battery", DISCHARGING.replace("USB powered: false", "USB powered: true"), "while the device is plugged in"),
        ("battery", DISCHARGING.replace("status: 3", "status: 2"), "while the device is plugged in"),
        (
            f"{SUPPLY}/usb/online",
            "1\n",
            "while the device is plugged in, as the charger supplies it; connect over Wi-Fi",
        ),
        (f"{BATTERY}/status", "Charging\n", "while the device is plugged in"),
        (f"{BATTERY}/status", "Full\n", "while the device is plugged in"),
        (
            "battery",
            f"  (UPDATES STOPPED -- use 'reset' to restart)\n{DISCHARGING}",
            "that was set by hand; run 'adb -s",
        ),
        (f"{BATTERY}/voltage_now", "", "the device does not let adb read the current of its battery"),
    ],
)
def test_a_phone_whose_battery_says_nothing_is_refused(
    unplugged: Phone, meter_device: AndroidDevice, path: str, text: str, told: str
) -> None:
    unplugged.write(path, text)
    with pytest.raises(EnergyUnavailableError, match=rf"{unplugged.serial}: the energy is not known.*{told}"):
        meter_device.energy_meter()
    assert unplugged.files == [], "nothing was put on it"


def test_a_phone_that_is_plugged_in_meanwhile_gives_no_figure(
    unplugged: Phone, meter_device: AndroidDevice, model_file: ModelFile
) -> None:
    meter = meter_device.energy_meter()
    unplugged.write("meanwhile", f'touch "$SANDBOX/running"; {READ}; echo 1 > "$SANDBOX/{SUPPLY}/usb/online"')
    with pytest.raises(EnergyUnavailableError, match="while the device is plugged in"):
        meter.measure(model_file, run_ms=50.0)
    assert unplugged.files == []


def test_phones_that_hide_the_current_tell_it_through_the_battery_service(
    unplugged: Phone, meter_device: AndroidDevice, model_file: ModelFile
) -> None:
    for hidden in (f"{BATTERY}/current_now", "meter"):
        (unplugged.root / hidden).unlink()
    unplugged.write("bin/cmd", f'#!/bin/sh\n{METER}\necho "$current"\n').chmod(0o755)
    meter = meter_device.energy_meter()
    assert meter.source == "battery: battery service"
    found = meter.measure(model_file, run_ms=50.0)
    assert found.idle_mw == pytest.approx(390, rel=1e-3)
    assert found.mj == pytest.approx(0.5 * 3900 * found.seconds / 10, rel=0.02)


@pytest.mark.parametrize(
    ("readings", "told"),
    [
        (["-400 4000000", "-401 4000000"] * 6, "reports 400 uA, which is not plausible; its unit may be another"),
        (["-400000 4000000"] * 12, "stood still at -400000 uA in 9 readings, so it is not updated"),
        (["-400000 4000000", "300000 4000000"] * 6, "changed the direction of its current"),
        (["-400000 4000", "-400001 4000"] * 6, "reports 4000 uV, which is not plausible"),
        (["-400000 4000000", "-400001 4000000"] * 4, "was read only 8 times"),
        (["-400000", "no such file", " "] * 8, "was read only 0 times"),
    ],
)
def test_readings_that_are_no_measurement_are_refused(readings: list[str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        power_mw("\n".join(readings), least_ua=5_000)


def test_the_readings_at_both_ends_do_not_count_and_the_sign_of_the_current_is_the_devices_own() -> None:
    lines = ["900000 4000000"] * 3 + ["200000 4000000", "300000 4000000"] * 6 + ["10 4000000"]
    assert power_mw("\n".join(lines)) == power_mw("\n".join(f"-{line}" for line in lines)) == pytest.approx(1_000)


def test_a_device_without_a_battery_says_so() -> None:
    with pytest.raises(EnergyUnavailableError, match="0123: the energy is not known: the device does not let adb read"):
        find_gauge("", "0123")
