"""Why quantization costs what it does, told from the noise of the layers, their ranges, and their channels.

The rules, in this order; each speaks of the layer that it fits best:

1. cut off: what a tensor holds on the samples goes beyond what calibration has seen by a tenth of that and more, and
   rounding it makes a fiftieth of the noise or more. The first such tensor of the graph is the cause, those behind
   it follow from it.
2. stretched: the same where a tensor's integers are spread over a range four times as wide as its values on the
   samples, and more. Not so where an operator cannot but write on the grid of what it reads, as pooling does.
3. unbalanced: of a layer with a tenth of the noise or more, the channels of its result, or those that its weights
   read, differ by a factor of 16 and more. One scale has to fit them all, and the narrow ones are left with a few
   steps out of 256.
4. concentrated: a layer has a third of the noise or more. Else the noise is spread over many layers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.layerwise.sensitivity import LayerSensitivity

_CUT_OFF, _STRETCHED, _UNBALANCED = 0.1, 4.0, 16.0
_NOTICED, _SHARE, _CONCENTRATED = 0.02, 0.1, 1 / 3
_TOP = 5


@dataclass(frozen=True)
class Cause:
    """A reason for what quantization costs: its kind, the layer, and a sentence with numbers."""

    kind: str
    layer: str
    text: str

    @property
    def is_calibration(self) -> bool:
        """Whether other calibration data would mend it."""
        return self.kind in {"cut off", "stretched"}

    def describe(self) -> dict[str, Any]:
        """The cause as it stands in JSON documents."""
        return {"kind": self.kind, "layer": self.layer, "text": self.text}


def causes(layers: Sequence[LayerSensitivity]) -> tuple[Cause, ...]:
    """What explains the noise, the most important first; ``layers`` are ranked by their share."""
    order = sorted(layers, key=lambda layer: layer.place)
    found = [*_beyond(order), *_too_wide(order)]
    unbalanced = list(_unbalanced(layers))
    return (*found, *unbalanced[:1], *_shares(layers, named=bool(found or unbalanced)))


def excess(layer: LayerSensitivity) -> float:
    """How many times as wide as what it holds a tensor's range is; 0 where that is not known."""
    if layer.calibrated_range is None or layer.seen_range is None:
        return 0.0
    low, high = layer.seen_range
    # Zero is always on the grid, whether it occurs or not.
    seen = max(high, 0.0) - min(low, 0.0)
    return (layer.calibrated_range[1] - layer.calibrated_range[0]) / seen if seen > 0 else 0.0


def cut_off(layer: LayerSensitivity) -> float:
    """How far a tensor goes beyond its range, as a share of that; 0 where it does not, or that is not known."""
    if layer.calibrated_range is None or layer.seen_range is None:
        return 0.0
    (low, high), (least, most) = layer.calibrated_range, layer.seen_range
    return max(low - least, most - high, 0.0) / (high - low) if high > low else 0.0


def _beyond(order: Sequence[LayerSensitivity]) -> Iterator[Cause]:
    layer = next((one for one in order if cut_off(one) >= _CUT_OFF and one.share_of_noise >= _NOTICED), None)
    if layer is not None and layer.calibrated_range is not None and layer.seen_range is not None:
        yield Cause(
            "cut off",
            layer.name,
            f"calibration has seen {_range(layer.calibrated_range)} in {_named(layer)}, where the data hold "
            f"{_range(layer.seen_range)}: what lies beyond is cut off",
        )


def _too_wide(order: Sequence[LayerSensitivity]) -> Iterator[Cause]:
    ranges = {layer.place: layer.calibrated_range for layer in order}
    wide = (one for one in order if excess(one) >= _STRETCHED and one.share_of_noise >= _NOTICED)
    layer = next((one for one in wide if one.calibrated_range not in map(ranges.get, one.reads)), None)
    if layer is not None and layer.calibrated_range is not None and layer.seen_range is not None:
        yield Cause(
            "stretched",
            layer.name,
            f"calibration has seen {_range(layer.calibrated_range)} in {_named(layer)}, where the data hold "
            f"{_range(layer.seen_range)}: its steps are {excess(layer):.0f} times as coarse as they need to be",
        )


def _unbalanced(layers: Sequence[LayerSensitivity]) -> Iterator[Cause]:
    for layer in layers:
        if layer.share_of_noise < _SHARE:
            return
        is_result = max(layer.activations_noise, default=0.0) >= max(layer.weights_noise, default=0.0)
        result, read = layer.activations_imbalance or 0.0, layer.inputs_imbalance or 0.0
        share = f"{_named(layer)} causes {layer.share_of_noise:.0%} of the noise"
        if is_result and result >= _UNBALANCED:
            text = (
                f"the channels of its result differ in size by a factor of {result:.3g}, and share one scale"
            )
            yield Cause("unbalanced", layer.name, f"{share}: {text}")
        elif not is_result and read >= _UNBALANCED:
            text = f"its weights differ by a factor of {read:.3g} between the channels that it reads, and share a scale"
            yield Cause("unbalanced", layer.name, f"{share}: {text}")


def _shares(layers: Sequence[LayerSensitivity], *, named: bool) -> Iterator[Cause]:
    if not layers or named:
        return
    first = layers[0]
    if first.share_of_noise >= _CONCENTRATED:
        of_weights = max(first.weights_noise, default=0.0) > max(first.activations_noise, default=0.0)
        what = "its weights" if of_weights else "its result"
        yield Cause(
            "concentrated",
            first.name,
            f"{_named(first)} causes {first.share_of_noise:.0%} of the noise, mostly by rounding {what}",
        )
    else:
        top = sum(layer.share_of_noise for layer in layers[:_TOP])
        yield Cause(
            "spread",
            first.name,
            f"the noise is spread over the layers: {_named(first)} causes {first.share_of_noise:.0%} of it, the worst "
            f"{min(_TOP, len(layers))} together {top:.0%}",
        )


def short(name: str) -> str:
    """The first of the names that a converter has put together: ``conv/Relu`` of ``conv/Relu;conv/BiasAdd``."""
    return name.split(";", maxsplit=1)[0]


def _named(layer: LayerSensitivity) -> str:
    return f"{layer.operator} {short(layer.name)!r}"


def _range(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.3g} to {ends[1]:.3g}"
