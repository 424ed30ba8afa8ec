"""ONNX Runtime's quantization tools, on ``.onnx`` files."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from edgekit import onnx_model
from edgekit.artifact import Format
from edgekit.engines import Job
from edgekit.errors import EdgekitError, ModelError
from edgekit.findings import Finding
from edgekit.recipe import Mode, Recipe
from edgekit.sampling import batch_size, in_batches
from edgekit.tensor import Array

if TYPE_CHECKING:
    from onnx import ModelProto

SOURCE_FORMATS = frozenset({Format.ONNX})
OUTPUT_FORMAT = Format.ONNX


def refuses(recipe: Recipe) -> str:
    """Why its tools cannot follow the recipe."""
    if any(rule.precision.mode is not Mode.FLOAT32 for rule in recipe.rules):
        return "ONNX Runtime's quantizer mixes one precision with float32 only"
    if recipe.default.name == "dynamic_wi4_afp32":
        return "ONNX Runtime has no dynamic quantization to 4 bits (weight_only_wi4_afp32 is MatMulNBits)"
    if recipe.default.mode is Mode.FLOAT32:
        return "the recipe's base is float32"
    return ""


def quantize(job: Job) -> list[Finding]:
    """Quantize a float ``.onnx`` that ``prepare_onnx`` has written.

    Raises:
        ModelError: The tools fail on this model.
    """
    try:
        with _silence(), TemporaryDirectory(prefix="edgekit-") as folder:
            model = onnx_model.load(job.source.path)
            quantized = _QUANTIZERS[job.recipe.default.mode](model, job, Path(folder))
            onnx_model.save(quantized, job.output, named=job.source.path)
    except (OSError, EdgekitError):
        raise
    except Exception as error:
        raise ModelError(
            "EK312",
            f"ONNX Runtime cannot quantize {job.source.path.name} by {job.recipe.name}.",
            "Try another recipe, or keep the layer that -v names in float with --keep-float.",
            detail=f"{type(error).__name__}: {error}",
        ) from error
    return []


def _kept_float(model: "ModelProto", recipe: Recipe) -> list[str]:
    return [
        node.name
        for node in model.graph.node
        if recipe.precision_of(node.op_type, [node.name, *node.output]).mode is Mode.FLOAT32
    ]


def _static(model: "ModelProto", job: Job, folder: Path) -> "ModelProto":
    """Quantize-dequantize pairs with per-channel weights; int8 activations are the portable choice."""
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    precision = job.recipe.default
    output = folder / "static.onnx"
    quantize_static(
        model,
        output,
        _Reader(job),
        quant_format=QuantFormat.QDQ,
        per_channel=not job.recipe.is_per_tensor,
        activation_type=QuantType.QInt16 if precision.activation_bits == 16 else QuantType.QInt8,
        weight_type=QuantType.QInt4 if precision.weight_bits == 4 else QuantType.QInt8,
        nodes_to_exclude=_kept_float(model, job.recipe),
        extra_options={
            "ActivationSymmetric": precision.activation_bits == 16,
            "TensorQuantOverrides": {
                name: [{"rmin": np.float32(low), "rmax": np.float32(high)}]
                for name, (low, high) in job.ranges.items()
            },
        },
    )
    return onnx.load(output)


def _dynamic(model: "ModelProto", job: Job, folder: Path) -> "ModelProto":
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    output = folder / "dynamic.onnx"
    quantize_dynamic(
        model,
        output,
        per_channel=not job.recipe.is_per_tensor,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=_kept_float(model, job.recipe),
    )
    return onnx.load(output)


def _weight_only(model: "ModelProto", job: Job, folder: Path) -> "ModelProto":
    """Blockwise integers for the constant side of matrix products (the operator MatMulNBits)."""
    del folder
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(
        model,
        bits=job.recipe.default.weight_bits,
        block_size=32,
        is_symmetric=True,
        nodes_to_exclude=_kept_float(model, job.recipe),
    )
    quantizer.process()
    return quantizer.model.model


def _float16(model: "ModelProto", job: Job, folder: Path) -> "ModelProto":
    del folder
    from onnxruntime.quantization.onnx_model import ONNXModel
    from onnxruntime.transformers.float16 import convert_float_to_float16

    converted = convert_float_to_float16(
        model, keep_io_types=True, node_block_list=_kept_float(model, job.recipe)
    )
    # It puts its casts at the end of the list of nodes, where the standard forbids them.
    ordered = ONNXModel(converted)
    ordered.topological_sort()
    return ordered.model


_QUANTIZERS = {
    Mode.STATIC: _static,
    Mode.DYNAMIC: _dynamic,
    Mode.WEIGHT_ONLY: _weight_only,
    Mode.FLOAT16: _float16,
}


class _Reader:
    """Hands calibration samples to ONNX Runtime, as many at a time as the model takes."""

    def __init__(self, job: Job) -> None:
        self._samples = in_batches(job.calibration, batch_size(job.source))

    def get_next(self) -> dict[str, Array] | None:
        """The next samples, None after the last."""
        return next(self._samples, None)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the tools' advice about pre-processing, which has been followed, off the terminal."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
