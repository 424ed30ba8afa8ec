"""Samples as a worker takes them and outputs as it gives them: bytes in the model's own dtypes and order."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.artifact import Artifact, Format, TensorSpec
from edgekit.sampling import batch_size, filled, joined
from edgekit.tensor import Array, dequantize, quantize


@dataclass(frozen=True)
class RawSets:
    """Sets of inputs: ``shapes`` of one set, ``content`` all sets of the first input, then of the second.

    128 samples for a model that takes one at a time are 128 sets of shape (1, 32, 32, 3).
    """

    count: int
    shapes: tuple[tuple[int, ...], ...]
    content: bytes

    def request(self) -> dict[str, Any]:
        """The fields of a request that these bytes follow."""
        return {"feeds": self.count, "shapes": [list(shape) for shape in self.shapes]}


class RawTensors:
    """How real numbers by name become a model's raw inputs, and its raw outputs real numbers by name.

    Raises:
        ModelError: The inputs have no common batch axis.
    """

    def __init__(self, artifact: Artifact) -> None:
        self.batch = batch_size(artifact)
        self._inputs, self._outputs = _in_file_order(artifact)

    def sets(self, inputs: Mapping[str, Array]) -> RawSets:
        """Samples as sets of the model's batch size; the last is filled up."""
        rows = filled({spec.name: _to_raw(inputs[spec.name], spec) for spec in self._inputs}, self.batch)
        count = len(rows[self._inputs[0].name]) // self.batch
        shapes = tuple((self.batch, *rows[spec.name].shape[1:]) for spec in self._inputs)
        return RawSets(count, shapes, b"".join(rows[spec.name].tobytes() for spec in self._inputs))

    def outputs(
        self, described: Sequence[Mapping[str, Any]], content: bytes, *, sets: int, samples: int
    ) -> dict[str, Array]:
        """The outputs of ``samples`` samples from what a worker answered to ``sets`` sets.

        Raises:
            ValueError: The bytes are not those of the shapes, or the outputs not those of the model.
            ModelError: An output has no constant shape per sample.
        """
        if len(described) != len(self._outputs):
            raise ValueError(f"{len(described)} outputs instead of {len(self._outputs)}")
        found, position = {}, 0
        for spec, entry in zip(self._outputs, described, strict=True):
            shape, dtype = tuple(int(size) for size in entry["shape"]), np.dtype(str(entry["dtype"]))
            if dtype.kind not in "fiub":
                raise ValueError(f"an output of {dtype}")
            size = sets * math.prod(shape)
            values = np.frombuffer(content, dtype, size, position).reshape(sets, *shape)
            position += size * dtype.itemsize
            raw = joined(list(values), spec.name, count=samples, batch=self.batch)
            found[spec.name] = raw if spec.quantization is None else dequantize(raw, spec.quantization)
        if position != len(content):
            raise ValueError(f"{len(content)} bytes instead of {position}")
        return found


def _to_raw(values: Array, spec: TensorSpec) -> Array:
    if spec.quantization is not None:
        return quantize(values, spec.quantization, spec.dtype)
    return np.ascontiguousarray(values, spec.dtype)


def _in_file_order(artifact: Artifact) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs as the file lists them; an artifact lists those of its signature in their order."""
    if artifact.format is not Format.TFLITE:
        return artifact.inputs, artifact.outputs
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        str(artifact.path),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    signature: dict[str, dict[str, int]] = next(iter(interpreter._get_full_signature_list().values()), {})
    return (
        _ordered(artifact.inputs, interpreter.get_input_details(), signature.get("inputs", {})),
        _ordered(artifact.outputs, interpreter.get_output_details(), signature.get("outputs", {})),
    )


def _ordered(
    specs: tuple[TensorSpec, ...], details: Sequence[Mapping[str, Any]], signature: Mapping[str, int]
) -> tuple[TensorSpec, ...]:
    index_of = {**{detail["name"]: detail["index"] for detail in details}, **signature}
    places = {detail["index"]: place for place, detail in enumerate(details)}
    if any(index_of.get(spec.name) not in places for spec in specs):
        return specs
    return tuple(sorted(specs, key=lambda spec: places[index_of[spec.name]]))
