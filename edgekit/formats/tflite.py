"""``.tflite`` files, read by LiteRT's interpreter, which checks every offset before it follows it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.artifact import TensorSpec
from edgekit.errors import ModelError
from edgekit.tensor import Quantization


def read(path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """The inputs and outputs, by the names of the signature; without one, by those of the tensors.

    Raises:
        ModelError: The interpreter refuses the file, or has not all of its operators.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    try:
        # The delegate would pack the weights again, which takes time and is not needed to look at a file.
        interpreter = Interpreter(
            str(path),
            num_threads=1,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        _allocate(interpreter)
        names: dict[str, dict[str, int]] = next(iter(interpreter._get_full_signature_list().values()), {})
        return (
            _specs(interpreter.get_input_details(), names.get("inputs", {})),
            _specs(interpreter.get_output_details(), names.get("outputs", {})),
        )
    except (ValueError, RuntimeError, OSError, MemoryError, OverflowError) as error:
        raise _refusal(path, str(error)) from error


def _allocate(interpreter: Any) -> None:
    """Find out whether every operator is there. Tensors whose size is free are only known when data come."""
    shapes = [detail["shape_signature"] for detail in interpreter.get_input_details()]
    if not any((shape < 0).any() for shape in shapes):
        interpreter.allocate_tensors()


def _specs(details: Sequence[Mapping[str, Any]], names: Mapping[str, int]) -> tuple[TensorSpec, ...]:
    by_index = {detail["index"]: detail for detail in details}
    if names and set(names.values()) == set(by_index):
        return tuple(_spec(name, by_index[index]) for name, index in names.items())
    return tuple(_spec(detail["name"], detail) for detail in details)


def _spec(name: str, detail: Mapping[str, Any]) -> TensorSpec:
    sizes = detail["shape_signature"] if len(detail["shape_signature"]) else detail["shape"]
    shape = tuple(None if size < 0 else int(size) for size in sizes)
    dtype = np.dtype(detail["dtype"])
    parameters = detail["quantization_parameters"]
    quantization = None
    if dtype.kind in "iu" and len(parameters["scales"]):
        scales = tuple(float(scale) for scale in parameters["scales"])
        points = tuple(int(point) for point in parameters["zero_points"])
        quantization = Quantization(scales, points, int(parameters["quantized_dimension"]))
    return TensorSpec(name, shape, dtype.name, quantization)


def _refusal(path: Path, text: str) -> ModelError:
    line = text.splitlines()[0].rstrip(".") if text.strip() else "no reason given"
    if "custom op" in text or "Flex" in text or "op builtin_code" in text or "Didn't find op" in text:
        return ModelError(
            "EK117",
            f"{path} needs operators that LiteRT does not have: {line}.",
            "Convert the model again with built-in operators only.",
            detail=text,
        )
    return ModelError(
        "EK105",
        f"{path} is refused by LiteRT: {line}.",
        "The file may be damaged: compare its size and checksum with the original.",
        detail=text,
    )
