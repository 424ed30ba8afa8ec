"""What a device is and how it is at the moment: asked in one script, read on this computer."""

import re
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgekit.devices import installed_runtimes, probe_texts, processor, python_facts
from edgekit.devices.installed_runtimes import InstalledRuntime
from edgekit.devices.probe_texts import Battery, Clocks, Libc, Memory
from edgekit.devices.processor import Processor
from edgekit.devices.python_facts import DevicePython
from edgekit.devices.shell import Shell
from edgekit.errors import DeviceError

_SCRIPT = Path(__file__).with_name("probe.sh")
# Importing a runtime on a slow card takes seconds, and a program that hangs is given up after 20.
_DEADLINE_S = 240.0
# Tells which of the packages that are asked for are there, as PACKAGE=VERSION=MODULE.
_LIST = """
import importlib.metadata, sys
for item in sys.argv[1:]:
    package, module = item.split("=")
    try:
        print("=".join((package, importlib.metadata.version(package), module)))
    except Exception:
        pass
"""
# What brings a runtime, and the module that loads all of it.
_PACKAGES = {
    "litert": ("ai-edge-litert", "ai_edge_litert.interpreter"),
    "onnxruntime": ("onnxruntime", "onnxruntime"),
    "tflite_runtime": ("tflite-runtime", "tflite_runtime.interpreter"),
}
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Android:
    """What an Android device says of its system."""

    version: str | None
    sdk: int | None
    security_patch: str | None
    fingerprint: str | None


@dataclass(frozen=True)
class Disk:
    """Where edgekit would write.

    ``path`` is edgekit's folder, or the nearest one above it that exists. ``problem`` says why it cannot be
    written, or why programs cannot be run there.
    """

    path: str
    mount: str | None
    free_bytes: int | None
    writable: bool
    executable: bool
    problem: str = ""


@dataclass(frozen=True)
class FoundRuntime:
    """A runtime in the device's own Python; ``problem`` is empty where it loads."""

    name: str
    version: str
    problem: str = ""


@dataclass(frozen=True)
class DeviceFacts:
    """What a device is and how it is at the moment. None is what it does not tell.

    ``machine`` is the architecture of the kernel, ``userland`` that of programs: a 64-bit kernel may run 32-bit
    ones. ``clock_skew_s`` is how far the device's clock is ahead of this computer's, 0 where the difference is
    smaller than what asking takes. ``throttle_flags`` are a Raspberry Pi's, ``throttle_events`` an x86 kernel's
    count, ``thermal_status`` Android's, 0 to 6.
    """

    model: str | None
    soc: str | None
    processor: Processor
    memory: Memory
    disk: Disk
    os: str | None
    android: Android | None
    kernel: str
    machine: str
    userland: str
    libc: Libc | None
    python: DevicePython | None
    python_problem: str
    found_runtimes: tuple[FoundRuntime, ...]
    benchmark_models: tuple[str, ...]
    clocks: Clocks
    temperature_c: float | None
    throttle_flags: int | None
    throttle_events: int | None
    battery: Battery | None
    low_power_mode: bool | None
    thermal_status: int | None
    clock_skew_s: float | None
    load_average: tuple[float, ...] | None
    uptime_s: float | None
    installed_runtimes: tuple[InstalledRuntime, ...] = field(default_factory=tuple)
    damaged_record: str = ""

    @property
    def has_lse(self) -> bool:
        """Whether an Arm processor has the atomic instructions of ARMv8.1; others need none."""
        return "lse" in self.processor.features or not self.machine.startswith(("aarch64", "arm"))

    def describe(self) -> dict[str, Any]:
        """The facts as they stand in JSON documents."""
        document = asdict(self)
        document["processor"] = self.processor.describe()
        document["python"] = None if self.python is None else _described_python(self.python)
        document["installed_runtimes"] = [runtime.describe() for runtime in self.installed_runtimes]
        if self.throttle_flags is not None:
            now, ever = probe_texts.flag_names(self.throttle_flags)
            document |= {"throttled_now": now, "throttled_since_start": ever}
        return document


def _described_python(python: DevicePython) -> dict[str, Any]:
    return {
        "path": python.path,
        "version": python.version,
        "implementation": python.implementation,
        "architecture": python.platform.architecture,
        "numpy_version": python.numpy_version,
    }


def probe(shell: Shell) -> DeviceFacts:
    """Ask a device what it is, leaving nothing there.

    Raises:
        DeviceError: The link is lost, or the device has no POSIX shell that answers.
    """
    mark = f"edgekit-{secrets.token_hex(6)}"
    folder = shell.folder
    asked_s = time.time()
    done = shell.run(
        "sh", "-s", mark, folder, python_facts.ASK, _LIST, *map("=".join, _PACKAGES.values()),
        stdin=_SCRIPT.read_bytes(), deadline_s=_DEADLINE_S, check=False,
    )  # fmt: skip
    answers = split(done.output.decode(errors="replace"), mark)
    if "end" not in answers:
        raise DeviceError(
            "EK806",
            f"{shell.device.name} did not answer what it is: its shell ended with status {done.status}.",
            "-v shows what it said.",
            detail=done.errors or done.text[-2000:],
        )
    skew_s = clock_skew_s(answers.get("clock", ""), asked_s, time.time())
    installed, damaged = _installed(shell)
    try:
        return read(answers, skew_s=skew_s, installed=installed, damaged=damaged)
    except (ValueError, OverflowError) as error:
        raise DeviceError(
            "EK806",
            f"{shell.device.name} answers with numbers that are none.",
            "-v shows what it said.",
            detail=done.output.decode(errors="replace"),
        ) from error


def _installed(shell: Shell) -> tuple[tuple[InstalledRuntime, ...], str]:
    try:
        return tuple(installed_runtimes.installed(shell).values()), ""
    except DeviceError as error:
        # A device with a damaged record can still say what it is.
        if error.code != "EK815":
            raise
        return (), error.message


def split(output: str, mark: str) -> dict[str, str]:
    """The answers by their names: each follows a line with the mark and its name."""
    answers: dict[str, str] = {}
    for part in re.split(rf"^{re.escape(mark)} ", output, flags=re.MULTILINE)[1:]:
        name, _, text = part.partition("\n")
        # The first that was found counts. Control characters could move the cursor of the user's terminal.
        answers.setdefault(name.strip(), _CONTROL.sub("", text).strip("\n"))
    return answers


def read(
    answers: Mapping[str, str],
    *,
    skew_s: float | None = None,
    installed: tuple[InstalledRuntime, ...] = (),
    damaged: str = "",
) -> DeviceFacts:
    """The facts, from what a device answered to ``probe.sh``."""
    kernel, release, machine = (*answers.get("kernel", "").splitlines(), "", "", "")[:3]
    properties = probe_texts.properties(answers.get("properties", ""))
    cpuinfo = answers.get("cpuinfo", "")
    python, problem = _python(answers)
    width = answers.get("width", "").split()
    counts = re.findall(r"^\d+$", answers.get("throttle_counts", ""), re.MULTILINE)
    low_power = answers.get("low_power", "").strip()
    return DeviceFacts(
        model=_model(answers, properties),
        soc=_soc(answers, properties),
        processor=processor.parse(cpuinfo, answers.get("online", "")),
        memory=probe_texts.memory(answers.get("memory", "")),
        disk=_disk(answers),
        os=f"Android {properties.get('ro.build.version.release', '')}".strip()
        if properties
        else probe_texts.os_name(answers.get("os", "")),
        android=_android(properties) if properties else None,
        kernel=f"{kernel} {release}".strip(),
        machine=python_facts.userland(machine, 64),
        # Byte 5 of an ELF file: 1 is 32 bits, 2 is 64.
        userland=python_facts.userland(machine, 32 if width[4:] == ["1"] else 64),
        libc=probe_texts.libc(answers.get("libc", "")),
        python=python,
        python_problem=problem,
        found_runtimes=tuple(_found_runtimes(answers)),
        benchmark_models=tuple(dict.fromkeys(answers.get("benchmark_models", "").splitlines())),
        clocks=probe_texts.clocks(answers.get("clocks", ""), cpuinfo),
        temperature_c=_temperature_c(answers),
        throttle_flags=probe_texts.throttle_flags(
            answers.get("throttled", ""), answers.get("throttled_file", "")
        ),
        throttle_events=sum(map(int, counts)) if counts else None,
        battery=probe_texts.android_battery(answers.get("dumpsys_battery", ""))
        or probe_texts.linux_battery(answers.get("supplies", "")),
        low_power_mode=low_power == "1" if low_power in {"0", "1"} else None,
        thermal_status=probe_texts.thermal_status(answers.get("dumpsys_thermal", "")),
        clock_skew_s=skew_s,
        load_average=_numbers(answers.get("load", ""), 3),
        uptime_s=next(iter(_numbers(answers.get("uptime", ""), 1) or ()), None),
        installed_runtimes=installed,
        damaged_record=damaged,
    )


def clock_skew_s(clock: str, asked_s: float, answered_s: float) -> float | None:
    """How far a clock that showed ``clock`` in whole seconds is ahead of one that went from one moment to another."""
    if not re.fullmatch(r"\d+", clock.strip()):
        return None
    earliest, latest = float(clock), float(clock) + 1
    if latest < asked_s:
        return latest - asked_s
    return max(0.0, earliest - answered_s)


def _model(answers: Mapping[str, str], properties: Mapping[str, str]) -> str | None:
    # Android's device tree names the board of its maker, which nobody else knows.
    words = [properties.get("ro.product.manufacturer", ""), properties.get("ro.product.model", "")]
    if not any(words):
        of_board = re.search(r"^Model\s*: (.+)$", answers.get("cpuinfo", ""), re.MULTILINE)
        words = [answers.get("model", "") or (of_board[1] if of_board else "")]
    if not any(words):
        words = answers.get("dmi", "").splitlines()
    # What is left as "To Be Filled By O.E.M." was never named.
    return " ".join(word.strip() for word in words if word.strip() and "O.E.M." not in word) or None


def _soc(answers: Mapping[str, str], properties: Mapping[str, str]) -> str | None:
    words = [properties.get("ro.soc.manufacturer", ""), properties.get("ro.soc.model", "")]
    if named := " ".join(filter(None, words)) or properties.get("ro.board.platform"):
        return named
    # The last of the compatible strings is the most general one: the chip.
    return next(reversed(answers.get("compatible", "").split()), None)


def _temperature_c(answers: Mapping[str, str]) -> float | None:
    # Android keeps its shell from most sensors, and tells by its own service.
    read = probe_texts.temperature_c(answers.get("zones", ""), answers.get("sensors", ""))
    return probe_texts.android_temperature_c(answers.get("dumpsys_thermal", "")) if read is None else read


def _android(properties: Mapping[str, str]) -> Android:
    sdk = properties.get("ro.build.version.sdk", "")
    return Android(
        properties.get("ro.build.version.release"),
        int(sdk) if sdk.isdigit() else None,
        properties.get("ro.build.version.security_patch"),
        properties.get("ro.build.fingerprint"),
    )


def _disk(answers: Mapping[str, str]) -> Disk:
    free_bytes, mount = probe_texts.free_disk(answers.get("disk", ""))
    wrote, ran = (_last_line(answers.get(name, "")) for name in ("write", "execute"))
    writable, executable = wrote == "ok", ran == "ok"
    # "sh: 98: /mnt/.edgekit-12ab: Permission denied": the reason stands last.
    problem = "" if executable else (ran if writable else wrote).rpartition(": ")[2]
    return Disk(answers.get("place", "").strip(), mount, free_bytes, writable, executable, problem)


def _python(answers: Mapping[str, str]) -> tuple[DevicePython | None, str]:
    path, _, answer = answers.get("python", "").partition("\n")
    if not path:
        return None, "there is no python3"
    try:
        return python_facts.parse(path, answer), ""
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return None, f"{path} does not run: {_last_line(answer) or 'it says nothing'}"


def _found_runtimes(answers: Mapping[str, str]) -> Iterator[FoundRuntime]:
    for name, (package, _module) in _PACKAGES.items():
        for asked, answer in answers.items():
            if asked.startswith(f"package {package}="):
                version = asked.split("=")[1]
                said, _, ended = answer.rpartition("status ")
                problem = _last_line(said) or f"its import ends Python with status {ended.strip()}"
                yield FoundRuntime(name, version, "" if ended.strip() == "0" else problem)


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2].strip()


def _numbers(text: str, count: int) -> tuple[float, ...] | None:
    found = re.findall(r"(?<!\S)\d+(?:\.\d+)?(?!\S)", text)[:count]
    return tuple(map(float, found)) if len(found) == count else None
