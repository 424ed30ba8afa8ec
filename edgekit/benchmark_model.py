"""Google's ``benchmark_model``, where a device has it: run beside edgekit's own measurement, its text read.

It prints averages and no single runs, so its numbers are shown and never judged.
"""

import re
import shlex
from dataclasses import asdict, dataclass
from typing import Any

from edgekit.devices import remote_files
from edgekit.devices.shell import Shell
from edgekit.errors import DeviceError

_PLACES = (
    "/data/local/tmp/benchmark_model",
    "/usr/local/bin/benchmark_model",
    "/usr/bin/benchmark_model",
)
_FIND = 'for p in "$@"; do [ -x "$p" ] && echo "$p" && exit 0; done; command -v benchmark_model; exit 0'
_SECONDS = 3.0
_DEADLINE_S = 300.0
_TIMINGS = re.compile(
    r"Inference timings in us: Init: (?P<init>[\d.e+]+), First inference: (?P<first>[\d.e+]+), "
    r"Warmup \(avg\): (?P<warmup>[\d.e+]+), Inference \(avg\): (?P<mean>[\d.e+]+)"
)
_RUNS = re.compile(r"count=(?P<count>\d+)\b(?P<rest>.*)")
_PEAK = re.compile(r"Overall peak memory footprint \(MB\) via periodic monitoring: (?P<peak>[\d.e+]+)")


@dataclass(frozen=True)
class BenchmarkModelResult:
    """What the tool printed. ``program_sha256`` stands for its version, which it does not tell."""

    program: str
    program_sha256: str | None
    init_ms: float
    first_inference_ms: float
    mean_ms: float
    min_ms: float | None
    max_ms: float | None
    median_ms: float | None
    runs: int | None
    peak_memory_mb: float | None

    def describe(self) -> dict[str, Any]:
        """The result as it stands in JSON documents."""
        return asdict(self)


def find(shell: Shell, asked: str | None = None) -> str | None:
    """Where a device has the program; None where it has none.

    Raises:
        DeviceError: The link is lost.
    """
    found = shell.script(_FIND, *([asked] if asked else _PLACES)).text.splitlines()
    return found[0] if found else None


def run(shell: Shell, program: str, model: str, threads: int) -> BenchmarkModelResult:
    """Let the tool measure a model that lies on the device.

    Raises:
        DeviceError: It failed, or printed something else than it is known to print.
    """
    words = [program, f"--graph={model}", f"--num_threads={threads}", f"--min_secs={_SECONDS:g}"]
    done = shell.run(*words, "--report_peak_memory_footprint=true", deadline_s=_DEADLINE_S)
    # The tool logs to either stream, depending on its build.
    return parse(
        f"{done.text}\n{done.errors}", program=program, program_sha256=remote_files.sha256(shell, program)
    )


def parse(text: str, *, program: str, program_sha256: str | None) -> BenchmarkModelResult:
    """Read the tool's text: times are microseconds there, milliseconds here.

    Raises:
        DeviceError: The text has no timings.
    """
    timings = _TIMINGS.search(text)
    if timings is None:
        raise DeviceError(
            "EK865",
            f"{shlex.quote(program)} printed no timings.",
            "Run it by hand on the device; builds from TensorFlow 2.4 on print them.",
            detail=text,
        )
    runs = list(_RUNS.finditer(text))
    # The last line of counts is that of the timed runs; the one before is the warm-up.
    last = runs[-1] if runs else None
    numbers = dict(re.findall(r"\b(min|max|median)=([\d.e+]+)", last["rest"])) if last else {}
    peak = _PEAK.search(text)

    def milliseconds(name: str) -> float | None:
        return float(numbers[name]) / 1e3 if name in numbers else None

    return BenchmarkModelResult(
        program,
        program_sha256,
        float(timings["init"]) / 1e3,
        float(timings["first"]) / 1e3,
        float(timings["mean"]) / 1e3,
        milliseconds("min"),
        milliseconds("max"),
        milliseconds("median"),
        int(last["count"]) if last else None,
        float(peak["peak"]) if peak else None,
    )
