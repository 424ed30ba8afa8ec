"""Channels removed: which of them, so that a budget is kept, and the model without them."""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np

from edgekit.errors import UsageError
from edgekit.tensor import Array
from edgekit.train.channel_scores import Criterion, Samples, Scores, channel_scores
from edgekit.train.channels import Channels, Flags, Ids
from edgekit.train.graph import Call, Graph, Make, copy_layer, copying, unique_names

Scope = Literal["global", "layer"]


@dataclass(frozen=True)
class ChannelOptions:
    """How channels are chosen.

    ``scope`` ranks all channels together (``taylor``: by the change of the loss for each multiply-accumulate, or each
    weight, that is saved), or takes the same share of each layer. Each layer keeps ``min_channels`` and ``min_share``
    of its own at least and, as far as it has so many, a ``multiple``: what one channel changes says little of what
    becomes of a layer that loses nearly all. Layers whose names match ``exclude`` stay as they are.
    """

    criterion: Criterion = "l2"
    scope: Scope = "global"
    min_channels: int = 4
    min_share: float = 0.25
    multiple: int = 4
    exclude: tuple[str, ...] = ()


class Ranking:
    """The order in which channels go, and what is kept when so many of them are to go.

    Args:
        channels: The channels of a model.
        scores: Their importance, ``(channels.count,)``.
        options: Scope, minimum and multiple.
        cost: What a channel has to be worth: ``channels.macs`` or ``channels.parameters``, by what is to be saved.
    """

    def __init__(
        self,
        channels: Channels,
        scores: Scores,
        options: ChannelOptions,
        cost: Callable[[Flags], float] | None = None,
    ) -> None:
        self._options = options
        self._all = np.ones(channels.count, np.bool_)
        units = np.flatnonzero(channels.removable)
        _names, self._group = np.unique(channels.groups[units], return_inverse=True)
        self._sizes = np.bincount(self._group)
        # How many of its own group are more important.
        self._above = np.zeros(len(units), np.int64)
        for group in range(len(self._sizes)):
            members = np.flatnonzero(self._group == group)
            self._above[members[np.argsort(-scores[units[members]], kind="stable")]] = np.arange(len(members))
        self._units = units
        share = (self._above + 0.5) / self._sizes[self._group] if len(units) else self._above
        if options.scope == "layer":
            value = -share
        elif options.criterion == "taylor":
            # A change of the loss has to be worth what it saves: else the cheapest layers are emptied first.
            saved = _saved_by_one(channels, units, self._group, cost or channels.macs)
            value = scores[units] / saved[self._group]
        else:
            value = scores[units]
        self._order = np.argsort(value, kind="stable")

    def keep(self, removed: int) -> Flags:
        """The mask of channels that stay when the ``removed`` least important go, minimum and multiple kept."""
        options = self._options
        gone = np.bincount(self._group[self._order[:removed]], minlength=len(self._sizes))
        least = np.maximum(options.min_channels, np.ceil(options.min_share * self._sizes).astype(np.int64))
        stay = np.maximum(self._sizes - gone, least)
        stay = np.minimum(-(-stay // options.multiple) * options.multiple, self._sizes)
        keep = self._all.copy()
        keep[self._units] = self._above < stay[self._group]
        return keep

    @property
    def most(self) -> int:
        """The number of channels that may be asked to go."""
        return len(self._units)

    def first_within(self, cost: Callable[[Flags], float], limit: float) -> int | None:
        """The smallest number of channels to remove that brings a cost within its limit, None where none does."""
        counts = range(self.most + 1)
        found = bisect_left(counts, 1, key=lambda count: cost(self.keep(count)) <= limit)
        return found if found <= self.most else None


def _saved_by_one(channels: Channels, units: Ids, group: Ids, cost: Callable[[Flags], float]) -> Array:
    """What goes with one channel of each group."""
    keep = np.ones(channels.count, np.bool_)
    whole, saved = cost(keep), []
    for unit in units[np.unique(group, return_index=True)[1]]:
        keep[unit] = False
        saved.append(max(1, whole - cost(keep)))
        keep[unit] = True
    return np.asarray(saved, np.float64)


def prune_channels(
    model: Any,
    *,
    target_macs: float,
    options: ChannelOptions | None = None,
    samples: Samples | None = None,
) -> Any:
    """A new model without the least important channels; train it for a while.

    Args:
        model: A built Functional or Sequential Keras 3 model.
        target_macs: The multiply-accumulates to reach: below 1 a share of the model's own, else a number.
        options: Criterion, scope, minimum and multiple.
        samples: Batches and a loss, for the Taylor criterion.

    Raises:
        ModelError: The model is subclassed.
        UsageError: So few multiply-accumulates cannot be reached.
    """
    options = options or ChannelOptions()
    channels = Channels(Graph(model), options.exclude)
    ranking = Ranking(channels, channel_scores(channels, options.criterion, samples), options)
    everything = channels.macs(ranking.keep(0))
    limit = target_macs * everything if target_macs < 1 else target_macs
    count = ranking.first_within(channels.macs, limit)
    if count is None:
        raise unreachable(
            "MACs", f"{limit:,.0f}", f"{channels.macs(ranking.keep(ranking.most)):,}", channels.pinned
        )
    return without(channels, ranking.keep(count))


def unreachable(what: str, wanted: str, least: str, pinned: Mapping[str, str]) -> UsageError:
    """The refusal of a budget, with the nearest that can be reached."""
    message = f"{wanted} {what} cannot be reached: {least} is the least."
    hint = "Allow more, or lower --min-channels, --min-share and --multiple."
    if pinned:
        listed = "; ".join(f"{name} because of {reason}" for name, reason in list(pinned.items())[:3])
        hint += f" All channels stay in {listed}{' and others' if len(pinned) > 3 else ''}."
    return UsageError("EK745", message, hint)


def without(channels: Channels, keep: Flags) -> Any:
    """The model without the channels that do not stay, with the weights of those that do."""
    return channels.graph.build(_removing(channels, keep))


def _removing(channels: Channels, keep: Flags) -> Make:
    """The answer to ``Graph.build`` that leaves channels out."""
    graph = channels.graph
    plain, names = copying(graph), unique_names(graph)
    made: dict[int, Any] = {}

    def make(call: Call, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        operation = call.operation
        changes = _changes(channels, call, keep) if call.is_layer else {}
        is_cut = call.is_layer and any(axis.layer.operation is operation for axis in channels.of)
        if not changes and not is_cut:
            return plain(call, args, kwargs)
        layer = made.get(id(operation))
        if layer is not None:
            return layer(*args, **kwargs)
        layer = made[id(operation)] = copy_layer(operation, names[id(operation)], **changes)
        result = layer(*args, **kwargs)
        layer.set_weights(channels.cut(operation, keep))
        return result

    return make


def _changes(channels: Channels, call: Call, keep: Flags) -> dict[str, Any]:
    """What is different in a layer's configuration when fewer channels come out of it."""
    layer = call.operation
    width = channels.size(call.outputs[0], keep) if channels.graph.spec(call.outputs[0]).shape[1:] else 0
    if isinstance(layer, keras.layers.Reshape) and layer.target_shape[-1] != -1:
        return {"target_shape": (*layer.target_shape[:-1], width)}
    if hasattr(layer, "filters"):
        return {"filters": width}
    if isinstance(layer, keras.layers.Dense):
        return {"units": width}
    return {}
