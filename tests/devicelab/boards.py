"""The boards that an emulated Raspberry Pi can be: what their system is, and what they say of themselves."""

from dataclasses import dataclass

from devicelab.system_files import CORTEX_A53_32_BIT, CORTEX_A72, Processor


@dataclass(frozen=True)
class Board:
    """A Raspberry Pi and the system on its card.

    Attributes:
        processor: What its cores are.
        model: Its name for itself.
        compatible: Its names in the device tree, the most special first.
        revision: What ``/proc/cpuinfo`` ends with.
        memory_kib: How much memory its system sees.
        kernel: The kernel's release.
        architecture: Debian's name of its programs, "arm64" or "armhf".
        packages: What is installed besides what every Pi has.
        libraries: Links that packages' own scripts would have made, by where they lie: what they lead to.
    """

    processor: Processor
    model: str
    compatible: tuple[str, ...]
    revision: str
    memory_kib: int
    kernel: str
    architecture: str
    packages: tuple[str, ...]
    libraries: tuple[tuple[str, str], ...] = ()

    @property
    def triplet(self) -> str:
        """The folder of its libraries below ``/usr/lib``."""
        return {"arm64": "aarch64-linux-gnu", "armhf": "arm-linux-gnueabihf"}[self.architecture]

    def cpuinfo(self) -> str:
        """``/proc/cpuinfo``."""
        hardware = "Hardware\t: BCM2835\n" if self.architecture == "armhf" else ""
        lines = f"Revision\t: {self.revision}\nSerial\t\t: 10000000abcdef01\nModel\t\t: {self.model}\n"
        return self.processor.cpuinfo(hardware + lines)


PI_4 = Board(
    CORTEX_A72,
    "Raspberry Pi 4 Model B Rev 1.5",
    ("raspberrypi,4-model-b", "brcm,bcm2711"),
    "c03115",
    3_885_428,
    "6.6.31+rpt-rpi-v8",
    "arm64",
    ("libfaketime",),
)
# With the 32-bit system, as most small boards run it; numpy comes with it, as there is no wheel of it.
PI_ZERO_2_W = Board(
    CORTEX_A53_32_BIT,
    "Raspberry Pi Zero 2 W Rev 1.0",
    ("raspberrypi,model-zero-2-w", "brcm,bcm2837"),
    "902120",
    437_136,
    "6.6.31+rpt-rpi-v7",
    "armhf",
    ("libfaketime", "python3-numpy"),
    tuple(
        (f"usr/lib/arm-linux-gnueabihf/lib{name}.so.3", f"{name}/lib{name}.so.3")
        for name in ("blas", "lapack")
    ),
)
