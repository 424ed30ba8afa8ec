"""How near a quantized file is before a final softmax or sigmoid, where nothing saturates yet."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edgekit.artifact import Artifact, Format, align
from edgekit.passes._layers import Probe, worst_snr_db
from edgekit.passes._layers_onnx import OnnxProbe
from edgekit.passes._layers_tflite import TFLiteProbe
from edgekit.passes.add_signature import add_signature
from edgekit.tensor import Array, difference

_MOST_DB = 100.0


def logits_snr_db(original: Artifact, quantized: Artifact, inputs: Mapping[str, Array]) -> float:
    """The SNR in dB of what goes into a final softmax or sigmoid; of the outputs themselves where there is none.

    Args:
        original: The float file, ``.tflite`` or ``.onnx``.
        quantized: One that was made from it, of the same format.
        inputs: Samples by the names of the original's inputs: ``{"image": (64, 32, 32, 3)}``.

    Returns:
        That of the worst output over all samples.

    Raises:
        ModelError: The runtime cannot run one of the files.
    """
    return worst_snr_db(*_outputs(original, quantized, inputs))


def logits_snrs_db(
    original: Artifact, quantized: Artifact, inputs: Mapping[str, Array]
) -> NDArray[np.float64]:
    """The same for each sample by itself, at most 100 dB: (64,)."""
    exact, measured = _outputs(original, quantized, inputs)
    return np.array(
        [
            min(_MOST_DB, *(difference(row[name], other[name]).snr_db for name in row))
            for row, other in zip(exact, measured, strict=True)
        ]
    )


def _outputs(
    original: Artifact, quantized: Artifact, inputs: Mapping[str, Array]
) -> tuple[list[dict[str, Array]], list[dict[str, Array]]]:
    """What both give, sample by sample, by the names of the original's outputs."""
    names = align(original.inputs, quantized.inputs)
    twins = align(original.outputs, quantized.outputs)
    given = {names[name]: values for name, values in inputs.items()}
    measured = ({name: row[twins[name]] for name in twins} for row in _probe(quantized).outputs(given))
    return list(_probe(original).outputs(inputs)), list(measured)


def _probe(artifact: Artifact) -> Probe:
    content = artifact.path.read_bytes()
    return (
        OnnxProbe(content, {}) if artifact.format is Format.ONNX else TFLiteProbe(add_signature(content), {})
    )
