"""What a Raspberry Pi 4 shows of itself: files of ``/proc`` and ``/sys``, and a ``vcgencmd`` that reads them.

Programs choose their code by these files: with those of the machine that emulates, runtimes crash or go wrong.
"""

from pathlib import Path

MODEL = "Raspberry Pi 4 Model B Rev 1.5"
CORES = 4
MIN_KHZ, MAX_KHZ = 600_000, 1_800_000
_MEMORY_KIB = 3_885_428
THROTTLED_FILE = "var/lib/vcgencmd/throttled"

_VCGENCMD = f"""#!/bin/sh
# Answers as the Pi's firmware does, from files that tests write.
sys=/sys/devices/system/cpu/cpufreq/policy0
case "$1 $2" in
    "get_throttled "*) echo "throttled=$(cat /{THROTTLED_FILE})" ;;
    "measure_temp "*) read -r t </sys/class/thermal/thermal_zone0/temp
        echo "temp=$((t / 1000)).$((t % 1000 / 100))'C" ;;
    "measure_clock arm") read -r khz <$sys/scaling_cur_freq; echo "frequency(48)=${{khz}}000" ;;
    "measure_volts "*) echo "volt=0.8500V" ;;
    "get_mem arm") echo "arm=948M" ;;
    *) echo 'error=1 error_msg="Command not registered"'; exit 255 ;;
esac
"""


def cpuinfo() -> str:
    """``/proc/cpuinfo`` of a Cortex-A72: without dot products and without LSE atomics."""
    core = (
        "processor\t: {}\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\n"
        "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\n"
    )
    board = f"Revision\t: c03115\nSerial\t\t: 10000000abcdef01\nModel\t\t: {MODEL}\n"
    return "".join(core.format(number) for number in range(CORES)) + board


def meminfo(available_kib: int = 3_500_000) -> str:
    """``/proc/meminfo`` of a Pi with 4 GB."""
    rows = {
        "MemTotal": _MEMORY_KIB,
        "MemFree": available_kib // 2,
        "MemAvailable": available_kib,
        "Buffers": 40_000,
        "Cached": available_kib // 3,
        "SwapCached": 0,
        "SwapTotal": 102_396,
        "SwapFree": 102_396,
    }
    return "".join(f"{name + ':':<16}{value:>8} kB\n" for name, value in rows.items())


def write_sys(root: Path) -> None:
    """Write ``/sys`` and ``vcgencmd`` into a root, at rest: cool, at full clock, nothing throttled."""
    cpu = root / "sys/devices/system/cpu"
    files = dict.fromkeys(("present", "possible", "online"), f"0-{CORES - 1}")
    for number in range(CORES):
        topology = f"cpu{number}/topology"
        files |= {
            f"{topology}/core_id": str(number),
            f"{topology}/physical_package_id": "0",
            f"{topology}/core_siblings_list": f"0-{CORES - 1}",
            f"{topology}/thread_siblings_list": str(number),
            f"cpu{number}/regs/identification/midr_el1": "0x00000000410fd083",
        }
    files |= {
        "cpufreq/policy0/affected_cpus": " ".join(map(str, range(CORES))),
        "cpufreq/policy0/cpuinfo_min_freq": str(MIN_KHZ),
        "cpufreq/policy0/cpuinfo_max_freq": str(MAX_KHZ),
        "cpufreq/policy0/scaling_min_freq": str(MIN_KHZ),
        "cpufreq/policy0/scaling_max_freq": str(MAX_KHZ),
        "cpufreq/policy0/scaling_available_governors": "conservative ondemand userspace powersave performance",
        "cpufreq/policy0/scaling_driver": "cpufreq-dt",
    }
    for name, text in files.items():
        (cpu / name).parent.mkdir(parents=True, exist_ok=True)
        (cpu / name).write_text(f"{text}\n", encoding="ascii")
    for number in range(CORES):
        link = cpu / f"cpu{number}/cpufreq"
        link.unlink(missing_ok=True)
        link.symlink_to("../cpufreq/policy0")
    zone = root / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True, exist_ok=True)
    (zone / "type").write_text("cpu-thermal\n", encoding="ascii")
    base = root / "sys/firmware/devicetree/base"
    base.mkdir(parents=True, exist_ok=True)
    (base / "model").write_bytes(MODEL.encode() + b"\0")
    (base / "compatible").write_bytes(b"raspberrypi,4-model-b\0brcm,bcm2711\0")
    (root / THROTTLED_FILE).parent.mkdir(parents=True, exist_ok=True)
    vcgencmd = root / "usr/bin/vcgencmd"
    vcgencmd.write_text(_VCGENCMD, encoding="ascii")
    vcgencmd.chmod(0o755)
    set_temperature(root, 48.3)
    set_frequency(root, MAX_KHZ)
    set_governor(root, "ondemand")
    set_throttled(root, 0)


def set_temperature(root: Path, celsius: float) -> None:
    """Change what the SoC's sensor shows."""
    (root / "sys/class/thermal/thermal_zone0/temp").write_text(f"{round(celsius * 1000)}\n", encoding="ascii")


def set_frequency(root: Path, khz: int) -> None:
    """Change the clock that all cores show."""
    policy = root / "sys/devices/system/cpu/cpufreq/policy0"
    for name in ("scaling_cur_freq", "cpuinfo_cur_freq"):
        (policy / name).write_text(f"{khz}\n", encoding="ascii")


def set_governor(root: Path, name: str) -> None:
    """Change the governor that all cores show."""
    file = root / "sys/devices/system/cpu/cpufreq/policy0/scaling_governor"
    file.write_text(f"{name}\n", encoding="ascii")


def set_throttled(root: Path, bits: int) -> None:
    """Change what ``vcgencmd get_throttled`` says: bits 0 to 3 are now, 16 to 19 since the start."""
    (root / THROTTLED_FILE).write_text(f"{bits:#x}\n", encoding="ascii")
