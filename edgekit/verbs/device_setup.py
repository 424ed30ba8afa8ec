"""Make a device able to run models: its runtime, chosen for its Python, its C library and its processor."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from edgekit import inventory, native_library, native_runner, runtime_setup, setup_plan
from edgekit.errors import DeviceError
from edgekit.runtime_bundle import WEBGPU
from edgekit.runtime_setup import RuntimeSetup
from edgekit.setup_plan import SetupPlan
from edgekit.shell import Shell

Progress = Callable[[int, int], None]
Say = Callable[[str], None]


def _silent(_text: str) -> None:
    """Nobody is listening."""


def device_setup(
    device: str,
    runtime: str,
    *,
    wheels: Path | None = None,
    python: str = "python3",
    library: Path | None = None,
    with_webgpu: bool = False,
    say: Say = _silent,
    progress: Progress | None = None,
) -> tuple[SetupPlan, RuntimeSetup]:
    """Bring a runtime to a device, try it there, and make it known to edgekit.

    Args:
        device: Its name in the inventory, or its URL.
        runtime: litert, onnxruntime or tflite_runtime for a device with Python; native for any other.
        wheels: A folder of wheels to take, without reaching a package index. By default they are taken from
            edgekit's cache, and fetched into it with pip where it has none.
        python: Name or path of the Python on the device.
        library: A TFLite library built for the device, which the native runner opens in place of LiteRT's.
        with_webgpu: Bring LiteRT's WebGPU accelerator too.
        say: Called with a line for every step.
        progress: Called with what is done and what there is to do: packages to fetch, then bytes to send.

    Raises:
        UsageError: There is no such device or runtime, or the library does not fit the device.
        DependencyError: Wheels or a compiler are missing, or the package index is not reachable.
        DataError: A wheel is damaged.
        DeviceError: The device is unreachable, full, has no Python that fits, or the runtime fails there.
    """
    with Shell(inventory.resolve(device)) as shell:
        plan = setup_plan.plan(shell, runtime, wheels=wheels, python=python, library=library)
        if with_webgpu and plan.python is not None and not plan.python.has_lse:
            raise DeviceError(
                "EK838",
                f"The processor of {shell.device.name} has no LSE; {WEBGPU} ends the process there.",
                "Leave --with-webgpu out.",
            )
        missing = plan.source.missing(plan.packages)
        if missing and wheels is None:
            say(f"fetching {' and '.join(map(str, missing))}")
        found = (
            plan.source.require(plan.packages)
            if wheels
            else plan.source.fetch(plan.packages, progress=progress)
        )
        plan = replace(plan, wheels=tuple(found))
        say(f"setting up {runtime} on {shell.device.name}")
        if plan.python is None:
            return plan, _native(shell, plan, found, progress)
        done = runtime_setup.set_up(
            shell, runtime, plan.version, plan.python, found, with_webgpu=with_webgpu, progress=progress
        )
    return plan, done


def plan_setup(
    device: str,
    runtime: str,
    *,
    wheels: Path | None = None,
    python: str = "python3",
    library: Path | None = None,
) -> SetupPlan:
    """What ``device_setup`` would do; nothing is fetched, and nothing changed on the device.

    Raises:
        UsageError: There is no such device or runtime, or the library does not fit the device.
        DeviceError: The device is unreachable, or the runtime does not run there.
    """
    with Shell(inventory.resolve(device)) as shell:
        return setup_plan.plan(shell, runtime, wheels=wheels, python=python, library=library)


def fetch_wheels(
    device: str,
    runtime: str,
    *,
    wheels: Path | None = None,
    python: str = "python3",
    library: Path | None = None,
    progress: Progress | None = None,
) -> SetupPlan:
    """Fetch what a device needs into a folder, or edgekit's cache, to carry it to a place without a network.

    Raises:
        UsageError: There is no such device or runtime.
        DependencyError: The package index is not reachable, or has no wheel that fits.
        DeviceError: The device is unreachable, or the runtime does not run there.
    """
    plan = plan_setup(device, runtime, wheels=wheels, python=python, library=library)
    return replace(plan, wheels=tuple(plan.source.fetch(plan.packages, progress=progress)))


def _native(shell: Shell, plan: SetupPlan, wheels: Sequence[Path], progress: Progress | None) -> RuntimeSetup:
    assert plan.native is not None  # noqa: S101 - planned without a Python
    program = native_runner.build(plan.native)
    if plan.library is not None:
        return runtime_setup.set_up_native(shell, None, program, plan.library, progress=progress)
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / Path(native_library.MEMBER).name
        native_library.from_wheel(wheels[0], library)
        return runtime_setup.set_up_native(shell, plan.version, program, library, progress=progress)
