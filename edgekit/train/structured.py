"""Structured pruning as a method of training: channels are removed first, then what is left is trained."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import UsageError
from edgekit.findings import Finding, Level
from edgekit.train.batch_norm import refresh_statistics
from edgekit.train.channel_pruning import ChannelOptions, Ranking, unreachable, without
from edgekit.train.channel_scores import Samples, channel_scores
from edgekit.train.channels import Channels, Flags
from edgekit.train.exports import calibration, export, exported
from edgekit.train.feeding import Feed
from edgekit.train.graph import Graph
from edgekit.train.methods import Context, Prepared

_SAMPLES = 1024
_TAYLOR_BATCH = 32
_STATISTICS_BATCH = 128
_MOMENTUM = 0.9
_ATTEMPTS = 8


@dataclass(frozen=True)
class _Reached:
    """What a budget led to: the channels that stay, and how much of what was asked for is left."""

    keep: Flags
    kind: str
    target: float
    before: float
    after: float

    def describe(self) -> dict[str, Any]:
        return {"kind": self.kind, "target": self.target, "before": self.before, "after": self.after}


def prepare_structured(model: Any, context: Context) -> Prepared:
    """The model without its least important channels, within the budget of the job.

    With ``remaining`` steps to come, this one included, it goes as far as leaves an equal factor for each.
    """
    channels, ranking = _ranked(model, context)
    reached = _by_size(channels, ranking, context) if context.job.options["target_size"] else None
    reached = reached or _by_macs(channels, ranking, context)
    everything = np.ones_like(reached.keep)
    report = {
        "budget": reached.describe(),
        "layers": _layers(channels, reached.keep),
        "pinned": channels.pinned,
        "parameters": {"before": channels.parameters(everything), "after": channels.parameters(reached.keep)},
        "macs": {"before": channels.macs(everything), "after": channels.macs(reached.keep)},
    }
    ends = ("an output of the model", "an input of the model")
    unknown = {name: reason for name, reason in channels.pinned.items() if reason not in ends}
    findings = []
    if unknown:
        listed = "; ".join(f"{name} because of {reason}" for name, reason in unknown.items())
        findings.append(Finding("EK747", f"All channels stay in {listed}.", level=Level.NOTE))
    pruned = without(channels, reached.keep)
    feed = _some(pruned, context)
    refresh_statistics(pruned, (x for x, _y in feed.epoch(_STATISTICS_BATCH, context.job.seed)))
    finish = _quick_statistics(pruned)
    return Prepared(pruned, finish=finish, report=lambda _model: report, findings=findings)


def _quick_statistics(model: Any) -> Callable[[Any], Any]:
    """Let means and variances follow within the few steps of a short training; gives what undoes it at the end."""
    norms = [layer for layer in model._flatten_layers() if hasattr(layer, "moving_mean")]
    usual = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = min(layer.momentum, _MOMENTUM)

    def finish(fitted: Any) -> Any:
        for layer, momentum in zip(norms, usual, strict=True):
            layer.momentum = momentum
        return fitted

    return finish


def prepare_candidates(model: Any, context: Context) -> Prepared:
    """Nothing to train: the model pruned to several shares of its MACs, each as a file to be measured."""
    options = context.job.options
    channels, ranking = _ranked(model, context)
    samples = calibration(context.train)
    whole = channels.macs(ranking.keep(0))
    precision, eight_bit = options["precision"], options["eight_bit"]
    export(model, exported(context.job, "whole", precision), precision, samples, eight_bit)
    found = []
    for share in options["candidates"]:
        count = ranking.first_within(channels.macs, share * whole)
        keep = ranking.keep(ranking.most if count is None else count)
        name = f"{share:.4f}"
        pruned = without(channels, keep)
        export(pruned, exported(context.job, name, precision), precision, samples, eight_bit)
        found.append({"name": name, "macs": channels.macs(keep)})
    return Prepared(model, report=lambda _model: {"macs": whole, "candidates": found})


def _ranked(model: Any, context: Context) -> tuple[Channels, Ranking]:
    given = context.job.options
    options = ChannelOptions(
        given["criterion"],
        given["scope"],
        given["min_channels"],
        given["min_share"],
        given["multiple"],
        tuple(given["exclude"]),
    )
    channels = Channels(Graph(model), options.exclude)
    if not channels.removable.any():
        listed = "; ".join(f"{name} because of {reason}" for name, reason in channels.pinned.items())
        raise UsageError("EK745", f"No channel of the model may be removed: {listed or 'it has none'}.")
    if options.criterion == "taylor" and context.job.strategy:
        hint = "Give another --criterion, or leave --strategy out."
        raise UsageError("EK746", "The criterion taylor is computed on one device, without a strategy.", hint)
    samples = _samples(model, context) if options.criterion == "taylor" else None
    scores = channel_scores(channels, options.criterion, samples)
    cost = channels.parameters if given["target_size"] else channels.macs
    return channels, Ranking(channels, scores, options, cost)


def _samples(model: Any, context: Context) -> Samples:
    feed = _some(model, context)
    batches = feed.epoch(_TAYLOR_BATCH, context.job.seed)
    return Samples(batches, context.loss)


def _some(model: Any, context: Context) -> Feed:
    """Some of the training samples, from all over the data."""
    wanted = min(_SAMPLES, context.train.count)
    rows = np.unique(np.linspace(0, context.train.count - 1, wanted).astype(np.intp))
    names = tuple(spec.name for spec in model.inputs)
    return Feed(context.train.subset([int(row) for row in rows]), names)


def _by_macs(channels: Channels, ranking: Ranking, context: Context) -> _Reached:
    options = context.job.options
    before = channels.macs(np.ones(channels.count, np.bool_))
    target = _absolute(options["target_macs"], before)
    count = ranking.first_within(channels.macs, _this_step(before, target, options))
    if count is None:
        least = f"{channels.macs(ranking.keep(ranking.most)):,}"
        raise unreachable("MACs", f"{target:,.0f}", least, channels.pinned)
    keep = ranking.keep(count)
    return _Reached(keep, "macs", target, before, channels.macs(keep))


def _by_size(channels: Channels, ranking: Ranking, context: Context) -> _Reached:
    """Bytes of a real export; how far the number of parameters misjudges them is learnt from each attempt."""
    options = context.job.options
    samples = calibration(context.train)
    each = {"float32": 4, "int8": 1}.get(options["precision"], 0.5)

    def measured(keep: Flags) -> int:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "candidate.tflite"
            export(without(channels, keep), path, options["precision"], samples, options["eight_bit"])
            return path.stat().st_size

    def estimated(keep: Flags) -> float:
        return each * channels.parameters(keep)

    keep = np.ones(channels.count, np.bool_)
    before = measured(keep)
    target = _absolute(options["target_size"], before)
    limit = _this_step(before, target, options)
    best = _fitting(ranking, measured, estimated, limit=limit, offset=before - estimated(keep))
    if best is None:
        least = measured(ranking.keep(ranking.most))
        raise unreachable("bytes", f"{target:,.0f}", f"{least:,}", channels.pinned)
    return _Reached(best[0], "size", target, before, best[1])


def _fitting(
    ranking: Ranking,
    measured: Callable[[Flags], int],
    estimated: Callable[[Flags], float],
    *,
    limit: float,
    offset: float,
) -> tuple[Flags, int] | None:
    """The largest export found that is within the limit, with its bytes; None where the smallest is not."""
    best: tuple[Flags, int] | None = None
    for _attempt in range(_ATTEMPTS):
        count = ranking.first_within(estimated, limit - offset)
        keep = ranking.keep(ranking.most if count is None else count)
        size = measured(keep)
        if size <= limit and (best is None or size > best[1]):
            best = keep, size
        elif best is not None or count is None:
            break
        offset = size - estimated(keep)
    return best


def _absolute(target: float, before: float) -> float:
    return target * before if target < 1 else target


def _this_step(before: float, target: float, options: Mapping[str, Any]) -> float:
    """How far this step goes: the same factor for each that is left."""
    remaining = int(options.get("remaining", 1))
    return target if target >= before else before * (target / before) ** (1 / remaining)


def _layers(channels: Channels, keep: Flags) -> list[dict[str, Any]]:
    """Output channels of each layer that makes some, before and after."""
    return [
        {"name": axis.layer.name, "before": len(numbers), "after": int(keep[numbers].sum())}
        for axis, numbers in channels.of.items()
        if axis.makes
    ]
