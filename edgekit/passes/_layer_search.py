"""Changes of a quantized file, layer by layer, each kept where samples held back come nearer to the float model."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edgekit.passes._layers import Change, Layer, Twins, snr_db
from edgekit.tensor import Array

Progress = Callable[[int, int], None]
# The change of a layer; the twins hold the changes kept so far.
ChangeOf = Callable[[Twins, Layer], Change | None]


@dataclass(frozen=True)
class Searched:
    """The changed file, and the SNR in dB of its worst output before and after.

    Of all ``layers`` so many were ``tried`` before the time was over, and so many ``kept`` their change.
    """

    model: bytes
    snr_before_db: float
    snr_after_db: float
    layers: int
    tried: int
    kept: int


@dataclass(frozen=True)
class LayerSearch:
    """A pass that tries one change in every convolution and fully connected layer, from the first to the last.

    ``begin`` takes the twins, the calibration samples and the seed, and says what each layer is to get.
    """

    begin: Callable[[Twins, Mapping[str, Array], int], ChangeOf]

    def __call__(
        self,
        twins: Twins,
        *,
        calibration: Mapping[str, Array],
        held_back: Mapping[str, Array],
        seed: int = 0,
        seconds: float = float("inf"),
        progress: Progress | None = None,
    ) -> Searched:
        """Run it.

        Args:
            twins: The float file, and the one with integer weights and activations that was made from it.
            calibration: Samples that changes are chosen by, by input name: ``{"x": (256, 32, 32, 3)}``.
            held_back: Other samples; a layer keeps its change only where that brings these outputs nearer.
            seed: Chooses positions of large images.
            seconds: No layer is begun after so long.
            progress: Called with the number of layers done and of all.

        Returns:
            The file with what was kept.
        """
        change_of = self.begin(twins, calibration, seed)
        started, layers = time.monotonic(), twins.layers
        exact = list(twins.float_probe.outputs(held_back))
        before = best = snr_db(twins.probe, held_back, exact)
        current, tried, kept = twins, 0, dict[int, Change]()
        for number, layer in enumerate(layers):
            if time.monotonic() - started > seconds:
                break
            if progress:
                progress(number, len(layers))
            tried += 1
            change = change_of(current, layer)
            if change is None:
                continue
            changed = twins.changed({**kept, layer.position: change})
            snr = snr_db(changed.probe, held_back, exact)
            if snr > best:
                current, best = changed, snr
                kept[layer.position] = change
        return Searched(current.quantized, before, best, len(layers), tried, len(kept))
