"""Writes a loaded model as .tflite, .onnx or .mlpackage, always through one signature with the model's own names."""

import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf  # noqa: TID253

from edgekit.core_ml_child import CoreMLError, write
from edgekit.tensorflow_child.loading import Loaded

_OPSET = 17
_MOST_STEPS = 64


class UnusableError(Exception):
    """The converter was content, but the file that it wrote does not run."""


class StatefulError(Exception):
    """The model keeps values from one call to the next."""


class TooLongError(Exception):
    """A recurrent layer has too many steps to be written out."""


def export_tflite(loaded: Loaded, options: dict[str, Any], output: Path) -> None:
    """Convert with TensorFlow's converter; ``options`` are those of ``TFLiteExport``, arrays by path."""
    layers = recurrent_layers(loaded, options)
    with tempfile.TemporaryDirectory(dir=output.parent) as folder, _unrolled(layers), _as_trained(loaded):
        _write_signature(loaded.concrete(options["batch"]), loaded, folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serving_default"])
        _configure(converter, options)
        content = options.get("edit", bytes)(converter.convert())
    _try(content)
    output.write_bytes(content)


def recurrent_layers(loaded: Loaded, options: dict[str, Any]) -> list[Any]:
    """The layers of a Keras 3 model that are to be unrolled.

    Raises:
        TooLongError: One of them must be and has too many steps, or a number that is not fixed.
    """
    integer = options["optimize"] in ("int8", "int16x8")
    if not (integer or options["unroll"]) or loaded.loader != "keras":
        return []
    steps = [(layer, count) for layer, count in _steps(loaded.model) if not layer.unroll]
    longest = [layer.name for layer, count in steps if count is None or count > _MOST_STEPS]
    if integer and longest:
        raise TooLongError(longest[0])
    return [layer for layer, count in steps if layer.name not in longest]


def _steps(model: Any) -> Iterator[tuple[Any, int | None]]:
    """Each recurrent layer with its number of steps, None where that is not fixed."""
    import keras

    wrapped: set[int] = set()
    for layer in model._flatten_layers():
        both = isinstance(layer, keras.layers.Bidirectional)
        recurrent = [layer.forward_layer, layer.backward_layer] if both else [layer]
        for inner in recurrent:
            if isinstance(inner, keras.layers.RNN) and id(inner) not in wrapped:
                wrapped.add(id(inner))
                yield inner, _length(layer)


def _length(layer: Any) -> int | None:
    try:
        size: int | None = layer.input.shape[1]
    except (AttributeError, ValueError):
        return None  # a layer inside of another one has no input of its own
    return size


@contextmanager
def _unrolled(layers: list[Any]) -> Iterator[None]:
    """Write recurrences out step by step: the converter cannot calibrate inside a loop, and crashes."""
    for layer in layers:
        layer.unroll = True
    try:
        yield
    finally:
        for layer in layers:
            layer.unroll = False


def _as_trained(loaded: Loaded) -> AbstractContextManager[None]:
    """A model of edgekit's own training with fake quantization, which the converter reads scales from."""
    from edgekit.train.settle import as_trained

    return as_trained(loaded.model) if loaded.loader == "keras" else nullcontext()


def _write_signature(concrete: Any, loaded: Loaded, folder: str) -> None:
    # TensorFlow sees no variables in a Keras 3 model and would export it without weights and without a word:
    # those that the traced function captured are held by hand.
    module = tf.Module()
    module.held = list(concrete.variables)
    try:
        tf.saved_model.save(module, folder, signatures={"serving_default": concrete})
    except AssertionError:
        module.model = loaded.model  # lookup tables and the like are no variables
        tf.saved_model.save(module, folder, signatures={"serving_default": concrete})


def _configure(converter: Any, options: dict[str, Any]) -> None:
    optimize = options["optimize"]
    if optimize == "none":
        return
    if optimize == "sparse":
        converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter._experimental_disable_per_channel = not options["per_channel"]
    if optimize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if optimize == "trained":
        if options.get("wide"):
            integer = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
            converter.target_spec.supported_ops = [integer]
        converter.inference_input_type = converter.inference_output_type = tf.as_dtype(options["io"])
    if optimize in ("int8", "int16x8"):
        samples = dict(np.load(options["calibration"], allow_pickle=False))
        converter.representative_dataset = lambda: _one_by_one(samples, options["batch"] or 1)
        integer = tf.lite.OpsSet.TFLITE_BUILTINS_INT8
        if optimize == "int16x8":
            integer = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [integer]
        converter.inference_input_type = converter.inference_output_type = tf.as_dtype(options["io"])


def _one_by_one(samples: dict[str, Any], batch: int) -> Iterator[dict[str, Any]]:
    """The calibration samples, in batches of the exported size; a last incomplete batch is left out."""
    count = min(len(array) for array in samples.values())
    for first in range(0, count - batch + 1, batch):
        yield {name: array[first : first + batch] for name, array in samples.items()}


def _try(content: bytes) -> None:
    """Run the new file once on zeros: some conversions succeed and give what no interpreter takes."""
    try:
        interpreter = tf.lite.Interpreter(model_content=content, num_threads=1)
        details = interpreter.get_input_details()
        if any((detail["shape_signature"][1:] < 0).any() for detail in details):
            return  # an image of one pixel is no fair trial, and some kernels crash on it
        interpreter.allocate_tensors()
        for detail in details:
            interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
        interpreter.invoke()
    except (RuntimeError, ValueError) as error:
        raise UnusableError(str(error)) from error


def export_onnx(loaded: Loaded, batch: int | None, output: Path) -> None:
    """Convert with tf2onnx; inputs and outputs keep their names."""
    import tf2onnx
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    concrete = loaded.concrete(batch)
    if any(operation.type.startswith("Assign") for operation in concrete.graph.get_operations()):
        raise StatefulError
    # tf2onnx's own way would turn every tensor that the function captured into one more input.
    frozen = convert_variables_to_constants_v2(concrete, lower_control_flow=False, aggressive_inlining=True)
    names = {f"{spec.name}:0": spec.name for spec in loaded.inputs}
    # TensorFlow flattens a dictionary in the order of its sorted keys.
    ends = dict(zip([t.name for t in frozen.outputs], sorted(concrete.structured_outputs), strict=True))
    model, _tensors = tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(), input_names=list(names), output_names=list(ends), opset=_OPSET
    )
    _rename(model.graph, names | ends)
    output.write_bytes(model.SerializeToString())


def tflite_to_onnx(path: Path, output: Path) -> None:
    """Convert a .tflite file with tf2onnx, and give the result the names of the file's signature."""
    import tf2onnx

    model, _tensors = tf2onnx.convert.from_tflite(str(path), opset=_OPSET)
    _rename(model.graph, _signature_names(path))
    output.write_bytes(model.SerializeToString())


def _signature_names(path: Path) -> dict[str, str]:
    """The names of a signature by the names of its tensors: ``{"serving_default_image:0": "image"}``."""
    interpreter = tf.lite.Interpreter(str(path))
    details = [*interpreter.get_input_details(), *interpreter.get_output_details()]
    tensors = {detail["index"]: detail["name"] for detail in details}
    signatures = list(interpreter._get_full_signature_list().values())
    if not signatures:
        return {}
    ends = {**signatures[0]["inputs"], **signatures[0]["outputs"]}
    return {tensors[index]: name for name, index in ends.items() if index in tensors}


def export_core_ml(loaded: Loaded, options: dict[str, str], output: Path) -> int:
    """Convert with coremltools for a batch of one; gives how many recurrent layers were written out step by step."""
    # coremltools fails at the loops of a TensorFlow as new as this one.
    layers = recurrent_layers(loaded, {"optimize": "none", "unroll": True})
    with _unrolled(layers):
        concrete = loaded.concrete(1)
    if any(operation.type.startswith("Assign") for operation in concrete.graph.get_operations()):
        raise CoreMLError("it keeps a state from one call to the next")
    made = [tensor.name.partition(":")[0] for tensor in concrete.outputs]
    try:
        write(
            [concrete],
            output,
            options,
            dict(zip(made, sorted(concrete.structured_outputs), strict=True)),
            source="tensorflow",
        )
    except CoreMLError as error:
        if _has_loop(concrete):
            raise CoreMLError(f"it has a loop, and there coremltools fails: {error}") from error
        raise
    return len(layers)


def _has_loop(concrete: Any) -> bool:
    definition = concrete.graph.as_graph_def()
    nodes = [*definition.node, *(node for inner in definition.library.function for node in inner.node_def)]
    return any(node.op in ("While", "StatelessWhile") for node in nodes)


def _rename(graph: Any, names: dict[str, str]) -> None:
    # A tensor inside that already has one of the new names makes way.
    names = {new: f"{new}__inner" for new in names.values()} | names
    for value in [*graph.input, *graph.output, *graph.value_info, *graph.initializer]:
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                _rename(inner, names)
