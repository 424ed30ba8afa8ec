"""Quantization-aware training."""

from typing import Any

import keras

from edgekit.findings import Finding
from edgekit.train.fake_quant import FakeQuant, FakeQuantWeights
from edgekit.train.methods import Context, Prepared
from edgekit.train.qat import QATOptions, apply_qat, float_layers
from edgekit.train.settle import settle

_NAMED = 8


def prepare(model: Any, context: Context) -> Prepared:
    """Rounding in the model, ranges frozen for the last epochs."""
    options = dict(context.job.options)
    freeze = int(options.pop("freeze_epochs", 0))
    quantized = apply_qat(model, QATOptions(**{**options, "exclude": tuple(options.get("exclude", ()))}))
    callbacks = [QuantizerFreeze(context.job.epochs - freeze)] if freeze else []
    findings = [_stays_float(kept)] if (kept := float_layers(quantized)) else []
    wider = [
        layer.name
        for layer in quantized.layers
        if isinstance(layer, FakeQuantWeights) and layer.bits != options["weight_bits"]
    ]
    if wider:
        message = f"TFLite has no kernel of 4 bits for these layers, which get weights of 8 bits: {', '.join(wider)}."
        findings.append(Finding("EK742", message))
    return Prepared(
        quantized, callbacks, finish=_settled, report=_report, findings=findings, export="trained"
    )


def _stays_float(names: list[str]) -> Finding:
    named = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    message = f"{len(names)} layers stay float32: {named}."
    return Finding("EK740", message, "TFLite converts values to float32 and back around each of them.")


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
