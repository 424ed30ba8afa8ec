"""What ``edgekit device probe`` shows of a device: facts and runtimes as tables."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from edgekit.devices.facts import DeviceFacts
    from edgekit.verbs.device import DeviceProbe

_MIB = 1 << 20
_THERMAL = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")


def facts_table(facts: "DeviceFacts") -> "Table":
    """What a device is and how it is, one line each; what it does not tell is left out."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in (*_is(facts), *_state(facts)):
        if text:
            table.add_row(name, text)
    return table


def runtimes_table(found: "DeviceProbe") -> "Table":
    """What is set up, what can be, and why others cannot."""
    from rich.table import Table

    installed = {runtime.name: runtime.version for runtime in found.facts.installed_runtimes}
    own = {runtime.name: runtime for runtime in found.facts.found_runtimes}
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("runtime", "runs there", "set up", "in its own Python", ""):
        table.add_column(heading, overflow="fold")
    for runtime in found.support:
        theirs = own.get(runtime.name)
        shown = "" if theirs is None else theirs.version + (f": {theirs.problem}" if theirs.problem else "")
        can = f"yes, {runtime.version}" if runtime.version else "yes" if runtime.possible else "no"
        table.add_row(runtime.name, can, installed.get(runtime.name, "-"), shown or "-", runtime.reason)
    return table


def _is(facts: "DeviceFacts") -> "Iterator[tuple[str, str]]":
    yield "model", " / ".join(filter(None, (facts.model, facts.soc)))
    yield "processor", facts.processor.name
    yield "instructions", ", ".join(facts.processor.features) or "none that matter here"
    memory = facts.memory
    if memory.total_bytes is not None:
        available = "" if memory.available_bytes is None else f"{_mib(memory.available_bytes)} available of "
        swap = f", {_mib(memory.swap_bytes)} swap" if memory.swap_bytes else ", no swap"
        yield "memory", f"{available}{_mib(memory.total_bytes)}{swap}"
    disk = facts.disk
    free = "unknown space" if disk.free_bytes is None else f"{_mib(disk.free_bytes)}"
    rights = "may write and run programs"
    if not disk.executable:
        reason = f" ({disk.problem})" if disk.problem else ""
        rights = f"{'nothing can be run there' if disk.writable else 'not writable'}{reason}"
    yield "disk", f"{free} free in {disk.path}, {rights}"
    patch = facts.android and facts.android.security_patch
    sdk = f" (SDK {facts.android.sdk})" if facts.android and facts.android.sdk else ""
    yield "system", f"{facts.os or 'unknown'}{sdk}{f', patch of {patch}' if patch else ''}"
    yield "build", (facts.android and facts.android.fingerprint) or ""
    programs = "" if facts.userland == facts.machine else f", programs are {facts.userland}"
    yield "kernel", f"{facts.kernel} {facts.machine}{programs}"
    yield "libc", str(facts.libc) if facts.libc else "unknown"
    if facts.python is None:
        yield "Python", facts.python_problem
    else:
        numpy = f", numpy {facts.python.numpy_version}" if facts.python.numpy_version else ", without numpy"
        yield "Python", f"{facts.python.version} ({facts.python.path}){numpy}"
    yield "benchmark_model", ", ".join(facts.benchmark_models)


def _state(facts: "DeviceFacts") -> "Iterator[tuple[str, str]]":
    from edgekit.devices.probe_texts import flag_names

    clocks = facts.clocks
    if clocks.now_mhz is not None:
        top = f" of {clocks.max_mhz:,.0f}" if clocks.max_mhz else ""
        governor = f", governor {' + '.join(clocks.governors)}" if clocks.governors else ""
        yield "clock", f"{clocks.now_mhz:,.0f}{top} MHz{governor}"
    yield "temperature", "" if facts.temperature_c is None else f"{facts.temperature_c:.1f} °C"
    if facts.throttle_flags is not None:
        now, ever = flag_names(facts.throttle_flags)
        words = ", ".join(now).replace("_", " ") or "nothing"
        since = f"; since start: {', '.join(ever).replace('_', ' ')}" if ever else ""
        yield "throttled", f"now: {words}{since}"
    elif facts.throttle_events is not None:
        yield "throttled", f"{facts.throttle_events:,} times since start"
    if battery := facts.battery:
        parts = (
            None if battery.level_pct is None else f"{battery.level_pct:.0f}%",
            None if battery.temperature_c is None else f"{battery.temperature_c:.1f} °C",
            None if battery.powered is None else "powered" if battery.powered else "not powered",
        )
        yield "battery", ", ".join(filter(None, parts))
    if facts.thermal_status is not None:
        yield "thermal", _THERMAL[min(facts.thermal_status, len(_THERMAL) - 1)]
    if facts.load_average:
        yield "load", " ".join(f"{load:.2f}" for load in facts.load_average)
    if facts.uptime_s is not None:
        yield "up for", f"{facts.uptime_s / 3600:,.1f} hours"


def _mib(size_bytes: int) -> str:
    return (
        f"{size_bytes / _MIB / 1024:,.1f} GiB"
        if size_bytes >= 10240 * _MIB
        else f"{size_bytes // _MIB:,} MiB"
    )
