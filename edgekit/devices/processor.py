"""The processor of a device, from its ``/proc/cpuinfo``: which cores, and which instructions matter to models."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

# Cores by the implementer and part of their MIDR register, as Arm's technical reference manuals and util-linux's
# lscpu name them.
_ARM, _NVIDIA, _QUALCOMM, _APPLE = "0x41", "0x4e", "0x51", "0x61"
_CORES = {
    (_ARM, "0xb76"): "ARM1176",
    (_ARM, "0xc05"): "Cortex-A5",
    (_ARM, "0xc07"): "Cortex-A7",
    (_ARM, "0xc08"): "Cortex-A8",
    (_ARM, "0xc09"): "Cortex-A9",
    (_ARM, "0xc0e"): "Cortex-A17",
    (_ARM, "0xc0f"): "Cortex-A15",
    (_ARM, "0xd01"): "Cortex-A32",
    (_ARM, "0xd02"): "Cortex-A34",
    (_ARM, "0xd03"): "Cortex-A53",
    (_ARM, "0xd04"): "Cortex-A35",
    (_ARM, "0xd05"): "Cortex-A55",
    (_ARM, "0xd06"): "Cortex-A65",
    (_ARM, "0xd07"): "Cortex-A57",
    (_ARM, "0xd08"): "Cortex-A72",
    (_ARM, "0xd09"): "Cortex-A73",
    (_ARM, "0xd0a"): "Cortex-A75",
    (_ARM, "0xd0b"): "Cortex-A76",
    (_ARM, "0xd0c"): "Neoverse-N1",
    (_ARM, "0xd0d"): "Cortex-A77",
    (_ARM, "0xd0e"): "Cortex-A76AE",
    (_ARM, "0xd40"): "Neoverse-V1",
    (_ARM, "0xd41"): "Cortex-A78",
    (_ARM, "0xd42"): "Cortex-A78AE",
    (_ARM, "0xd44"): "Cortex-X1",
    (_ARM, "0xd46"): "Cortex-A510",
    (_ARM, "0xd47"): "Cortex-A710",
    (_ARM, "0xd48"): "Cortex-X2",
    (_ARM, "0xd49"): "Neoverse-N2",
    (_ARM, "0xd4b"): "Cortex-A78C",
    (_ARM, "0xd4c"): "Cortex-X1C",
    (_ARM, "0xd4d"): "Cortex-A715",
    (_ARM, "0xd4e"): "Cortex-X3",
    (_ARM, "0xd4f"): "Neoverse-V2",
    (_ARM, "0xd80"): "Cortex-A520",
    (_ARM, "0xd81"): "Cortex-A720",
    (_ARM, "0xd82"): "Cortex-X4",
    (_ARM, "0xd85"): "Cortex-X925",
    (_ARM, "0xd87"): "Cortex-A725",
    (_NVIDIA, "0x003"): "Denver 2",
    (_NVIDIA, "0x004"): "Carmel",
    (_QUALCOMM, "0x001"): "Oryon",
    (_QUALCOMM, "0x800"): "Kryo 2xx Gold",
    (_QUALCOMM, "0x801"): "Kryo 2xx Silver",
    (_QUALCOMM, "0x802"): "Kryo 3xx Gold",
    (_QUALCOMM, "0x803"): "Kryo 3xx Silver",
    (_QUALCOMM, "0x804"): "Kryo 4xx Gold",
    (_QUALCOMM, "0x805"): "Kryo 4xx Silver",
    (_APPLE, "0x022"): "Icestorm",
    (_APPLE, "0x023"): "Firestorm",
}

# What the kernel calls an instruction set, and what everybody else does; those that decide how fast models are.
_FEATURES = {
    "neon": "neon",
    "vfpv4": "vfpv4",
    "asimd": "neon",
    "asimdhp": "fp16",
    "asimddp": "dotprod",
    "atomics": "lse",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "sve": "sve",
    "sve2": "sve2",
    "sme": "sme",
    "avx": "avx",
    "fma": "fma",
    "avx2": "avx2",
    "avx512f": "avx512",
    "avx512_vnni": "avx512_vnni",
    "avx_vnni": "avx_vnni",
    "amx_int8": "amx_int8",
}


@dataclass(frozen=True)
class Cores:
    """Cores of one kind: ``Cores("Cortex-A72", 4)``; one that has no name here is ``0x41:0xd99``."""

    name: str
    count: int


@dataclass(frozen=True)
class Processor:
    """A processor. ``model`` is what x86 kernels call it; Arm kernels tell the kinds of ``cores`` instead.

    ``features`` are the instruction sets that matter to models, by their usual names: dotprod, lse, avx2.
    ``online`` is how many cores are switched on.
    """

    model: str | None
    cores: tuple[Cores, ...]
    features: tuple[str, ...]
    online: int | None

    @property
    def name(self) -> str:
        """The processor in a few words: ``4 x Cortex-A72``."""
        kinds = " + ".join(f"{cores.count} x {cores.name}" for cores in self.cores)
        if self.model:
            return f"{self.online} x {self.model}" if self.online else self.model
        return kinds or "unknown"

    def describe(self) -> dict[str, Any]:
        """The processor as it stands in JSON documents."""
        return {
            "model": self.model,
            "cores": [{"name": cores.name, "count": cores.count} for cores in self.cores],
            "features": list(self.features),
            "online": self.online,
        }


def parse(cpuinfo: str, online: str = "") -> Processor:
    """The processor from ``/proc/cpuinfo``, and the list of cores that are on: ``"0-3,6"``."""
    implementers = re.findall(r"^CPU implementer\s*:\s*(\w+)", cpuinfo, re.MULTILINE)
    parts = re.findall(r"^CPU part\s*:\s*(\w+)", cpuinfo, re.MULTILINE)
    # Kernels list the cores from the small ones to the big ones; so does this.
    kinds = Counter(
        _CORES.get(pair, ":".join(pair)) for pair in zip(implementers, map(str.lower, parts), strict=False)
    )
    model = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    listed = len(re.findall(r"^processor\s*:", cpuinfo, re.MULTILINE))
    lines = re.findall(r"^(?:flags|Features)\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    return Processor(
        # 32-bit Arm kernels put "ARMv7 Processor rev 4 (v7l)" there, which says less than the part.
        None if kinds or model is None else model[1].strip(),
        tuple(Cores(name, count) for name, count in kinds.items()),
        _features(lines),
        _count(online) or listed or None,
    )


def _features(lines: Iterable[str]) -> tuple[str, ...]:
    """Those that every core has: a program may be moved to any of them."""
    sets = [set(line.split()) for line in lines]
    common = set.intersection(*sets) if sets else set()
    return tuple(dict.fromkeys(name for key, name in _FEATURES.items() if key in common))


def _count(ranges: str) -> int:
    """How many cores a kernel's list names: ``"0-3,6"`` are five."""
    total = 0
    for first, last in re.findall(r"(\d+)(?:-(\d+))?", ranges):
        total += int(last or first) - int(first) + 1
    return total
