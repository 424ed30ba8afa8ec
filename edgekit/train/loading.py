"""A model to be trained: a Keras 3 file as it is, and a Keras 2 file brought to Keras 3."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import keras
import numpy as np

from edgekit.errors import ModelError
from edgekit.findings import Finding, Level
from edgekit.tensorflow_child.loading import load

# Keys that Keras 2 wrote and Keras 3 does not take.
_UNKNOWN = {"DepthwiseConv2D": ("groups",), "BatchNormalization": ("renorm",)}
_NEAR = 1e-4


@dataclass(frozen=True)
class Trainable:
    """A model in Keras 3, how it was compiled (None where the file does not say), and what was done to it."""

    model: Any
    compiled: Mapping[str, Any] | None
    findings: tuple[Finding, ...]


def load_trainable(path: Path) -> Trainable:
    """Load a ``.keras`` or ``.h5`` model for training.

    Raises:
        ModelError: It is a SavedModel, is damaged, or has layers that Keras 3 has not.
    """
    if path.is_dir():
        raise ModelError(
            "EK723",
            f"{path} is a SavedModel: its layers are gone, and only a graph of operators is left.",
            "Give the .keras or .h5 file that it was exported from.",
        )
    # Layers of edgekit's own are in the files that it wrote.
    import edgekit.train.clustering
    import edgekit.train.settle  # noqa: F401

    with TemporaryDirectory() as scratch:
        loaded = load(path, Path(scratch))
    if loaded.loader == "tf_keras":
        model = _from_keras_2(loaded.model)
        message = f"{path.name} is a Keras 2 file; its layers and weights were brought to Keras 3."
        return Trainable(model, None, (Finding("EK727", message, level=Level.NOTE),))
    compiled, unknown = _compile_config(path)
    findings = []
    if unknown:
        message = f"The {' and '.join(unknown)} in {path.name} is the user's own code, and another is taken."
        findings.append(Finding("EK782", message, "Give --loss and --optimizer."))
    return Trainable(loaded.model, compiled, tuple(findings))


def _from_keras_2(old: Any) -> Any:
    """The same layers in Keras 3, with the same weights and, as far as random inputs tell, the same outputs."""
    missing: list[str] = []
    config = json.loads(old.to_json())
    _translate(config, missing)
    if missing:
        raise ModelError(
            "EK728",
            f"Keras 3 has no {', '.join(sorted(set(missing)))}, which {old.name} is made of.",
            "Write these layers with those of Keras 3, and save the model again.",
        )
    try:
        # Keras 3 knows this class of its own by its module alone, which Keras 2 did not write.
        new = keras.models.model_from_json(json.dumps(config), {"Functional": keras.Model})
        new.set_weights(old.get_weights())
    except (ValueError, TypeError, KeyError) as error:
        # Keras writes out all of the configuration first, and the reason last.
        reason = str(error).strip().splitlines()[-1][-200:]
        raise ModelError("EK728", f"{old.name} cannot be brought to Keras 3: {reason}") from error
    _compare(old, new)
    return new


def _translate(config: Any, missing: list[str]) -> None:
    if isinstance(config, dict):
        kind, inner = config.get("class_name"), config.get("config")
        if isinstance(inner, dict) and "name" in inner and isinstance(kind, str):
            if kind not in ("Functional", "Sequential", "Model") and not hasattr(keras.layers, kind):
                missing.append(f"{inner['name']} ({kind})")
            for key in _UNKNOWN.get(kind, ()):
                inner.pop(key, None)
            axis = inner.get("axis")
            if kind == "BatchNormalization" and isinstance(axis, list) and len(axis) == 1:
                inner["axis"] = axis[0]
        for value in config.values():
            _translate(value, missing)
    elif isinstance(config, list):
        for value in config:
            _translate(value, missing)


def _compare(old: Any, new: Any) -> None:
    generator = np.random.default_rng(0)
    inputs = [
        generator.random([2, *(size or 8 for size in tensor.shape[1:])], np.float32) for tensor in new.inputs
    ]
    given = inputs[0] if len(inputs) == 1 else inputs
    pairs = zip(keras.tree.flatten(old(given)), keras.tree.flatten(new(given)), strict=True)
    for before, after in pairs:
        difference = float(np.abs(np.asarray(before) - np.asarray(after)).max())
        if difference > _NEAR * max(1.0, float(np.abs(np.asarray(before)).max())):
            raise ModelError(
                "EK728",
                f"{old.name} computes something else in Keras 3: its outputs differ by {difference:.3g}.",
                "Load it with Keras 3 and compare it layer by layer.",
            )


def with_lists(model: Any) -> Any:
    """The model with its inputs and outputs as lists, which losses and labels then are too.

    It shares its layers with the one given, which is given back where it is none of dicts.
    """
    if not any(isinstance(_structure(model, way), dict) for way in ("inputs", "outputs")):
        return model
    return keras.Model(list(model.inputs), list(model.outputs), name=model.name)


def with_structure_of(original: Any, trained: Any) -> Any:
    """The trained model with its inputs and outputs in dicts again, where those of the original were."""
    if with_lists(original) is original:
        return trained
    inputs, outputs = (
        keras.tree.pack_sequence_as(_structure(original, way), list(getattr(trained, way)))
        for way in ("inputs", "outputs")
    )
    return keras.Model(inputs, outputs, name=trained.name)


def _structure(model: Any, way: str) -> Any:
    return getattr(model, f"_{way}_struct", None)


def _compile_config(path: Path) -> tuple[Mapping[str, Any] | None, list[str]]:
    """Optimizer and loss as the file has them, None where it has none, and which of them is code of the user's."""
    import zipfile

    if not zipfile.is_zipfile(path):
        return None, []
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    compiled = config.get("compile_config") or {}
    found = {name: compiled.get(name) for name in ("optimizer", "loss")}
    unknown = [
        name
        for name, value in found.items()
        if not all(str(one["module"]).startswith("keras") for one in _objects(value))
    ]
    known = {name: value for name, value in found.items() if value and name not in unknown}
    return (known or None), unknown


def _objects(config: Any) -> Iterator[Mapping[str, Any]]:
    """The serialized objects in a configuration: that of a loss, or one for each output."""
    if isinstance(config, dict) and "class_name" in config:
        yield {"module": "", **config}
    elif isinstance(config, dict | list):
        for inner in config.values() if isinstance(config, dict) else config:
            yield from _objects(inner)
