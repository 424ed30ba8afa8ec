"""Processors are told from ``/proc/cpuinfo`` of real kernels."""

import pytest

from edgekit.devices.processor import Cores, parse

# A Pi 3 with a 32-bit kernel.
_ARMV7 = """\
processor\t: 0
model name\t: ARMv7 Processor rev 4 (v7l)
BogoMIPS\t: 38.40
Features\t: half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm crc32
CPU implementer\t: 0x41
CPU architecture: 7
CPU variant\t: 0x0
CPU part\t: 0xd03
CPU revision\t: 4

Hardware\t: BCM2835
Revision\t: a02082
Serial\t\t: 0000000012345678
Model\t\t: Raspberry Pi 3 Model B Rev 1.2
"""


def _core(number: int, part: str, features: str, implementer: str = "0x41") -> str:
    return (
        f"processor\t: {number}\nBogoMIPS\t: 49.15\nFeatures\t: {features}\n"
        f"CPU implementer\t: {implementer}\nCPU architecture: 8\nCPU variant\t: 0x2\nCPU part\t: {part}\n"
        "CPU revision\t: 0\n\n"
    )


def test_a_32_bit_kernel_names_the_core_by_its_part():
    found = parse(_ARMV7, "0-3")
    assert found.model is None
    assert found.cores == (Cores("Cortex-A53", 1),)
    assert found.features == ("neon", "vfpv4")
    assert found.online == 4


def test_kinds_of_cores_keep_the_order_of_the_kernel():
    text = "".join(
        _core(number, part, "fp asimd atomics") for number, part in enumerate(["0xd05", "0xd05", "0xD44"])
    )
    found = parse(text)
    assert found.cores == (Cores("Cortex-A55", 2), Cores("Cortex-X1", 1))
    assert found.name == "2 x Cortex-A55 + 1 x Cortex-X1"
    assert found.online == 3


def test_only_what_every_core_has_is_a_feature():
    text = _core(0, "0xd05", "fp asimd atomics asimddp") + _core(1, "0xd07", "fp asimd")
    assert parse(text).features == ("neon",)


def test_a_core_without_a_name_shows_its_numbers():
    assert parse(_core(0, "0xd99", "fp", "0x70")).cores == (Cores("0x70:0xd99", 1),)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (
            "fp asimd asimdhp asimddp atomics i8mm bf16 sve",
            ("neon", "fp16", "dotprod", "lse", "i8mm", "bf16", "sve"),
        ),
        ("fp asimd crc32", ("neon",)),
    ],
)
def test_features_of_arm(flags, expected):
    assert parse(_core(0, "0xd0b", flags)).features == expected


def test_features_of_x86():
    text = "processor\t: 0\nmodel name\t: AMD Ryzen 7\nflags\t\t: sse2 avx fma avx2 avx512f avx512_vnni avx_vnni\n"
    found = parse(text)
    assert found.features == ("avx", "fma", "avx2", "avx512", "avx512_vnni", "avx_vnni")
    assert found.name == "1 x AMD Ryzen 7"


@pytest.mark.parametrize(("online", "count"), [("0-3", 4), ("0", 1), ("0,2-3,7", 4), ("", None)])
def test_cores_that_are_on(online, count):
    assert parse("", online).online == count


def test_nothing_is_known_of_nothing():
    found = parse("")
    assert (found.model, found.cores, found.features, found.online) == (None, (), (), None)
    assert found.name == "unknown"
