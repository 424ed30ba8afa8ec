"""The nouns about model files: what a file is, what goes in and out of it, and what made it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from edgekit import files
from edgekit.tensor import Quantization


class Format(StrEnum):
    """The formats that edgekit reads."""

    KERAS = "keras"  # a Keras 3 .keras archive, or a full .h5 model of Keras 2 or 3
    SAVED_MODEL = "saved_model"
    TFLITE = "tflite"
    ONNX = "onnx"
    PYTORCH = "pytorch"  # an exported program, .pt2


@dataclass(frozen=True)
class TensorSpec:
    """What a model's input or output looks like.

    ``shape`` has None where the size is free: ``(None, 32, 32, 3)``. ``dtype`` is numpy's name:
    ``"float32"``. ``quantization`` is None for tensors of real numbers.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    quantization: Quantization | None = None

    def describe(self) -> dict[str, Any]:
        """The spec as it stands in JSON documents."""
        document: dict[str, Any] = {"name": self.name, "shape": list(self.shape), "dtype": self.dtype}
        if self.quantization is not None:
            document["scale"] = list(self.quantization.scales)
            document["zero_point"] = list(self.quantization.zero_points)
        return document


@dataclass(frozen=True)
class Artifact:
    """A model file as it lies on disk. It holds no framework object and no weights.

    Made by ``edgekit.formats.open_artifact``, which finds the format from the bytes.
    """

    path: Path
    format: Format
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    sha256: str
    size_bytes: int

    def describe(self) -> dict[str, Any]:
        """The artifact as it stands in JSON documents."""
        return {
            "path": str(self.path),
            "format": self.format.value,
            "size_bytes": self.size_bytes,
            "gzip_bytes": files.gzip_bytes(self.path),
            "sha256": self.sha256,
            "inputs": [spec.describe() for spec in self.inputs],
            "outputs": [spec.describe() for spec in self.outputs],
        }


@dataclass(frozen=True)
class Lineage:
    """What made an artifact, from what: written beside it as ``OUT.json``."""

    source_path: str
    source_sha256: str
    recipe: str
    engine: str
    seed: int
    versions: Mapping[str, str]
    calibration: Mapping[str, Any] | None = None
    preprocessing: Mapping[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = 1

    def describe(self) -> dict[str, Any]:
        """The lineage as a JSON document."""
        return asdict(self)


def lineage_path(path: Path) -> Path:
    """Where the lineage of ``model.tflite`` lies: ``model.tflite.json``."""
    return path.with_name(path.name + ".json")


def read_lineage(path: Path) -> dict[str, Any] | None:
    """The lineage beside an artifact as a JSON document, None where there is none that can be read."""
    try:
        document = json.loads(lineage_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def align(values_for: tuple[TensorSpec, ...], wanted: tuple[TensorSpec, ...]) -> dict[str, str]:
    """Pair the inputs (or outputs) of two versions of one model: ``{"x": "serving_default_x:0"}``.

    Conversions rename tensors and may reorder them. Equal names are paired first, then tensors whose shape
    no other has, then what is left in order.

    Raises:
        ValueError: The two have different numbers of tensors.
    """
    if len(values_for) != len(wanted):
        raise ValueError(f"{len(values_for)} tensors cannot be paired with {len(wanted)}")
    left, right = list(values_for), list(wanted)
    pairs: dict[str, str] = {}

    def pair(one: TensorSpec, other: TensorSpec) -> None:
        pairs[one.name] = other.name
        left.remove(one)
        right.remove(other)

    for one in tuple(left):
        for other in tuple(right):
            if one.name == other.name:
                pair(one, other)
    for one in tuple(left):
        same = [other for other in right if other.shape[1:] == one.shape[1:]]
        alone = sum(1 for spec in left if spec.shape[1:] == one.shape[1:]) == 1
        if len(same) == 1 and alone:
            pair(one, same[0])
    pairs.update((one.name, other.name) for one, other in zip(tuple(left), tuple(right), strict=True))
    return pairs
