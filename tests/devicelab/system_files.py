"""What an Arm device shows of itself in ``/proc`` and ``/sys``, for programs that run under an emulator.

Programs choose their code by these files: with those of the machine that emulates, runtimes crash or go wrong.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Processor:
    """A processor as Linux describes it.

    Attributes:
        emulated_as: The emulator's name for it.
        part: The core's number in ``/proc/cpuinfo``.
        features: What its cores can do.
        cores: How many there are.
        min_khz: The lowest clock.
        max_khz: The highest clock.
        architecture: The version of Arm's architecture that the kernel runs it in.
        revision: The core's revision.
    """

    emulated_as: str
    part: str
    features: str
    cores: int
    min_khz: int
    max_khz: int
    architecture: int = 8
    revision: int = 3

    def cpuinfo(self, board: str = "") -> str:
        """``/proc/cpuinfo``, with the lines about the board that some kernels add."""
        # Only 32-bit kernels name the model.
        model = f"model name\t: ARMv7 Processor rev {self.revision} (v7l)\n" if self.architecture == 7 else ""
        core = (
            f"{model}BogoMIPS\t: 108.00\nFeatures\t: {self.features}\nCPU implementer\t: 0x41\n"
            f"CPU architecture: {self.architecture}\nCPU variant\t: 0x0\nCPU part\t: {self.part}\n"
            f"CPU revision\t: {self.revision}\n\n"
        )
        return "".join(f"processor\t: {number}\n{core}" for number in range(self.cores)) + board


# Neither dot products nor LSE atomics: what runtimes must do without on a Pi 4.
CORTEX_A72 = Processor("cortex-a72", "0xd08", "fp asimd evtstrm crc32 cpuid", 4, 600_000, 1_800_000)
# A 64-bit core under a 32-bit kernel. The emulator of 32-bit programs has no such core: the nearest stands in.
CORTEX_A53_32_BIT = Processor(
    "cortex-a7",
    "0xd03",
    "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm crc32",
    4,
    600_000,
    1_000_000,
    architecture=7,
    revision=4,
)
CORTEX_A76 = Processor(
    "cortex-a76",
    "0xd0b",
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
    4,
    500_000,
    2_400_000,
)


def meminfo(total_kib: int, available_kib: int) -> str:
    """``/proc/meminfo``."""
    rows = {
        "MemTotal": total_kib,
        "MemFree": available_kib // 2,
        "MemAvailable": available_kib,
        "Buffers": 40_000,
        "Cached": available_kib // 3,
        "SwapCached": 0,
        "SwapTotal": 102_396,
        "SwapFree": 102_396,
    }
    return "".join(f"{name + ':':<16}{value:>8} kB\n" for name, value in rows.items())


def write_sys(root: Path, processor: Processor) -> None:
    """Write the processor's and the sensor's files below ``/sys``: cool, at full clock, governor "ondemand"."""
    cpu = root / "sys/devices/system/cpu"
    cores = f"0-{processor.cores - 1}"
    policy = "cpufreq/policy0"
    files = {
        "present": cores,
        "possible": cores,
        "online": cores,
        f"{policy}/affected_cpus": " ".join(map(str, range(processor.cores))),
        f"{policy}/cpuinfo_min_freq": str(processor.min_khz),
        f"{policy}/cpuinfo_max_freq": str(processor.max_khz),
        f"{policy}/scaling_min_freq": str(processor.min_khz),
        f"{policy}/scaling_max_freq": str(processor.max_khz),
        f"{policy}/scaling_available_governors": "conservative ondemand userspace powersave performance",
        f"{policy}/scaling_driver": "cpufreq-dt",
    }
    for number in range(processor.cores):
        files |= {
            f"cpu{number}/topology/core_id": str(number),
            f"cpu{number}/topology/physical_package_id": "0",
            f"cpu{number}/topology/core_siblings_list": cores,
            f"cpu{number}/topology/thread_siblings_list": str(number),
        }
        if processor.architecture > 7:
            midr = f"0x00000000410f{processor.part[2:]}{processor.revision}"
            files[f"cpu{number}/regs/identification/midr_el1"] = midr
    for name, text in files.items():
        (cpu / name).parent.mkdir(parents=True, exist_ok=True)
        (cpu / name).write_text(f"{text}\n", encoding="ascii")
    for number in range(processor.cores):
        link = cpu / f"cpu{number}/cpufreq"
        link.unlink(missing_ok=True)
        link.symlink_to(f"../{policy}")
    zone = root / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True, exist_ok=True)
    (zone / "type").write_text("cpu-thermal\n", encoding="ascii")
    set_temperature(root, 48.3)
    set_frequency(root, processor.max_khz)
    set_governor(root, "ondemand")


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


def write_program(root: Path, name: str, text: str) -> None:
    """Put a shell script into ``/usr/bin`` of a device."""
    program = root / "usr/bin" / name
    program.write_text(text, encoding="ascii")
    program.chmod(0o755)
