"""Small .tflite files written by hand, so that their arithmetic is known."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from handmade import Made

import edgekit
from edgekit.passes._layers_tflite import TFLiteTwins
from edgekit.passes.correct_bias import correct_bias
from edgekit.pipeline import Settings, run
from edgekit.plan import Candidate
from edgekit.recipe import Recipe


@pytest.fixture
def made():
    return Made()


# These two keep no state, and hypothesis wants no fixture that is made for one example only.
@pytest.fixture(scope="session")
def quantized_sum():
    """Makes ``sum = a + b`` and ``same = a`` in integers: two inputs, two outputs, a signature."""

    def build(dtype="int8", *, version=2):
        model = Made()
        zero = 3 if dtype == "int8" else 0
        a = model.tensor("a:0", dtype, (1, 4), scale=0.5, zero_point=zero)
        b = model.tensor("b:0", dtype, (1, 4), scale=0.25, zero_point=0)
        total = model.tensor("total:0", dtype, (1, 4), scale=1.0, zero_point=-zero)
        flat = model.tensor("flat:0", dtype, (4,), scale=0.5, zero_point=zero)
        shape = model.tensor("shape", "int32", (1,), values=[4])
        model.graph.inputs, model.graph.outputs = [a, b], [total, flat]
        model.operator("ADD", [a, b], [total], schema.AddOptionsT(potScaleInt16=False), version=version)
        model.operator("RESHAPE", [a, shape], [flat], schema.ReshapeOptionsT())
        model.signature({"left": a, "right": b}, {"sum": total, "same": flat})
        return model

    return build


@pytest.fixture(scope="session")
def run_tflite():
    """Runs a file's bytes on arrays, in the order of its inputs, with XNNPACK or the reference kernels."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    def run(model, *inputs, reference=False):
        kind = OpResolverType.BUILTIN_REF if reference else OpResolverType.AUTO
        interpreter = Interpreter(model_content=model, experimental_op_resolver_type=kind, num_threads=1)
        for detail, values in zip(interpreter.get_input_details(), inputs, strict=True):
            interpreter.resize_tensor_input(detail["index"], values.shape)
        interpreter.allocate_tensors()
        for detail, values in zip(interpreter.get_input_details(), inputs, strict=True):
            interpreter.set_tensor(detail["index"], values)
        interpreter.invoke()
        return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]

    return run


@pytest.fixture(scope="module")
def twins_and_samples(models, tmp_path_factory):
    """The small float model, its file in 8 and in 4 bits with corrected biases, and samples."""
    with np.load(models.train_data) as arrays:
        x = arrays["x"][:400].astype(np.float32)
    source = edgekit.open_artifact(models.tflite_cnn)
    name, original = source.inputs[0].name, models.tflite_cnn.read_bytes()
    calibration, held_back = {name: x[:200]}, {name: x[200:300]}
    made = {}
    for bits, recipe in ((8, "int8"), (4, "int4")):
        folder = tmp_path_factory.mktemp(recipe)
        job = Settings(Recipe.load(recipe), calibration, held_back)
        file = run(
            Candidate("ai_edge_quantizer", ("quantize",)), source, job, folder
        ).artifact.path.read_bytes()
        twins = TFLiteTwins(original, file)
        corrected = correct_bias(twins, calibration=calibration, held_back=held_back)
        made[bits] = TFLiteTwins(original, corrected.model)
    return made, calibration, held_back, {name: x[300:]}
