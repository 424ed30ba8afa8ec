"""What the files and programs of a device say, read into numbers; None is what they do not tell."""

import re
from dataclasses import dataclass

# Bits of vcgencmd get_throttled; 16 higher stands for "since the start of the device".
_FLAGS = {0: "under_voltage", 1: "frequency_capped", 2: "throttled", 3: "soft_temperature_limit"}
_SINCE_START = 16
# Sensors of the processor among those of a whole machine.
_CPU_SENSORS = re.compile(r"cpu|soc|x86_pkg|coretemp|k10temp|zenpower|tsens|big|little", re.IGNORECASE)
# Kinds of sensors in Android's hardware abstraction layer.
_CPU, _SKIN = "0", "3"
_PLAUSIBLE_C = (-40.0, 150.0)


@dataclass(frozen=True)
class Memory:
    """The working memory of a device, in bytes."""

    total_bytes: int | None = None
    available_bytes: int | None = None
    swap_bytes: int | None = None


def memory(meminfo: str) -> Memory:
    """From ``/proc/meminfo``."""
    found = {name: int(kib) * 1024 for name, kib in re.findall(r"^(\w+):\s+(\d+) kB", meminfo, re.MULTILINE)}
    return Memory(found.get("MemTotal"), found.get("MemAvailable"), found.get("SwapTotal"))


@dataclass(frozen=True)
class Libc:
    """The C library of a device's programs: glibc, musl or bionic, and its version."""

    kind: str
    version: str | None = None

    def __str__(self) -> str:
        return f"{self.kind} {self.version}" if self.version else self.kind

    @property
    def number(self) -> tuple[int, int] | None:
        """The version to compare with: (2, 36)."""
        found = re.match(r"(\d+)\.(\d+)", self.version or "")
        return (int(found[1]), int(found[2])) if found else None


def libc(text: str) -> Libc | None:
    """From what ``getconf GNU_LIBC_VERSION``, ``ldd --version`` and the library itself print."""
    if re.search(r"^bionic$", text, re.MULTILINE):
        return Libc("bionic")
    # Systems with musl may have a layer that looks like glibc besides, so musl is asked for first.
    if re.search(r"^musl libc", text, re.MULTILINE):
        version = re.search(r"^Version (\d[\w.]*)", text, re.MULTILINE)
        return Libc("musl", version[1] if version else None)
    for pattern in (
        r"^glibc (\d+\.\d+)",
        r"^ldd \(.*\) (\d+\.\d+)",
        r"^GNU C Library .*version (\d+\.\d+)",
    ):
        if found := re.search(pattern, text, re.MULTILINE):
            return Libc("glibc", found[1])
    return None


def os_name(os_release: str) -> str | None:
    """The system's name from ``os-release``: ``Debian GNU/Linux 12 (bookworm)``."""
    rows = dict(re.findall(r"""^(\w+)=["']?(.*?)["']?$""", os_release, re.MULTILINE))
    return rows.get("PRETTY_NAME") or rows.get("NAME")


def free_disk(df: str) -> tuple[int | None, str | None]:
    """Free bytes, and where the disk is mounted, from the last line of ``df -Pk``."""
    # Names of disks and of mounts may hold spaces.
    found = re.search(r"\s(\d+)\s+(\d+)\s+(-?\d+)\s+\d+%\s+(/.*)$", df)
    return (max(0, int(found[3])) * 1024, found[4].strip()) if found else (None, None)


@dataclass(frozen=True)
class Clocks:
    """How the processor is clocked.

    ``now_mhz`` is the clock of the core that is fastest now. Of the fastest kind of cores, ``limited_mhz`` is the
    highest clock that is allowed, and ``max_mhz`` the highest that the hardware has.
    """

    governors: tuple[str, ...] = ()
    drivers: tuple[str, ...] = ()
    now_mhz: float | None = None
    limited_mhz: float | None = None
    max_mhz: float | None = None


def clocks(lines: str, cpuinfo: str = "") -> Clocks:
    """From lines ``governor|driver|now|limit|maximum|cores``, clocks in kHz, one for each group of cores."""
    rows = [line.split("|") for line in lines.splitlines() if line.count("|") >= 5]
    now = [_mhz(row[2]) for row in rows if row[2].isdigit()]
    if not now:
        now = [float(text) for text in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", cpuinfo, re.MULTILINE)]
    limits = [(_mhz(row[4]), _mhz(row[3])) for row in rows if row[3].isdigit() and row[4].isdigit()]
    max_mhz, limited_mhz = max(limits, default=(None, None))
    return Clocks(_distinct(rows, 0), _distinct(rows, 1), max(now, default=None), limited_mhz, max_mhz)


def _mhz(khz: str) -> float:
    return int(khz) / 1000


def _distinct(rows: list[list[str]], column: int) -> tuple[str, ...]:
    return tuple(dict.fromkeys(row[column] for row in rows if row[column]))


def temperature_c(zones: str, sensors: str = "") -> float | None:
    """The processor's temperature from lines ``name|millidegrees``: its hottest sensor.

    Sensors of other parts count only where the processor has none.
    """
    readings = []
    for line in [*zones.splitlines(), *sensors.splitlines()]:
        name, _, value = line.rpartition("|")
        if re.fullmatch(r"-?\d+", value) and _PLAUSIBLE_C[0] < int(value) / 1000 < _PLAUSIBLE_C[1]:
            readings.append((name, int(value) / 1000))
    of_processor = [celsius for name, celsius in readings if _CPU_SENSORS.search(name)]
    return max(of_processor or [celsius for _name, celsius in readings], default=None)


def throttle_flags(vcgencmd: str, sysfs: str = "") -> int | None:
    """The Raspberry Pi's flags from ``throttled=0x50005``, or from the kernel's file ``50005``."""
    found = re.search(r"throttled=0x([0-9a-fA-F]+)", vcgencmd) or re.fullmatch(
        r"([0-9a-fA-F]+)", sysfs.strip()
    )
    return int(found[1], 16) if found else None


def flag_names(flags: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the flags that are set now, and of those that were set since the start of the device."""
    now = tuple(name for bit, name in _FLAGS.items() if flags >> bit & 1)
    ever = tuple(name for bit, name in _FLAGS.items() if flags >> bit + _SINCE_START & 1)
    return now, ever


@dataclass(frozen=True)
class Battery:
    """The battery of a device; ``powered`` tells whether it has another source of power now."""

    level_pct: float | None = None
    temperature_c: float | None = None
    powered: bool | None = None


def android_battery(dumpsys: str) -> Battery | None:
    """From ``dumpsys battery``; None where there is none."""
    rows = dict(re.findall(r"^\s+([\w ]+): (.*?)\s*$", dumpsys, re.MULTILINE))
    if rows.get("present") != "true":
        return None
    powered = [value == "true" for name, value in rows.items() if name.endswith(" powered")]
    level, scale, tenths = (rows.get(name, "") for name in ("level", "scale", "temperature"))
    return Battery(
        100 * int(level) / int(scale) if level.isdigit() and scale.isdigit() and int(scale) else None,
        int(tenths) / 10 if re.fullmatch(r"-?\d+", tenths) else None,
        any(powered) if powered else None,
    )


def linux_battery(lines: str) -> Battery | None:
    """From lines ``type|scope|capacity|status|online|temperature`` of ``/sys/class/power_supply``."""
    rows = [line.split("|") for line in lines.splitlines() if line.count("|") >= 5]
    # A wireless mouse has a battery too, and its scope says whose it is.
    batteries = [row for row in rows if row[0] == "Battery" and row[1] != "Device"]
    if not batteries:
        return None
    _kind, _scope, level, status, _online, tenths = batteries[0][:6]
    mains = [row[4] == "1" for row in rows if row[0] in {"Mains", "USB"} and row[4]]
    return Battery(
        float(level) if level.isdigit() else None,
        int(tenths) / 10 if re.fullmatch(r"-?\d+", tenths) else None,
        any(mains) or status in {"Charging", "Full"} if mains or status else None,
    )


def thermal_status(dumpsys: str) -> int | None:
    """Android's thermal status from ``dumpsys thermalservice``: 0 none, 1 light, 3 severe, 6 shutdown."""
    found = re.search(r"^\s*Thermal Status:\s*(\d+)", dumpsys, re.MULTILINE)
    return int(found[1]) if found else None


def android_temperature_c(dumpsys: str) -> float | None:
    """The processor's temperature from ``dumpsys thermalservice``, or the case's where it does not tell that."""
    _cached, _, current = dumpsys.partition("Current temperatures from HAL:")
    readings = re.findall(r"Temperature\{mValue=(-?[\d.]+), mType=(\d+)", current or dumpsys)
    for kind in (_CPU, _SKIN):
        found = [float(celsius) for celsius, of in readings if of == kind]
        if found:
            return max(found)
    return None


def properties(lines: str) -> dict[str, str]:
    """Android's properties from lines ``name=value``, the empty ones left out."""
    pairs = (line.partition("=") for line in lines.splitlines())
    return {name: value.strip() for name, _, value in pairs if value.strip()}
