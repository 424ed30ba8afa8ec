"""What the commands that run models on devices have in common: their options, and durations like 10m."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from edgekit.devices.device import Device
    from edgekit.findings import Finding
    from edgekit.interleaved import Delegate

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h)?")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


class Duration(click.ParamType):  # type: ignore[type-arg] # generic only since click 8.4
    """Seconds, from ``90``, ``90s``, ``10m`` or ``1h``."""

    name = "DURATION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        found = _DURATION.fullmatch(str(value).strip())
        if found is None:
            self.fail(f"{value!r} is no duration; use for example 90s, 10m or 1h.", param, ctx)
        return float(found.group(1)) * _SECONDS[found.group(2) or "s"]


class Processors(click.ParamType):  # type: ignore[type-arg] # generic only since click 8.4
    """Numbers of processors: ``2,3`` or ``0-3``."""

    name = "CPUS"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        numbers: set[int] = set()
        for part in str(value).split(","):
            found = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part.strip())
            if found is None:
                self.fail(f"{value!r} names no processors; use for example 2,3 or 0-3.", param, ctx)
            numbers.update(range(int(found.group(1)), int(found.group(2) or found.group(1)) + 1))
        return tuple(sorted(numbers))


def device_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--device``, which may be given several times, and ``--delegate``."""
    return click.option(
        "--device",
        "devices",
        multiple=True,
        metavar="NAME|URL",
        help="Run it on this device; several are used side by side.  [default: this machine]",
    )(delegate_option(command))


def delegate_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--delegate``."""
    return click.option(
        "--delegate",
        metavar="cpu|gpu|LIBRARY[,KEY=VALUE...]",
        help="The GPU, or a TFLite delegate, of the machine that runs the model; the CPU runs the rest.  "
        "[default: cpu]",
    )(command)


def service_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What both ways of putting a release into service take: the device, the check before, and how long to wait."""
    for option in (
        click.option("--seed", type=int, default=0, metavar="N", help="For random samples.  [default: 0]"),
        click.option(
            "--wait",
            "wait_s",
            type=click.FloatRange(min=0),
            default=0,
            metavar="SECONDS",
            help="Wait so long while somebody else deploys.  [default: 0]",
        ),
        click.option("--runtime", metavar="NAME", help="What executes it there.  [default: what is set up]"),
        click.option("--no-health-check", is_flag=True, help="Put it into service untried."),
        click.option(
            "--health-check",
            metavar="DATA",
            help="Samples that must give the same there as here.  [default: random ones]",
        ),
        click.option("--device", required=True, metavar="NAME|URL", help="The device."),
    ):
        command = option(command)
    return command


def chosen_health_check(options: dict[str, Any]) -> str | bool:
    """The data of ``--health-check``, whether there is one at all otherwise; both options are taken out."""
    data, skip = options.pop("health_check"), options.pop("no_health_check")
    if data is not None and skip:
        raise click.UsageError("--health-check and --no-health-check exclude each other.")
    return data or not skip


def chosen_devices(texts: Sequence[str]) -> "tuple[Device, ...]":
    """The devices of ``--device``.

    Raises:
        UsageError: One is neither in the inventory nor a URL.
    """
    from edgekit.devices.inventory import resolve

    return tuple(resolve(text) for text in dict.fromkeys(texts))


def chosen_delegate(text: str | None) -> "Delegate | None":
    """The delegate of ``--delegate``, None for the CPU.

    Raises:
        UsageError: It names none.
    """
    from edgekit.errors import UsageError
    from edgekit.interleaved import Delegate

    if text is None or text == "cpu":
        return None
    if text == "npu":
        raise UsageError(
            "EK523",
            "--delegate npu names no library, and no runtime brings one along.",
            "Give the delegate's library on the device: --delegate /usr/lib/libvx_delegate.so[,KEY=VALUE...]",
        )
    return Delegate.parse(text)


def device_delegate(text: str | None, *, is_on_device: bool) -> "Delegate | None":
    """The same where only devices take one.

    Raises:
        UsageError: It names none, or there is no device.
    """
    from edgekit.errors import UsageError

    delegate = chosen_delegate(text)
    if delegate is not None and not is_on_device:
        raise UsageError(
            "EK544", f"--delegate {text} is for runs on devices.", "For this machine add --device local."
        )
    return delegate


def findings_of(devices: "Mapping[str, Sequence[Finding]]") -> "list[Finding]":
    """The findings of several devices: what is the same on all of them once, the rest with the device named."""
    told: list[Finding] = []
    for device, findings in devices.items():
        for finding in findings:
            if device in finding.message or all(finding in others for others in devices.values()):
                told.append(finding)
            else:
                told.append(replace(finding, message=f"{device}: {finding.message}"))
    return list(dict.fromkeys(told))
