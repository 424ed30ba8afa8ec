"""How near a quantized file is before a final softmax or sigmoid, where nothing saturates yet."""

from collections.abc import Mapping

import numpy as np

from edgekit.artifact import Artifact, Format, align
from edgekit.passes._layers import Probe
from edgekit.passes._layers_onnx import OnnxProbe
from edgekit.passes._layers_tflite import TFLiteProbe
from edgekit.passes.add_signature import add_signature
from edgekit.tensor import Array, difference


def logits_snr_db(original: Artifact, quantized: Artifact, inputs: Mapping[str, Array]) -> float:
    """The SNR in dB of what goes into a final softmax or sigmoid; of the outputs themselves where there is none.

    Args:
        original: The float file, ``.tflite`` or ``.onnx``.
        quantized: One that was made from it, of the same format.
        inputs: Samples by the names of the original's inputs: ``{"image": (64, 32, 32, 3)}``.

    Returns:
        That of the worst output.

    Raises:
        ModelError: The runtime cannot run one of the files.
    """
    names = align(original.inputs, quantized.inputs)
    twins = align(original.outputs, quantized.outputs)
    exact, measured = (
        list(_probe(artifact).outputs(samples))
        for artifact, samples in (
            (original, inputs),
            (quantized, {names[name]: values for name, values in inputs.items()}),
        )
    )
    return min(
        difference(
            np.array([row[name] for row in exact]), np.array([row[twins[name]] for row in measured])
        ).snr_db
        for name in exact[0]
    )


def _probe(artifact: Artifact) -> Probe:
    content = artifact.path.read_bytes()
    return (
        OnnxProbe(content, {}) if artifact.format is Format.ONNX else TFLiteProbe(add_signature(content), {})
    )
