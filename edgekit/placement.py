"""What of a model runs where it should, as findings: in fast kernels, on a GPU, or on a library's accelerator."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from edgekit.findings import Finding, Level
from edgekit.interleaved import Delegate

_MOST_REASONS = 3
# Tried with single operators: later versions of Sin, MaxPool, Elu, GlobalAveragePool and others stay on the CPU.
_OLDER_OPSET = (
    "Many of ONNX Runtime's kernels for GPUs end at opset 21: export with that one where it is later."
)


def findings(
    opened: Mapping[str, Any], model: str, runtime: str, delegate: Delegate | None, *, xnnpack: bool = True
) -> Iterator[Finding]:
    """What was not accelerated, and what stands in for a GPU.

    Args:
        opened: The worker's reply to "open".
        model: What messages call the model.
        runtime: The runtime that ran it.
        delegate: What was asked for besides the CPU.
        xnnpack: Whether XNNPACK was to be used where there is no other delegate.
    """
    accelerator = opened.get("accelerator") or {}
    if str(accelerator.get("type")).startswith("CPU"):
        yield Finding(
            "EK543",
            f"{model}: the GPU is {accelerator['name']}, which the processor plays.",
            "Its results count, its latency does not: install the driver of the real GPU.",
        )
    warned = accelerator.get("warnings")
    if warned:
        yield Finding(
            "EK545",
            f"{model}: the accelerator warns that shapes do not fit in {len(warned)} of its kernels: {warned[0]}",
            "Take its outputs for wrong: edgekit debug --delegate gpu names the operators.",
        )
    placement = opened["placement"]
    if placement is None:
        text = f"{model}: {runtime} does not tell which operators run in fast kernels."
        yield Finding("EK510", text, "", Level.NOTE)
        return
    if delegate is None and not xnnpack:
        return
    who = "XNNPACK" if delegate is None else delegate.name
    slow = Counter(op["op"] for op in placement["ops"] if op["accelerated"] is False)
    listed = ", ".join(f"{count} {op}" for op, count in slow.most_common(5))
    if accelerator.get("outside"):
        listed = "; ".join(accelerator["outside"][:_MOST_REASONS])
    if not slow and all(op["accelerated"] for op in placement["ops"]):
        return
    advice = _OLDER_OPSET if runtime.startswith("onnxruntime") else ""
    if opened["delegate"] == "none":
        yield Finding(
            "EK511",
            f"{model}: {who} took no operator: {listed}.",
            advice or "See edgekit inspect --ops for their types.",
        )
        return
    share = placement["accelerated_pct"]
    part = "a part of the operators" if share is None else f"{share:g}% of the operators"
    outside = f"; outside: {listed}" if listed else ""
    level = Level.NOTE if delegate is None else Level.WARNING
    yield Finding("EK512", f"{model}: {who} took {part}{outside}.", advice, level)
