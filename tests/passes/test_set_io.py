import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit import flatbuffer
from edgekit.passes.set_io import set_io
from edgekit.tensor import Quantization, dequantize, quantize

A = Quantization((0.5,), (3,))
B = Quantization((0.25,), (0,))
TOTAL = Quantization((1.0,), (-3,))
X = np.array([[-4.0, 0.0, 1.5, 20.0]], np.float32)
Y = np.array([[1.0, 2.0, -3.25, 30.0]], np.float32)


def details(model):
    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    return interpreter.get_input_details() + interpreter.get_output_details()


def types(model):
    return [np.dtype(detail["dtype"]).name for detail in details(model)]


@pytest.mark.parametrize("reference", [False, True])
def test_int8_to_float32_computes_the_same_integers(quantized_sum, run_tflite, reference):
    model = quantized_sum().bytes()
    change = set_io(model, "float32")

    total, flat = run_tflite(change.model, X, Y, reference=reference)

    integers = run_tflite(model, quantize(X, A, "int8"), quantize(Y, B, "int8"), reference=reference)
    np.testing.assert_array_equal(total, dequantize(integers[0], TOTAL))
    np.testing.assert_array_equal(flat, dequantize(integers[1], A))
    np.testing.assert_array_equal(total, [[-3, 2, -2, 50]])
    assert types(change.model) == ["float32"] * 4
    assert change.findings == ()


def test_float32_back_to_int8_is_the_original_graph(quantized_sum, run_tflite):
    model = quantized_sum().bytes()
    back = set_io(set_io(model, "float32").model, "int8").model

    inputs = quantize(X, A, "int8"), quantize(Y, B, "int8")
    for before, after in zip(run_tflite(model, *inputs), run_tflite(back, *inputs), strict=True):
        np.testing.assert_array_equal(before, after)
    tree = flatbuffer.read(back)
    assert len(tree.subgraphs[0].operators) == 2
    assert len(tree.subgraphs[0].tensors) == 5
    assert types(back) == ["int8"] * 4


def test_uint8_shifts_the_zero_point_by_128(quantized_sum, run_tflite):
    model = quantized_sum().bytes()
    change = set_io(model, "uint8")

    inputs = quantize(X, A, "int8"), quantize(Y, B, "int8")
    shifted = [(values.astype(np.int16) + 128).astype(np.uint8) for values in inputs]
    for before, after in zip(run_tflite(model, *inputs), run_tflite(change.model, *shifted), strict=True):
        np.testing.assert_array_equal(before.astype(np.int16) + 128, after)
    assert [detail["quantization"] for detail in details(change.model)] == [
        (0.5, 131),
        (0.25, 128),
        (1.0, 125),
        (0.5, 131),
    ]


@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(st.integers(-128, 127), min_size=8, max_size=8),
    path=st.permutations(["uint8", "float32"]),
)
def test_any_way_back_to_int8_gives_equal_outputs(quantized_sum, run_tflite, values, path):
    model = quantized_sum().bytes()
    inputs = np.array([values[:4]], np.int8), np.array([values[4:]], np.int8)
    changed = model
    for dtype in [*path, "int8"]:
        changed = set_io(changed, dtype).model
    for before, after in zip(run_tflite(model, *inputs), run_tflite(changed, *inputs), strict=True):
        np.testing.assert_array_equal(before, after)


def test_names_and_signatures_stay(quantized_sum):
    for dtype in ("float32", "uint8", "int8"):
        model = set_io(quantized_sum().bytes(), dtype).model
        assert [detail["name"] for detail in details(model)] == ["a:0", "b:0", "total:0", "flat:0"]
        runner = Interpreter(model_content=model).get_signature_runner("serving_default")
        x, y = (np.zeros((1, 4), dtype),) * 2
        result = runner(left=x, right=y)
        assert {name: array.dtype.name for name, array in result.items()} == {"sum": dtype, "same": dtype}


def test_operators_have_the_versions_of_their_types(quantized_sum):
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    def versions(model):
        codes = flatbuffer.read(model).operatorCodes
        return {(code.builtinCode, code.version) for code in codes}

    quantize_, dequantize_ = BuiltinOperator.QUANTIZE, BuiltinOperator.DEQUANTIZE
    assert {(quantize_, 1), (dequantize_, 2)} <= versions(set_io(quantized_sum().bytes(), "float32").model)
    assert {(quantize_, 1)} <= versions(set_io(quantized_sum().bytes(), "uint8").model)
    inner_int16 = quantized_sum("int16").bytes()
    assert {(quantize_, 2), (dequantize_, 3)} <= versions(set_io(inner_int16, "float32").model)


def test_int16_graph_takes_float32_and_refuses_int8(quantized_sum, run_tflite):
    model = quantized_sum("int16").bytes()
    change = set_io(model, "float32")
    total, flat = run_tflite(change.model, X, Y)
    np.testing.assert_array_equal(total, [[-3, 2, -2, 50]])
    np.testing.assert_array_equal(flat, X[0])

    refused = set_io(change.model, "int8")
    assert types(refused.model) == ["float32"] * 4
    assert [finding.code for finding in refused.findings] == ["EK360"] * 4
    assert "'a:0'" in refused.findings[0].message
    assert types(set_io(change.model, "int16").model) == ["int16"] * 4


def test_a_float_input_is_left_alone_and_reported(made):
    from ai_edge_litert import schema_py_generated as schema

    real = made.tensor("real", "float32", (1, 4))
    sign = made.tensor("sign", "float32", (1, 4))
    whole = made.tensor("whole", "int8", (1, 4), scale=0.5, zero_point=0)
    flat = made.tensor("flat", "int8", (4,), scale=0.5, zero_point=0)
    made.graph.inputs, made.graph.outputs = [real, whole], [sign, flat]
    made.operator("NEG", [real], [sign], schema.NegOptionsT())
    made.operator("RESHAPE", [whole, made.tensor("shape", "int32", (1,), values=[4])], [flat])

    change = set_io(made.bytes(), "uint8")
    assert types(change.model) == ["float32", "uint8", "float32", "uint8"]
    assert ["'real'" in change.findings[0].message, "'sign'" in change.findings[1].message] == [True, True]
    assert len(change.findings) == 2


def test_indices_are_no_business_of_this_pass(made):
    indices = made.tensor("indices", "int32", (2,))
    rows = made.tensor("rows", "int8", (2, 2), scale=0.5, zero_point=0)
    table = made.tensor("table", "int8", (3, 2), scale=0.5, zero_point=0, values=[[1, 2], [3, 4], [5, 6]])
    made.graph.inputs, made.graph.outputs = [indices], [rows]
    made.operator("EMBEDDING_LOOKUP", [indices, table], [rows], version=3)
    change = set_io(made.bytes(), "float32")
    assert types(change.model) == ["int32", "float32"]
    assert change.findings == ()


def test_an_output_that_the_graph_reads_again_keeps_its_value(made, run_tflite):
    from ai_edge_litert import schema_py_generated as schema

    x = made.tensor("x", "int8", (1, 4), scale=0.5, zero_point=0)
    once = made.tensor("once", "int8", (1, 4), scale=0.5, zero_point=0)
    twice = made.tensor("twice", "int8", (1, 4), scale=0.5, zero_point=0)
    made.graph.inputs, made.graph.outputs = [x], [once, twice, once]
    made.operator("ADD", [x, x], [once], schema.AddOptionsT(), version=2)
    made.operator("ADD", [once, once], [twice], schema.AddOptionsT(), version=2)

    real = set_io(made.bytes(), "float32").model
    assert [array.tolist() for array in run_tflite(real, np.array([[1, 2, 3, 4]], np.float32))] == [
        [[2, 4, 6, 8]],
        [[4, 8, 12, 16]],
        [[2, 4, 6, 8]],
    ]
    back = set_io(real, "int8").model
    assert types(back) == ["int8"] * 4


def test_the_converters_own_border_comes_off(models, run_tflite):
    """A QUANTIZE at the border that rescales is arithmetic, and stays; one that only changes type goes."""
    model = models.tflite_cnn_int8.read_bytes()
    x = np.load(models.test_data)["x"][:1]
    scale, zero_point = details(model)[0]["quantization"]
    integers = run_tflite(model, quantize(x, Quantization((scale,), (zero_point,)), "int8"))
    real = run_tflite(set_io(model, "float32").model, x)
    scale, zero_point = details(model)[1]["quantization"]
    np.testing.assert_array_equal(real[0], dequantize(integers[0], Quantization((scale,), (zero_point,))))


def test_operators_in_a_fixed_order_are_refused(quantized_sum):
    from ai_edge_litert import schema_py_generated as schema

    from edgekit.errors import ModelError

    model = quantized_sum()
    model.tree.metadata = [schema.MetadataT(name=b"model_control_dependencies", buffer=0)]
    with pytest.raises(ModelError, match="fixes the order"):
        set_io(model.bytes(), "float32")
