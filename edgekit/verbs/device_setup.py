"""Make a device able to run models: its runtime, chosen for its Python, libc and processor."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekit.catalog import unknown
from edgekit.devices import inventory, python_facts, runtime_setup
from edgekit.devices.python_facts import DevicePython
from edgekit.devices.runtime_bundle import WEBGPU
from edgekit.devices.runtime_setup import RuntimeSetup
from edgekit.devices.shell import Shell
from edgekit.devices.wheels import WEBGPU_IMPORTS, Wanted, Wheels, wanted
from edgekit.errors import DeviceError, UsageError

RUNTIMES = ("litert", "onnxruntime", "tflite_runtime")

Progress = Callable[[int, int], None]
Say = Callable[[str], None]


def _silent(_text: str) -> None:
    """Nobody is listening."""


@dataclass(frozen=True)
class SetupPlan:
    """What a setup brings to a device.

    ``wheels`` has None for what is still to be fetched. ``device_numpy`` is the version of the device's own
    numpy where that one is used.
    """

    runtime: str
    python: DevicePython
    packages: tuple[Wanted, ...]
    wheels: tuple[Path | None, ...]
    device_numpy: str | None
    folder: Path

    @property
    def version(self) -> str:
        """The version of the runtime."""
        return self.packages[0].version.removeprefix("==")

    def describe(self) -> dict[str, Any]:
        """The plan as it stands in JSON documents."""
        platform = self.python.platform
        return {
            "runtime": self.runtime,
            "version": self.version,
            "python": {"path": self.python.path, "version": self.python.version},
            "platform": {
                "architecture": platform.architecture,
                "glibc": ".".join(map(str, platform.glibc or ())) or None,
                "best_tag": next(iter(platform.tags()), None),
            },
            "packages": [
                {
                    "package": package.package,
                    "version": package.version,
                    "why": package.why,
                    "wheel": wheel.name if wheel else None,
                    "size_bytes": wheel.stat().st_size if wheel else None,
                }
                for package, wheel in zip(self.packages, self.wheels, strict=True)
            ],
            "device_numpy": self.device_numpy,
            "wheels_folder": str(self.folder),
        }


def device_setup(
    device: str,
    runtime: str,
    *,
    wheels: Path | None = None,
    python: str = "python3",
    with_webgpu: bool = False,
    say: Say = _silent,
    progress: Progress | None = None,
) -> tuple[SetupPlan, RuntimeSetup]:
    """Bring a runtime to a device, try it there, and make it known to edgekit.

    Args:
        device: Its name in the inventory, or its URL.
        runtime: litert, onnxruntime or tflite_runtime.
        wheels: A folder of wheels to take, without reaching a package index. By default they are taken from
            edgekit's cache, and fetched into it with pip where it has none.
        python: Name or path of the Python on the device.
        with_webgpu: Bring LiteRT's WebGPU accelerator too.
        say: Called with a line for every step.
        progress: Called with what is done and what there is to do: packages to fetch, then bytes to send.

    Raises:
        UsageError: There is no such device or runtime.
        DependencyError: Wheels are missing, or the package index is not reachable.
        DataError: A wheel is damaged.
        DeviceError: The device is unreachable, full, has no Python that fits, or the runtime fails there.
    """
    with Shell(inventory.resolve(device)) as shell:
        plan = _plan(shell, runtime, wheels, python, with_webgpu=with_webgpu)
        source = Wheels(plan.folder, plan.python.platform)
        if wheels is None and source.missing(plan.packages):
            say(f"fetching {' and '.join(map(str, source.missing(plan.packages)))}")
        found = source.require(plan.packages) if wheels else source.fetch(plan.packages, progress=progress)
        plan = replace(plan, wheels=tuple(found))
        say(f"setting up {runtime} {plan.version} on {shell.device.name}")
        done = runtime_setup.set_up(
            shell,
            runtime,
            plan.version,
            plan.python,
            found,
            with_webgpu=with_webgpu,
            progress=progress,
        )
    return plan, done


def plan_setup(
    device: str,
    runtime: str,
    *,
    wheels: Path | None = None,
    python: str = "python3",
    with_webgpu: bool = False,
) -> SetupPlan:
    """What ``device_setup`` would do; nothing is fetched, and nothing changed on the device.

    Raises:
        UsageError: There is no such device or runtime.
        DeviceError: The device is unreachable, or has no Python that fits.
    """
    with Shell(inventory.resolve(device)) as shell:
        return _plan(shell, runtime, wheels, python, with_webgpu=with_webgpu)


def fetch_wheels(
    device: str,
    runtime: str,
    *,
    wheels: Path | None = None,
    python: str = "python3",
    with_webgpu: bool = False,
    progress: Progress | None = None,
) -> SetupPlan:
    """Fetch what a device needs into a folder, or edgekit's cache, to carry it to a place without a network.

    Raises:
        UsageError: There is no such device or runtime.
        DependencyError: The package index is not reachable, or has no wheel that fits.
        DeviceError: The device is unreachable, or has no Python that fits.
    """
    plan = plan_setup(device, runtime, wheels=wheels, python=python, with_webgpu=with_webgpu)
    found = Wheels(plan.folder, plan.python.platform).fetch(plan.packages, progress=progress)
    return replace(plan, wheels=tuple(found))


def _plan(
    shell: Shell, runtime: str, wheels: Path | None, program: str, *, with_webgpu: bool = False
) -> SetupPlan:
    if runtime not in RUNTIMES:
        raise unknown("runtime of devices", runtime, list(RUNTIMES))
    if with_webgpu and runtime != "litert":
        raise UsageError(
            "EK542", f"{runtime} has no GPU accelerator: it is LiteRT's.", "Leave --with-webgpu out."
        )
    python = python_facts.find(shell, program)
    if with_webgpu and not python.has_lse:
        raise DeviceError(
            "EK838",
            f"The processor of {shell.device.name} has no LSE; {WEBGPU} ends the process there.",
            "Leave --with-webgpu out.",
        )
    folder = wheels or cache_folder()
    source = Wheels(folder, python.platform)
    engine, numpy = wanted(runtime, python.platform)
    # There is no numpy for this processor on PyPI; distributions have one.
    theirs = python.platform.architecture == "armv7l" and not source.find(numpy)
    if theirs and python.numpy_version and numpy.allows(python.numpy_version):
        return SetupPlan(runtime, python, (engine,), (source.find(engine),), python.numpy_version, folder)
    packages = (engine, numpy, *([WEBGPU_IMPORTS] if with_webgpu else []))
    return SetupPlan(runtime, python, packages, tuple(map(source.find, packages)), None, folder)


def cache_folder() -> Path:
    """Where fetched wheels stay."""
    import platformdirs

    return platformdirs.user_cache_path("edgekit") / "wheels"
