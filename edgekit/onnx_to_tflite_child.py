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


def main() -> None:
    """Convert; onnx2tf ends the process where it cannot."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    np.save(_IMAGES, np.random.default_rng(0).random((20, 128, 128, 3), np.float32))
    model, images = sys.argv[1], json.loads(sys.argv[2])
    inputs = _prepare(model)
    # The simplifier crashes where TensorFlow was imported before it.
    import onnx2tf

    onnx2tf.convert(
        input_onnx_file_path=model,
        output_folder_path=".",
        # It takes any input of rank 3 to 5 for an image in NCHW, and would turn it.
        keep_ncw_or_nchw_or_ncdhw_input_names=images,
        keep_shape_absolutely_input_names=[name for name in inputs if name not in images],
        # Its own simplification would take out what keeps the outputs' layout.
        not_use_onnxsim=True,
        non_verbose=True,
    )


def _prepare(path: str) -> list[str]:
    """Simplify the model in its place, and let its outputs keep their layout; gives the names of its inputs."""
    import onnx
    import onnxsim

    model, is_same = onnxsim.simplify(onnx.load(path))
    if not is_same:
        raise ValueError("the simplifier changed what the model computes")
    _keep_layout_of_outputs(model)
    onnx.save(model, path)
    return [value.name for value in model.graph.input]


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
