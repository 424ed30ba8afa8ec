"""What a model consists of: operators, parameters, multiply-accumulates, and where its bytes are."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit import flatbuffer, tensorflow_process, torch_process
from edgekit.artifact import Artifact, Format
from edgekit.errors import ModelError
from edgekit.findings import Finding, Level
from edgekit.formats import open_artifact
from edgekit.inspection import Inspection, OperatorFacts, TensorFacts
from edgekit.macs import macs
from edgekit.operators import Operand, Operator, operators, quantization_of
from edgekit.tensor import element_count


def inspect(model: str | Path) -> Inspection:
    """Look into a model file.

    A Keras model, a SavedModel or a program of PyTorch is seen through the float ``.tflite`` file that it becomes.

    Where that is refused, inputs and outputs are shown alone, and a finding says why.

    Raises:
        ModelError: The model is unreadable.
        DependencyError: TensorFlow or PyTorch is needed and not installed.
    """
    artifact = open_artifact(model)
    if artifact.format in (Format.TFLITE, Format.ONNX):
        return _inspect(artifact, artifact, ())
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        converted = Path(folder) / "float.tflite"
        try:
            notes = _convert(artifact, converted)
        except ModelError as error:
            # What goes in and out is known all the same.
            return Inspection(artifact, (), (), None, None, (Finding(error.code, error.message, error.hint),))
        message = "Operators, parameters and MACs are those of the float .tflite file that the model becomes."
        through = Finding("EK130", message, level=Level.NOTE)
        return _inspect(artifact, open_artifact(converted), (through, *notes))


def _convert(artifact: Artifact, output: Path) -> tuple[Finding, ...]:
    """Make the float ``.tflite`` file; gives what was noticed on the way."""
    if artifact.format is Format.PYTORCH:
        torch_process.export_tflite(artifact.path, output)
        return ()
    # A loop would hide the operators inside of it.
    options = tensorflow_process.TFLiteExport(unroll=True)
    notes = tensorflow_process.export_tflite(artifact.path, output, options)
    return (*tensorflow_process.findings(artifact.path), *notes)


def _inspect(artifact: Artifact, seen: Artifact, notes: tuple[Finding, ...]) -> Inspection:
    found = operators(seen.path, seen.format)
    facts = tuple(_facts(found, seen.format))
    if seen.format is Format.ONNX:
        opset, signature, tensors = _opset(seen.path), None, _onnx_tensors(found)
    else:
        model = flatbuffer.read(seen.path.read_bytes())
        opset, tensors = None, _tflite_tensors(model)
        signature = _signature(model) if seen is artifact else None
    return Inspection(artifact, facts, tensors, signature, opset, (*notes, *_findings(artifact, facts)))


def _facts(found: Sequence[Operator], format: Format) -> Iterator[OperatorFacts]:  # noqa: A002
    """The costs of each operator; weights that several operators share are counted for the first."""
    behind = _dequantized(found)
    counted: set[Operand] = set()
    for operator in found:
        stored = [behind.get(operand.name, operand) for operand in operator.inputs]
        fresh = {operand: None for operand in stored if _is_parameter(operand, operator)}.keys() - counted
        counted.update(operand for operand in fresh if operand.name)
        yield OperatorFacts(
            operator,
            macs(operator, format),
            sum(element_count(operand.shape) for operand in fresh),
            sum(operand.size_bytes for operand in fresh),
        )


def _dequantized(found: Sequence[Operator]) -> Mapping[str, Operand]:
    """Constants by the name of what DEQUANTIZE makes of them: weights in float16, or integers for floats."""
    return {
        operator.outputs[0].name: operator.inputs[0]
        for operator in found
        if operator.kind == "DEQUANTIZE" and operator.inputs[0].is_constant and operator.outputs[0].name
    }


def _is_parameter(operand: Operand, operator: Operator) -> bool:
    """Weights, and the biases that integer kernels keep as int32; not shapes, axes, or scales."""
    if not operand.is_constant or not operand.shape or operator.kind in _WITHOUT_PARAMETERS:
        return False
    if operator.kind == "DEQUANTIZE" and operator.outputs[0].name:
        return False  # counted where it is used
    if operand.dtype in ("int32", "int64", "bool", "string"):
        is_bias = operand.dtype == "int32" and len(operand.shape) == 1 and operand in operator.inputs[2:]
        return is_bias and operator.kind in _BIASED
    return True


# Their constants are scales, sizes and limits.
_WITHOUT_PARAMETERS = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "Constant", "Resize", "Upsample", "Pad", "Clip"}
)

_BIASED = frozenset(
    {"CONV_2D", "DEPTHWISE_CONV_2D", "CONV_3D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "LSTM", "SVDF"}
    | {"UNIDIRECTIONAL_SEQUENCE_LSTM", "Conv", "ConvTranspose", "Gemm", "QLinearConv", "QGemm"}
)


def _findings(artifact: Artifact, facts: Sequence[OperatorFacts]) -> Iterator[Finding]:
    unknown = sorted({entry.operator.kind for entry in facts if entry.macs is None})
    if unknown:
        message = f"The MACs of {', '.join(unknown)} are not known, so the total is a lower bound."
        yield Finding("EK133", message, "Compare the models by latency: edgekit benchmark.", Level.NOTE)
    free = [spec.name for spec in artifact.inputs if None in spec.shape[1:]]
    if free:
        message = f"Inputs have free sizes besides the batch, which MACs count as one: {', '.join(free)}."
        yield Finding("EK134", message, "Fix them when the model is exported.", Level.NOTE)


def _opset(path: Path) -> int | None:
    import onnx

    imports = onnx.load(str(path), load_external_data=False).opset_import
    return max((entry.version for entry in imports if entry.domain in ("", "ai.onnx")), default=None)


def _onnx_tensors(found: Sequence[Operator]) -> tuple[TensorFacts, ...]:
    operands = dict.fromkeys(
        operand for operator in found for operand in (*operator.inputs, *operator.outputs)
    )
    return tuple(TensorFacts(o.name, o.shape, o.dtype, o.size_bytes) for o in operands)


def _signature(model: Any) -> str | None:
    """The key of the first signature; older files leave it out."""
    if not model.signatureDefs:
        return None
    return (model.signatureDefs[0].signatureKey or b"").decode(errors="replace")


def _tflite_tensors(model: Any) -> tuple[TensorFacts, ...]:
    from ai_edge_litert import schema_py_generated as schema

    dtypes = {code: name.lower() for name, code in vars(schema.TensorType).items() if name.isupper()}
    return tuple(
        TensorFacts(
            (tensor.name or b"").decode(errors="replace"),
            _tflite_shape(tensor),
            dtypes.get(tensor.type, "unknown"),
            _length(model.buffers[tensor.buffer].data),
            *quantization_of(tensor),
        )
        for tensor in model.subgraphs[0].tensors
    )


def _tflite_shape(tensor: Any) -> tuple[int | None, ...]:
    sizes = tensor.shapeSignature if _length(tensor.shapeSignature) else tensor.shape
    return tuple(None if size < 0 else int(size) for size in (() if sizes is None else sizes))


def _length(vector: Any) -> int:
    return 0 if vector is None else len(vector)
