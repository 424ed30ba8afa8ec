"""The rules for LiteRT's GPU accelerator beside its own answer, on a GPU that the processor plays."""

import numpy as np
import pytest
from accelerators.real_placement import opened
from ai_edge_litert import schema_py_generated as schema
from devicelab.processes import UnavailableError
from devicelab.software_gpu import software_gpu
from handmade import Made

import edgekit
from edgekit.accelerators import Place, webgpu
from edgekit.artifact import Format
from edgekit.errors import TargetError
from edgekit.operators import operators
from edgekit.target import Target

_GPU = Target.load("linux-gpu")


@pytest.fixture
def gpu(monkeypatch):
    try:
        for name, value in software_gpu().items():
            monkeypatch.setenv(name, value)
    except UnavailableError as error:
        pytest.skip(str(error))


def gpu_took(path):
    """The share of the operators in percent, None where the accelerator refuses the file."""
    try:
        found = opened(path, delegate={"library": "gpu", "options": {}})
    except TargetError as error:
        return None if "refuses the model" in error.message else error.message
    return found["placement"]["accelerated_pct"]


def predicted(path):
    verdicts = webgpu.judge(operators(path, Format.TFLITE), _GPU)
    if any(verdict.place is Place.UNSUPPORTED for verdict in verdicts):
        return None
    taken = sum(verdict.place is Place.ACCELERATED for verdict in verdicts)
    return round(100 * taken / len(verdicts), 1)


def chain(tmp_path, *kinds):
    made = Made()
    names = ["x", *(f"t{number}" for number in range(1, len(kinds))), "y"]
    tensors = [made.tensor(name, "float32", (1, 4)) for name in names]
    for number, kind in enumerate(kinds):
        made.operator(kind, [tensors[number]], [tensors[number + 1]])
    made.graph.inputs, made.graph.outputs = tensors[:1], tensors[-1:]
    path = tmp_path / "chain.tflite"
    path.write_bytes(made.bytes())
    return path


@pytest.mark.slow
@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("recipe", ["float", "dynamic", "float16", "weight_only", "int8", "int16x8"])
def test_a_network_in_every_precision(models, tmp_path, recipe):
    path = models.tflite_cnn
    if recipe != "float":
        path = tmp_path / "model.tflite"
        data = str(models.train_data) if "int" in recipe else None
        edgekit.quantize(models.tflite_cnn, path, recipe=recipe, calibration=data)
    assert predicted(path) == gpu_took(path)


@pytest.mark.slow
@pytest.mark.usefixtures("gpu")
def test_it_takes_one_group_alone(tmp_path):
    """Two operators, one that it does not know, and one more: the first two are the larger group."""
    path = chain(tmp_path, "ABS", "EXP", "LOG_SOFTMAX", "NEG")
    found = webgpu.judge(operators(path, Format.TFLITE), _GPU)
    assert [verdict.place.value for verdict in found] == ["accelerated", "accelerated", "cpu", "cpu"]
    assert "one group" in found[3].reason
    assert gpu_took(path) == 50


def test_the_later_group_where_it_is_larger(tmp_path):
    path = chain(tmp_path, "ABS", "LOG_SOFTMAX", "NEG", "EXP")
    found = webgpu.judge(operators(path, Format.TFLITE), _GPU)
    assert [verdict.place.value for verdict in found] == ["cpu", "cpu", "accelerated", "accelerated"]


@pytest.mark.slow
@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(("last", "taken"), [("NEG", 100), ("LOG_SOFTMAX", 50)])
def test_what_widens_weights_goes_with_a_whole_model_alone(tmp_path, last, taken):
    """ABS, a sum with weights of float16, and an operator that the GPU takes or does not take."""
    made = Made()
    x, t0, t1, y = (made.tensor(name, "float32", (1, 4)) for name in ("x", "t0", "t1", "y"))
    stored = made.tensor("stored", "float16", (1, 4), values=[1, 2, 3, 4])
    wide = made.tensor("wide", "float32", (1, 4))
    made.operator("DEQUANTIZE", [stored], [wide], version=3)
    made.operator("ABS", [x], [t0])
    made.operator("ADD", [t0, wide], [t1], schema.AddOptionsT())
    made.operator(last, [t1], [y])
    made.graph.inputs, made.graph.outputs = [x], [y]
    path = tmp_path / "half.tflite"
    path.write_bytes(made.bytes())
    assert predicted(path) == gpu_took(path) == taken


def test_five_axes_are_too_many(tmp_path):
    made = Made()
    x, y = (made.tensor(name, "float32", (1, 2, 2, 2, 2)) for name in "xy")
    made.operator("ABS", [x], [y])
    made.graph.inputs, made.graph.outputs = [x], [y]
    path = tmp_path / "five.tflite"
    path.write_bytes(made.bytes())
    [verdict] = webgpu.judge(operators(path, Format.TFLITE), _GPU)
    assert (verdict.place, verdict.reason) == (Place.CPU, "a tensor has 5 axes, more than 4")


def test_weights_behind_dequantize_make_it_refuse_the_file(tmp_path):
    made = Made()
    x = made.tensor("x", "float32", (1, 4))
    stored = made.tensor("s", "int8", (2, 4), scale=0.1, values=np.ones((2, 4), np.int8))
    w = made.tensor("w", "float32", (2, 4))
    y = made.tensor("y", "float32", (1, 2))
    made.operator("DEQUANTIZE", [stored], [w], version=2)
    made.operator("FULLY_CONNECTED", [x, w, -1], [y], schema.FullyConnectedOptionsT())
    made.graph.inputs, made.graph.outputs = [x], [y]
    path = tmp_path / "wide.tflite"
    path.write_bytes(made.bytes())
    found = webgpu.judge(operators(path, Format.TFLITE), _GPU)
    assert [verdict.place.value for verdict in found] == ["accelerated", "unsupported"]
    assert "DEQUANTIZE widens" in found[1].reason
