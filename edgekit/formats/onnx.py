"""``.onnx`` files, read by ONNX Runtime once their external data have been checked."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.artifact import TensorSpec
from edgekit.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import GraphProto, ModelProto, TensorProto

_OLDEST_OPSET = 8
_DAMAGED_HINT = "The file may be damaged: compare its size and checksum with the original."
_DTYPES = {"float": "float32", "double": "float64"}


def read(path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """The inputs and outputs; an axis with a symbolic size is free.

    Raises:
        ModelError: It is damaged, older than opset 8, lacks its external data, or ONNX Runtime refuses it.
    """
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        # protobuf's DecodeError and onnx's own have no common ancestor.
        raise ModelError(
            "EK105", f"{path} is a damaged ONNX file.", _DAMAGED_HINT, detail=str(error)
        ) from error
    _check_opset(path, model)
    for tensor in _tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _check_external(path, tensor)
    session = _session(path)
    return tuple(map(_spec, session.get_inputs())), tuple(map(_spec, session.get_outputs()))


def _check_opset(path: Path, model: "ModelProto") -> None:
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    # A model of custom operators alone names no standard opset.
    if versions and max(versions) < _OLDEST_OPSET:
        message = f"{path} has opset {max(versions)}; edgekit reads opset {_OLDEST_OPSET} and newer."
        raise ModelError("EK115", message, "Export the model again with opset 13 or newer.")


def _tensors(graph: "GraphProto") -> "Iterator[TensorProto]":
    """Every stored tensor, those inside of branches and loops too."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def _check_external(path: Path, tensor: "TensorProto") -> None:
    facts = {entry.key: entry.value for entry in tensor.external_data}
    folder = path.absolute().parent.resolve()
    location = facts.get("location", "")
    file = (folder / location).resolve()
    hint = "Put the data files beside the .onnx file, under the names that it uses."
    if not location or not file.is_relative_to(folder):
        message = f"{path} keeps weights outside its own folder, at {location!r}: they are not read."
        raise ModelError("EK114", message, hint)
    if not file.is_file():
        raise ModelError("EK114", f"{path} needs the file {location}, which is missing.", hint)
    try:
        offset, length = int(facts.get("offset") or 0), int(facts.get("length") or 0)
    except ValueError as error:
        raise ModelError("EK105", f"{path} has external data at no valid place.", _DAMAGED_HINT) from error
    if offset < 0 or length < 0 or offset + length > file.stat().st_size:
        raise ModelError("EK114", f"{location}, which {path} needs, is shorter than it should be.", hint)


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # Nothing is run, so nothing needs to be optimized.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        # Its fallback would print, and try the same again.
        return onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
    except Exception as error:
        # ONNX Runtime's exceptions have no common ancestor but this.
        raise _refusal(path, str(error)) from error


def _refusal(path: Path, text: str) -> ModelError:
    line = text.splitlines()[0].rstrip(".") if text.strip() else "no reason given"
    # What comes before tells the file's path again, and codes of ONNX Runtime's own.
    line = line.rpartition("failed:")[2].removeprefix("Fatal error: ") or line
    if "not a registered function/op" in text or "No Op registered" in text or "NOT_IMPLEMENTED" in text:
        return ModelError(
            "EK117",
            f"{path} needs operators that ONNX Runtime does not have: {line}.",
            "Export the model again with standard operators only.",
            detail=text,
        )
    if "opset" in text and "support" in text:
        return ModelError(
            "EK115",
            f"{path} is of a newer ONNX version than ONNX Runtime supports.",
            "Update onnxruntime, or export the model again with an older opset.",
            detail=text,
        )
    return ModelError("EK105", f"{path} is refused by ONNX Runtime: {line}.", _DAMAGED_HINT, detail=text)


def _spec(value: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) and size >= 0 else None for size in value.shape)
    name = value.type.removeprefix("tensor(").removesuffix(")")
    return TensorSpec(value.name, shape, _DTYPES.get(name, name))
