"""Quantization-aware training."""

from typing import Any

import keras

from edgekit.findings import Finding, Level
from edgekit.train.fake_quant import FakeQuant, FakeQuantWeights
from edgekit.train.kernels import Kernel
from edgekit.train.methods import Context, Prepared
from edgekit.train.preserving import Kept, Preserve, StructureKept, structured
from edgekit.train.qat import QATOptions, apply_qat, float_layers
from edgekit.train.settle import settle

_NAMED = 8


def prepare(model: Any, context: Context) -> Prepared:
    """Rounding in the model, ranges frozen for the last epochs."""
    options = dict(context.job.options)
    freeze = int(options.pop("freeze_epochs", 0))
    preserve = options.pop("preserve", "auto")
    patterns = {name: tuple(options.get(name, ())) for name in ("exclude", "eight_bit")}
    chosen = QATOptions(**{**options, **patterns})
    quantized = apply_qat(model, chosen)
    kept, findings = _kept(quantized, preserve)
    findings = [*_bits_and_floats(quantized, chosen), *findings]
    callbacks: list[Any] = [QuantizerFreeze(context.job.epochs - freeze)] if freeze else []
    if kept:
        callbacks.insert(0, StructureKept(kept))
    described = [entry.describe() for entry in kept]
    return Prepared(
        quantized,
        callbacks,
        finish=_settled,
        report=lambda model: {**_report(model), "kept": described},
        findings=findings,
        export="trained",
    )


def _bits_and_floats(quantized: Any, options: QATOptions) -> list[Finding]:
    """What stays float, and what has more bits than were asked for."""
    findings = [_stays_float(kept)] if (kept := float_layers(quantized)) else []
    wrappers = (layer for layer in quantized.layers if isinstance(layer, FakeQuantWeights))
    wider = [layer.name for layer in wrappers if layer.bits != options.weight_bits]
    wider = [name for name in wider if not options.widens(name)]
    if wider:
        message = f"TFLite has no kernel of 4 bits for these layers, which get weights of 8 bits: {', '.join(wider)}."
        findings.append(Finding("EK742", message))
    return findings


def _stays_float(names: list[str]) -> Finding:
    named = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    message = f"{len(names)} layers stay float32: {named}."
    return Finding("EK740", message, "TFLite converts values to float32 and back around each of them.")


def _kept(model: Any, preserve: Preserve) -> tuple[tuple[Kept, ...], list[Finding]]:
    """Kernels with zeros or clusters to keep; clusters get one scale, which makes one integer of each value."""
    wrappers = {layer.name: layer for layer in model.layers if isinstance(layer, FakeQuantWeights)}
    kernels = (Kernel(name, wrapper.layer, wrapper.layer.kernel, None) for name, wrapper in wrappers.items())
    kept = structured(kernels, preserve)
    for entry in kept:
        if entry.clusters:
            wrappers[entry.kernel.name].one_scale()
    if not kept:
        return kept, []
    clusters = [entry.kernel.name for entry in kept if entry.clusters]
    pruned = [entry.kernel.name for entry in kept if not entry.clusters]
    parts = [f"zeros stay zero in {', '.join(pruned)}"] if pruned else []
    parts += (
        [f"equal weights stay equal, with one scale for all, in {', '.join(clusters)}"] if clusters else []
    )
    message = f"The structure is kept: {'; '.join(parts)}."
    return kept, [Finding("EK758", message, "--preserve none lets all weights move.", Level.NOTE)]


def _settled(model: Any) -> Any:
    settle(model)
    return model


def _report(model: Any) -> dict[str, Any]:
    wrapped = [layer for layer in model.layers if isinstance(layer, FakeQuantWeights)]
    return {"quantized_layers": [layer.name for layer in wrapped], "float_layers": float_layers(model)}


class QuantizerFreeze(keras.callbacks.Callback):  # type: ignore[misc] # Keras has no types
    """Stops the ranges of activations from moving, so that the last epochs train for the rounding that stays.

    Args:
        epoch: The first epoch, counted from 0, whose ranges stand still.
    """

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self._epoch = epoch

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras's signature
        """Freeze when the time has come."""
        if epoch >= self._epoch:
            for layer in self.model._flatten_layers():
                if isinstance(layer, FakeQuant):
                    layer.frozen.assign(1.0)
