"""Profiles a model in a child process, and names its kernels; where that cannot be done, a finding says why."""

import json
import subprocess
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from edgekit.artifact import Artifact
from edgekit.findings import Finding
from edgekit.framework_process import PYTHON
from edgekit.interleaved import BenchmarkOptions
from edgekit.operators import operators
from edgekit.profiling import Node, OperatorTime, Profile, Timed, named

_SECONDS = 2.0
_LEAST_RUNS = 10
_MOST_RUNS = 1000
# The C interface that the child uses is not a public one: another version may have another.
_LITERT = "2.3."

# How XNNPACK calls what it makes of LiteRT's operators; others go by their own name.
_FAMILIES: Mapping[str, tuple[str, ...]] = {
    "CONV_2D": ("Convolution", "Fully Connected"),
    "DEPTHWISE_CONV_2D": ("Convolution",),
    "TRANSPOSE_CONV": ("Deconvolution",),
    "FULLY_CONNECTED": ("Fully Connected", "Dynamic Fully Connected"),
    "BATCH_MATMUL": ("Batch Matrix Multiply",),
    "SUB": ("Subtract",),
    "MUL": ("Multiply",),
    "DIV": ("Divide",),
    "MEAN": ("Mean", "Global Average Pooling"),
    "AVERAGE_POOL_2D": ("Average Pooling", "Global Average Pooling"),
    "LOGISTIC": ("Sigmoid",),
    "RESHAPE": ("Static Reshape", "Copy", "Reshape"),
    "EXPAND_DIMS": ("Static Expand Dims", "Static Reshape", "Copy"),
    "SPLIT": ("Copy", "Split"),
    "SLICE": ("Static Slice", "Slice"),
    "STRIDED_SLICE": ("Static Slice", "Slice"),
    "CONCATENATION": ("Copy", "Concatenate"),
    "PAD": ("Constant Pad",),
    "QUANTIZE": ("Convert",),
    "DEQUANTIZE": ("Convert",),
    "NEG": ("Negate",),
    "ROUND": ("Bankers Rounding",),
    "RSQRT": ("Reciprocal Square Root",),
    "RELU": ("Clamp",),
    "RELU6": ("Clamp",),
    "RELU_N1_TO_1": ("Clamp",),
    "HARD_SWISH": ("HardSwish",),
}


def profile(
    artifact: Artifact, runtime: str, options: BenchmarkOptions
) -> tuple[Profile | None, list[Finding]]:
    """The time of each operator, measured apart from all else; None with a finding where it is not to be had."""
    reason = _why_not(runtime, options)
    if reason:
        return None, [_missing(artifact, reason)]
    request = {
        "runtime": runtime,
        "model": str(artifact.path.absolute()),
        "threads": options.threads,
        "xnnpack": options.xnnpack,
        "seconds": min(_SECONDS, options.seconds),
        "least_runs": _LEAST_RUNS,
        "most_runs": _MOST_RUNS,
    }
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        output = Path(folder) / "profile.json"
        command = [*PYTHON, "edgekit.profiling.child", json.dumps({**request, "output": str(output)})]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=options.deadline_s + _SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return None, [_missing(artifact, f"it did not end within {options.deadline_s:.0f} s")]
        if done.returncode or not output.is_file():
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            return None, [_missing(artifact, f"the profiler failed: {lines[-1]}")]
        answer = json.loads(output.read_text(encoding="utf-8"))
    return _litert(artifact, answer) if runtime == "litert" else _onnxruntime(answer), []


def _why_not(runtime: str, options: BenchmarkOptions) -> str:
    if options.delegate is not None:
        return f"{options.delegate.name} does not tell it"
    if runtime == "onnxruntime":
        return ""
    if runtime != "litert":
        return f"{runtime} has no profiler"
    version = metadata.version("ai-edge-litert")
    return (
        ""
        if version.startswith(_LITERT)
        else f"it is known how to ask LiteRT {_LITERT}x, and this is {version}"
    )


def _missing(artifact: Artifact, reason: str) -> Finding:
    hint = "All else was measured; leave out --per-op."
    return Finding("EK516", f"{artifact.path.name}: no times by operator, because {reason}.", hint)


def _litert(artifact: Artifact, answer: Mapping[str, Any]) -> Profile:
    names = [
        one.names[-1] if one.names else ""
        for one in operators(artifact.path, artifact.format)
        if one.graph == 0
    ]
    groups = answer["groups"]
    # Where the two lists differ, the interpreter has changed the graph: kinds are known, names are not.
    is_same = len(names) == len(groups)
    nodes = [Node(kind, names[place] if is_same else "", group) for place, (kind, group) in enumerate(groups)]
    timed = [Timed(**kernel) for kernel in answer["kernels"]]
    families = {node.kind: _FAMILIES.get(node.kind, (node.kind.replace("_", " ").title(),)) for node in nodes}
    return Profile(
        "LiteRT's profiler, to 1 microsecond", answer["runs"], tuple(named(timed, nodes, families))
    )


def _onnxruntime(answer: Mapping[str, Any]) -> Profile:
    """Nodes of the graph that ONNX Runtime made of the file: fused ones bear the name of the last."""
    found = tuple(
        OperatorTime(event["kind"], event["name"], (event["kind"],), event["mean_us"])
        for event in answer["events"]
    )
    return Profile("ONNX Runtime's profiler", answer["runs"], found)
