"""What the facts of a device mean for whoever measures or deploys there, as findings."""

from collections.abc import Iterator

from edgekit.devices import probe_texts
from edgekit.devices.facts import DeviceFacts
from edgekit.findings import Finding, Level

# A runtime with numpy takes up to 200 MB there.
_LITTLE_BYTES = 256 << 20
_LOW_BATTERY_PCT = 30
_WRONG_CLOCK_S = 300
_DAY_S = 86400
_YEAR_S = 365.25 * _DAY_S
# These drivers call their ordinary, load-following governor "powersave".
_OWN_POWERSAVE = {"intel_pstate", "amd-pstate-epp"}
_THERMAL = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")


def findings(facts: DeviceFacts) -> tuple[Finding, ...]:
    """What the user should know before trusting numbers from a device, or sending it anything."""
    return (*_throttling(facts), *_clocks(facts), *_power(facts), *_thermal(facts), *_clock(facts),
            *_disk(facts), *_record(facts))  # fmt: skip


def _throttling(facts: DeviceFacts) -> Iterator[Finding]:
    now, ever = probe_texts.flag_names(facts.throttle_flags or 0)
    slowed = [name.replace("_", " ") for name in now if name != "under_voltage"]
    before = [name.replace("_", " ") for name in ever if name != "under_voltage"]
    cool = "Cool it, or measure after it has rested; what is measured now is too slow."
    if slowed:
        yield Finding("EK820", f"The device is slowed down right now: {', '.join(slowed)}.", cool)
    elif before:
        text = f"The device was slowed down since it was started: {', '.join(before)}."
        yield Finding("EK820", text, "Watch its temperature during long runs.", Level.NOTE)
    power = "Use the power supply made for the board, and a short cable."
    if "under_voltage" in now:
        yield Finding("EK821", "The device's supply voltage is too low right now.", power)
    elif "under_voltage" in ever:
        text = "The device's supply voltage was too low since it was started."
        yield Finding("EK821", text, power, Level.NOTE)


def _clocks(facts: DeviceFacts) -> Iterator[Finding]:
    clocks = facts.clocks
    if "powersave" in clocks.governors and not set(clocks.drivers) & _OWN_POWERSAVE:
        yield Finding(
            "EK822",
            "The governor powersave keeps the processor at its lowest clock.",
            "echo ondemand | sudo tee /sys/devices/system/cpu/cpufreq/policy*/scaling_governor",
        )
    if clocks.limited_mhz and clocks.max_mhz and clocks.limited_mhz < clocks.max_mhz:
        text = f"The clock is limited to {clocks.limited_mhz:,.0f} of {clocks.max_mhz:,.0f} MHz."
        yield Finding("EK822", text, "Something lowered scaling_max_freq: a power profile, or heat.")


def _power(facts: DeviceFacts) -> Iterator[Finding]:
    battery = facts.battery
    if facts.low_power_mode:
        yield Finding("EK823", "The device saves power.", "Switch off its battery saver, then measure.")
    level_pct = battery.level_pct if battery and not battery.powered else None
    if level_pct is not None and level_pct < _LOW_BATTERY_PCT:
        text = f"The battery is at {level_pct:.0f}% and not being charged."
        yield Finding("EK823", text, "Plug the device in: many slow down before they are empty.")


def _thermal(facts: DeviceFacts) -> Iterator[Finding]:
    status = facts.thermal_status or 0
    if status > 0:
        name = _THERMAL[min(status, len(_THERMAL) - 1)]
        text = f"Android reports the thermal status {name} ({status})."
        yield Finding("EK824", text, "Let the device cool down, then measure.")


def _clock(facts: DeviceFacts) -> Iterator[Finding]:
    skew_s = facts.clock_skew_s or 0.0
    if abs(skew_s) > _WRONG_CLOCK_S:
        text = f"The device's clock is {_duration(abs(skew_s))} {'ahead' if skew_s > 0 else 'behind'}."
        yield Finding("EK825", text, "Set it, for example: sudo timedatectl set-ntp true")


def _disk(facts: DeviceFacts) -> Iterator[Finding]:
    disk = facts.disk
    elsewhere = "Choose another place with edgekit device add --folder."
    if disk.free_bytes is not None and disk.free_bytes < _LITTLE_BYTES:
        text = f"Only {disk.free_bytes >> 20} MiB are free in {disk.path} on the device."
        yield Finding("EK826", text, f"Free some space there. {elsewhere}")
    reason = f": {disk.problem}" if disk.problem else ""
    if not disk.writable:
        yield Finding("EK827", f"{disk.path} on the device cannot be written{reason}.", elsewhere)
    elif not disk.executable:
        yield Finding("EK827", f"Programs cannot be run in {disk.path} on the device{reason}.", elsewhere)


def _record(facts: DeviceFacts) -> Iterator[Finding]:
    if facts.damaged_record:
        yield Finding("EK815", facts.damaged_record, "Set the runtime up again: edgekit device setup")


def _duration(seconds: float) -> str:
    for unit, length_s in (("years", _YEAR_S), ("days", _DAY_S), ("hours", 3600.0)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:,.0f} {unit}"
    return f"{seconds / 60:,.0f} minutes"
