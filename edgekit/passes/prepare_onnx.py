"""Make a float ``.onnx`` what ONNX Runtime's quantizers read best.

What they quantize, and what their file is compared with layer by layer, is this model: its nodes have the same names.
"""

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from edgekit import onnx_model
from edgekit.errors import EdgekitError, ModelError
from edgekit.recipe import Mode, Precision

if TYPE_CHECKING:
    from onnx import ModelProto

# Per-channel QuantizeLinear came with opset 13, 4- and 16-bit integers with opset 21.
_QDQ_OPSET = 13
_WIDE_QDQ_OPSET = 21


def prepare_onnx(source: Path, output: Path, precision: Precision, *, batch: int | None = 1) -> None:
    """Write a model with a fixed batch, a recent opset, folded constants and batch norms, and known shapes.

    Args:
        source: The float ``.onnx`` model.
        output: Where the prepared one is written.
        precision: What it will be quantized to; 4- and 16-bit integers need a newer opset.
        batch: The size of the batch axis, None to leave it free.

    Raises:
        ModelError: ONNX Runtime cannot read the model, or nothing upgrades its opset.
    """
    try:
        with TemporaryDirectory(prefix="edgekit-") as folder:
            model = _prepared(source, precision, batch, Path(folder))
        onnx_model.save(model, output, named=source)
    except (OSError, EdgekitError):
        raise
    except Exception as error:
        # Those of onnx and of ONNX Runtime have no common ancestor.
        raise ModelError(
            "EK312",
            f"ONNX Runtime cannot prepare {source.name} for quantization.",
            "Export the model again, with standard operators and a recent opset.",
            detail=f"{type(error).__name__}: {error}",
        ) from error


def _prepared(source: Path, precision: Precision, batch: int | None, folder: Path) -> "ModelProto":
    import onnx
    from onnx import version_converter

    model = onnx_model.load(source)
    onnx_model.make_constant(model)
    onnx_model.bind_batch(model, batch)
    wanted = _WIDE_QDQ_OPSET if _is_wide(precision) else _QDQ_OPSET
    opset = next(entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"})
    if opset < wanted and precision.mode is not Mode.FLOAT16:
        model = version_converter.convert_version(model, wanted)
    model = onnx.shape_inference.infer_shapes(_optimized(model, folder, source))
    _name_nodes(model)
    _flatten_biases(model)
    return model


def _optimized(model: "ModelProto", folder: Path, named: Path) -> "ModelProto":
    """ONNX Runtime's basic optimizations: they stay within standard operators."""
    import onnx
    import onnxruntime

    source, output = folder / "source.onnx", folder / "optimized.onnx"
    onnx_model.save(model, source, named=named)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(output)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    return onnx.load(output)


def _is_wide(precision: Precision) -> bool:
    return precision.mode is Mode.STATIC and (precision.weight_bits, precision.activation_bits) != (8, 8)


def _name_nodes(model: "ModelProto") -> None:
    """Nodes are left out of quantization by name, so each needs one."""
    for index, node in enumerate(model.graph.node):
        if not node.name:
            node.name = f"{node.op_type}_{index}"


def _flatten_biases(model: "ModelProto") -> None:
    """Give biases of Gemm the shape (N,): the quantizer takes (1, N), which means the same, for a matrix."""
    biases = {node.input[2] for node in model.graph.node if node.op_type == "Gemm" and len(node.input) > 2}
    users = Counter(name for node in model.graph.node for name in node.input)
    for tensor in model.graph.initializer:
        if tensor.name in biases and users[tensor.name] == 1 and list(tensor.dims[:-1]) == [1]:
            del tensor.dims[0]
