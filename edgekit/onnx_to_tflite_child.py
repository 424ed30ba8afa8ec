"""Converts an ONNX file by the Python of onnx2tf's toolchain: ``MODEL IMAGES``, in a folder of its own.

IMAGES are the names of the inputs in which images lie as NCHW, as JSON. The result is ``MODEL_float32.tflite``, for
the name of the model without its suffix.
"""

import json
import os
import sys
from typing import Any

import numpy as np

# What onnx2tf tries its conversion of images on; it would download this file where it is not.
_IMAGES = "calibration_image_sample_data_20x128x128x3_float32.npy"
# TensorFlow's layout of images and sequences is another from here on.
_RANK_WITH_LAYOUT = 3
_MOST_STEPS = 64
# How many states recurrent layers have, and where the first of them stands among the inputs.
_STATES = {"LSTM": 2, "GRU": 1, "RNN": 1}
_FIRST_STATE = 5


def main() -> None:
    """Convert; onnx2tf ends the process where it cannot."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    np.save(_IMAGES, np.random.default_rng(0).random((20, 128, 128, 3), np.float32))
    model, images = sys.argv[1], json.loads(sys.argv[2])
    inputs, steps = _prepare(model)
    # The simplifier crashes where TensorFlow was imported before it.
    import onnx2tf

    onnx2tf.convert(
        input_onnx_file_path=model,
        output_folder_path=".",
        # It takes any input of rank 3 to 5 for an image in NCHW, and would turn it.
        keep_ncw_or_nchw_or_ncdhw_input_names=images,
        keep_shape_absolutely_input_names=[name for name in inputs if name not in images],
        # No quantizer looks into the loops that recurrent layers become otherwise.
        enable_rnn_unroll=steps <= _MOST_STEPS,
        # Its own simplification would take out what keeps the outputs' layout.
        not_use_onnxsim=True,
        non_verbose=True,
    )


def _prepare(path: str) -> tuple[list[str], float]:
    """Simplify the model in its place, and let its outputs keep their layout.

    Gives the names of its inputs and the most steps of a recurrent layer, infinity where they are not known.
    """
    import onnx
    import onnxsim

    model, is_same = onnxsim.simplify(onnx.load(path))
    if not is_same:
        raise ValueError("the simplifier changed what the model computes")
    _keep_layout_of_outputs(model)
    steps = _write_out_recurrences(onnx.shape_inference.infer_shapes(model).graph, model.graph)
    onnx.save(model, path)
    return [value.name for value in model.graph.input], steps


def _write_out_recurrences(known: Any, graph: Any) -> float:
    """Give recurrent layers the zeros that they begin with, which onnx2tf misses; gives the most steps of any.

    ``known`` is the graph with its shapes. The first axis of what they read is time and the second the batch, or the
    other way where ``layout`` is 1.
    """
    from onnx import numpy_helper

    shapes = {value.name: value.type.tensor_type.shape.dim for value in (*known.input, *known.value_info)}
    most = 0.0
    for number, node in enumerate(graph.node):
        if node.op_type not in _STATES:
            continue
        integers = {entry.name: entry.i for entry in node.attribute}
        sizes = [size.dim_value for size in shapes.get(node.input[0], ())][:2]
        steps, batch = (sizes if not integers.get("layout") else sizes[::-1]) or (0, 0)
        most = max(most, steps or float("inf"))
        missing = _FIRST_STATE + _STATES[node.op_type] - len(node.input)
        if missing > 0 and batch and not integers.get("layout"):
            directions = 2 if any(entry.s == b"bidirectional" for entry in node.attribute) else 1
            zeros = np.zeros((directions, batch, integers["hidden_size"]), np.float32)
            graph.initializer.append(numpy_helper.from_array(zeros, f"state_{number}"))
            node.input.extend([""] * max(0, _FIRST_STATE - len(node.input)))
            while len(node.input) < _FIRST_STATE + _STATES[node.op_type]:
                node.input.append(f"state_{number}")
    return most


def _keep_layout_of_outputs(model: Any) -> None:
    """Flatten outputs and give them their shape again: there onnx2tf leaves NHWC behind.

    TensorFlow's converter makes one transposition of that, or nothing where the output was no image.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    for value in graph.output:
        sizes = [entry.dim_value or -1 for entry in value.type.tensor_type.shape.dim]
        # A shape can leave one size open.
        if len(sizes) < _RANK_WITH_LAYOUT or sizes.count(-1) > 1:
            continue
        inner, flat = f"{value.name}__inside", f"{value.name}__flat"
        for node in graph.node:
            for names in (node.input, node.output):
                names[:] = [inner if name == value.name else name for name in names]
        for result, origin, shape in ((flat, inner, [-1]), (value.name, flat, sizes)):
            stored = numpy_helper.from_array(np.array(shape, np.int64), f"{result}__shape")
            graph.initializer.append(stored)
            graph.node.append(helper.make_node("Reshape", [origin, stored.name], [result], name=result))


if __name__ == "__main__":
    main()
