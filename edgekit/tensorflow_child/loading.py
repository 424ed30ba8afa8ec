"""Loads Keras files and SavedModels into one shape: named inputs, named outputs, a function between them."""

import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf  # noqa: TID253 - this process exists to run TensorFlow


@dataclass(frozen=True)
class Loaded:
    """A model in memory.

    ``call`` takes the tensors in the order of ``inputs`` and gives a dict by output name. ``inputs`` are
    ``tf.TensorSpec``s with None where a size is free. ``loader`` is ``keras``, ``tf_keras`` or
    ``saved_model``. ``notes`` say what was changed on loading: ``float32`` where mixed precision was undone.
    """

    inputs: tuple[Any, ...]
    call: Callable[..., dict[str, Any]]
    reset: Callable[[], None]
    model: Any
    loader: str
    notes: tuple[str, ...] = ()

    def signature(self, batch: int | None) -> list[Any]:
        """The inputs with a free first dimension set to ``batch``; None leaves it free."""
        return [_with_batch(spec, batch) for spec in self.inputs]

    def concrete(self, batch: int | None) -> Any:
        """The model as a function traced for that batch."""
        return tf.function(self.call, autograph=False).get_concrete_function(*self.signature(batch))


class NoSignatureError(Exception):
    """A SavedModel has no signature, or several and none of them is the default."""


class NotBuiltError(Exception):
    """A Keras model was saved before its input shape was known."""


def load(path: Path, scratch: Path) -> Loaded:
    """Load a model; what kind it is was found by the parent, and is found again from the bytes."""
    if path.is_dir():
        return _load_saved_model(path)
    is_archive = zipfile.is_zipfile(path)
    # Keras decides by the name, edgekit by the content.
    named = scratch / ("model.keras" if is_archive else "model.h5")
    named.unlink(missing_ok=True)
    named.symlink_to(path.absolute())
    return _load_keras(named)


def _load_keras(path: Path) -> Loaded:
    import keras

    # Files of edgekit's own training hold layers of its own, all of which this one knows.
    import edgekit.train.settle  # noqa: F401

    try:
        return from_keras(keras.saving.load_model(path, compile=False, safe_mode=True), "keras")
    except Exception as newer:  # noqa: BLE001 - its kinds are many, and the file gets a second chance
        # Keras 3 does not read every Keras 2 file: DepthwiseConv2D's `groups` is one of the obstacles.
        import tf_keras

        try:
            return from_keras(tf_keras.models.load_model(path, compile=False, safe_mode=True), "tf_keras")
        except Exception:  # noqa: BLE001 - the first error is the one that says what is wrong with the file
            raise newer from None


def from_keras(model: Any, loader: str) -> Loaded:
    """A Keras model in memory as every other; ``loader`` is ``keras`` or ``tf_keras``.

    Raises:
        NotBuiltError: It has no input shape yet.
    """
    if not getattr(model, "inputs", None):
        raise NotBuiltError(model.name)
    tensors = list(model.inputs)
    names = _unique(getattr(model, "input_names", None) or [tensor.name for tensor in tensors])
    inputs = tuple(
        tf.TensorSpec(tensor.shape, tensor.dtype, name) for tensor, name in zip(tensors, names, strict=True)
    )
    # A Sequential model of Keras 3 has no output_names; its only outputs are those of its last layer.
    output_names = _unique(
        getattr(model, "output_names", None) or [model.layers[-1].name for _output in model.outputs]
    )

    notes = ("float32",) if loader == "keras" and _compute_in_float32(model) else ()

    def call(*values: Any) -> dict[str, Any]:
        # Without training=False dropout and batch statistics would go into the exported graph.
        result = model(_arranged(model, values), training=False)
        if isinstance(result, dict):
            return {_identifier(name): value for name, value in result.items()}
        return dict(zip(output_names, tf.nest.flatten(result), strict=True))

    return Loaded(inputs, call, lambda: _reset_states(model), model, loader, notes)


def _arranged(model: Any, values: Sequence[Any]) -> Any:
    """The inputs as the model takes them: one tensor, a list, or a dict by names of its own."""
    structure = getattr(model, "_inputs_struct", None)
    if isinstance(structure, dict):
        import keras

        return keras.tree.pack_sequence_as(structure, list(values))
    return values[0] if len(values) == 1 else list(values)


def _compute_in_float32(model: Any) -> bool:
    """Undo mixed precision, which is for training: the weights are float32, and CPUs have no such kernels."""
    mixed = [
        layer
        for layer in model._flatten_layers()
        if layer.dtype_policy.compute_dtype in ("float16", "bfloat16")
        and layer.dtype_policy.variable_dtype == "float32"
    ]
    for layer in mixed:
        layer.dtype_policy = "float32"
    return bool(mixed)


def _reset_states(model: Any) -> None:
    for layer in model.layers:
        if getattr(layer, "stateful", False):
            # Keras 3 and Keras 2 call it by different names.
            (layer.reset_state if hasattr(layer, "reset_state") else layer.reset_states)()


def _load_saved_model(path: Path) -> Loaded:
    try:
        model = tf.saved_model.load(str(path))
    except (AttributeError, ValueError, KeyError):
        # Optimizer slots and Keras 2 layers are revived by classes that tf_keras registers when imported.
        import tf_keras  # noqa: F401

        model = tf.saved_model.load(str(path))
    signature = _signature(model)
    specs = signature.structured_input_signature[1]
    inputs = tuple(tf.TensorSpec(specs[name].shape, specs[name].dtype, name) for name in sorted(specs))

    def call(*values: Any) -> dict[str, Any]:
        result: dict[str, Any] = signature(
            **{spec.name: value for spec, value in zip(inputs, values, strict=True)}
        )
        return result

    return Loaded(inputs, call, lambda: None, model, "saved_model")


def _signature(model: Any) -> Any:
    signatures = dict(model.signatures)
    if "serving_default" in signatures:
        return signatures["serving_default"]
    if len(signatures) == 1:
        return next(iter(signatures.values()))
    raise NoSignatureError(", ".join(sorted(signatures)))


def _with_batch(spec: Any, batch: int | None) -> Any:
    if batch is None or spec.shape.rank in (None, 0) or spec.shape[0] is not None:
        return spec
    return tf.TensorSpec([batch, *spec.shape[1:]], spec.dtype, spec.name)


def _identifier(name: str) -> str:
    """A name that TensorFlow takes as the argument of a function: ``input:0`` becomes ``input_0``."""
    cleaned = re.sub(r"\W", "_", name)
    return cleaned if re.match(r"[A-Za-z]", cleaned) else f"t_{cleaned}"


def _unique(names: Sequence[str]) -> list[str]:
    """Identifiers without repetition: two outputs of one layer are ``lstm`` and ``lstm_1``."""
    taken: list[str] = []
    for name in map(_identifier, names):
        candidate, count = name, 0
        while candidate in taken:
            count += 1
            candidate = f"{name}_{count}"
        taken.append(candidate)
    return taken
