"""A ``.tflite`` interpreter, of either Python package, as a session."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.artifact import Artifact, TensorSpec
from edgekit.errors import DependencyError, ModelError
from edgekit.sampling import batch_size, filled, joined
from edgekit.tensor import Array, Quantization, dequantize, quantize


@dataclass(frozen=True)
class _Port:
    """An input or output tensor of the interpreter, under the artifact's name for it."""

    name: str
    index: int
    dtype: str
    quantization: Quantization | None

    def to_model(self, values: Array) -> Array:
        if self.quantization is not None:
            if values.dtype == np.uint8 and np.dtype(self.dtype).itemsize == 1:
                return _translated(values, self.quantization, self.dtype)
            return quantize(values, self.quantization, self.dtype)
        return np.ascontiguousarray(values, self.dtype)

    def from_model(self, values: Array) -> Array:
        return values if self.quantization is None else dequantize(values, self.quantization)


class InterpreterSession:
    """A loaded ``.tflite`` model.

    Args:
        load: Makes the package's ``Interpreter`` from the artifact's file.
        artifact: Gives the names that inputs and outputs go by.

    Raises:
        ModelError: The interpreter refuses the file.
    """

    def __init__(self, load: Callable[[], Any], artifact: Artifact) -> None:
        self._file = artifact.path.name
        self._batch = batch_size(artifact)
        try:
            self._interpreter = load()
            signature = _first_signature(self._interpreter)
            details = self._interpreter.get_input_details(), self._interpreter.get_output_details()
            self._inputs = _ports(artifact.inputs, details[0], signature.get("inputs", {}))
            self._outputs = _ports(artifact.outputs, details[1], signature.get("outputs", {}))
        except (ValueError, RuntimeError, OSError, LookupError) as error:
            raise self._failed("EK410", "load", error) from error
        self._shapes: dict[int, tuple[int, ...]] = {}

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See ``Session.run``."""
        rows = {port.name: port.to_model(inputs[port.name]) for port in self._inputs}
        count = len(next(iter(rows.values())))
        try:
            self._allocate(rows)
            parts = self._invoke(rows)
        except (ValueError, RuntimeError) as error:
            raise self._failed("EK411", "run", error) from error
        raw = {port: joined(part, port.name, count=count, batch=self._batch) for port, part in parts.items()}
        return {port.name: port.from_model(array) for port, array in raw.items()}

    def close(self) -> None:
        """Free the interpreter."""
        self._interpreter = None

    def _allocate(self, rows: Mapping[str, Array]) -> None:
        """Fix dynamic sizes: the batch to 1, other axes to what the samples have."""
        shapes = {port.index: (self._batch, *rows[port.name].shape[1:]) for port in self._inputs}
        if shapes == self._shapes:
            return
        current = {
            detail["index"]: tuple(detail["shape"]) for detail in self._interpreter.get_input_details()
        }
        for index, shape in shapes.items():
            if current[index] != shape:
                self._interpreter.resize_tensor_input(index, shape)
        self._interpreter.allocate_tensors()
        self._shapes = shapes

    def _invoke(self, rows: Mapping[str, Array]) -> dict[_Port, list[Array]]:
        """Every sample by itself; the loop holds nothing that a bare one would not."""
        batch, interpreter = self._batch, self._interpreter
        set_tensor, invoke, get_tensor = interpreter.set_tensor, interpreter.invoke, interpreter.get_tensor
        # Recurrent models keep their state from one call to the next: samples would see their predecessors.
        forget = interpreter.reset_all_variables
        full = filled(rows, batch)
        feeds = [(port.index, full[port.name]) for port in self._inputs]
        outputs: list[tuple[int, list[Array]]] = [(port.index, []) for port in self._outputs]
        for first in range(0, len(feeds[0][1]), batch):
            forget()
            for index, array in feeds:
                set_tensor(index, array[first : first + batch])
            invoke()
            for index, part in outputs:
                part.append(get_tensor(index))
        return {port: part for port, (_, part) in zip(self._outputs, outputs, strict=True)}

    def _failed(self, code: str, action: str, error: Exception) -> ModelError:
        line = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        hint = {
            "load": "The file may be damaged, or need a newer runtime.",
            "run": "The data fit the model's declared inputs, so the model itself is at fault.",
        }[action]
        message = f"The interpreter failed to {action} {self._file}: {line}."
        return ModelError(code, message, hint, detail=str(error))


def open_litert(artifact: Artifact, *, threads: int, kernels: str) -> InterpreterSession:
    """Load a model into LiteRT. ``kernels`` are xnnpack, which it uses by default, builtin or reference.

    Raises:
        ModelError: The model cannot be loaded.
        DependencyError: LiteRT is not installed.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError as error:
        raise DependencyError(
            "EK616", "LiteRT is not installed.", "pip install ai-edge-litert==2.3.0"
        ) from error
    resolver = {
        "xnnpack": OpResolverType.AUTO,
        "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        "reference": OpResolverType.BUILTIN_REF,
    }[kernels]

    def load() -> Interpreter:
        return Interpreter(
            model_path=str(artifact.path), num_threads=threads, experimental_op_resolver_type=resolver
        )

    return InterpreterSession(load, artifact)


@functools.cache
def _table(quantization: Quantization, dtype: str) -> tuple[bytes, int | None]:
    """What each byte quantizes to, and the shift where that is all: raw pixels in, as int8 out."""
    table = quantize(np.arange(256, dtype=np.uint8), quantization, dtype).view(np.uint8)
    shifts = np.unique(table - np.arange(256, dtype=np.uint8))
    return table.tobytes(), int(shifts[0]) if len(shifts) == 1 else None


def _translated(values: Array, quantization: Quantization, dtype: str) -> Array:
    """``quantize`` for bytes: looked up, which is twice as fast, or shifted, which is ten times as fast."""
    table, shift = _table(quantization, dtype)
    if shift is not None:
        return (values + np.uint8(shift)).view(dtype)
    return np.frombuffer(values.tobytes().translate(table), dtype).reshape(values.shape)


def _first_signature(interpreter: Any) -> dict[str, dict[str, int]]:
    """Tensor indices by name: ``{"inputs": {"image": 0}, "outputs": ...}``, empty without a signature."""
    signatures: dict[str, dict[str, dict[str, int]]] = interpreter._get_full_signature_list()
    return next(iter(signatures.values()), {})


def _ports(
    specs: tuple[TensorSpec, ...], details: list[Any], signature: Mapping[str, int]
) -> tuple[_Port, ...]:
    """The interpreter's tensors under the artifact's names; where no name fits, in the file's order."""
    by_index = {detail["index"]: detail for detail in details}
    by_name = {**{detail["name"]: detail["index"] for detail in details}, **signature}
    ports = []
    for position, spec in enumerate(specs):
        index = by_name.get(spec.name, details[position]["index"])
        detail = by_index[index]
        ports.append(_Port(spec.name, index, np.dtype(detail["dtype"]).name, _quantization(detail)))
    return tuple(ports)


def _quantization(detail: Mapping[str, Any]) -> Quantization | None:
    parameters = detail["quantization_parameters"]
    scales = tuple(float(scale) for scale in parameters["scales"])
    if not scales or np.dtype(detail["dtype"]).kind not in "iu":
        return None
    return Quantization(scales, tuple(int(point) for point in parameters["zero_points"]))
