import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given
from hypothesis import strategies as st

from edgekit.passes.add_signature import add_signature, unique_names


def test_a_file_without_signature_gets_one_that_runs(models, run_tflite):
    before = models.tflite_cnn_no_signature.read_bytes()
    after = add_signature(before)
    x = np.load(models.test_data)["x"][:1]

    interpreter = Interpreter(model_content=after)
    ((key, names),) = interpreter.get_signature_list().items()
    assert key == "serving_default"
    result = interpreter.get_signature_runner(key)(**{names["inputs"][0]: x})
    np.testing.assert_array_equal(result[names["outputs"][0]], run_tflite(before, x)[0])


def test_a_file_with_a_signature_is_returned_as_it_is(models):
    content = models.tflite_cnn.read_bytes()
    assert add_signature(content) is content


@pytest.mark.filterwarnings("ignore:Warning. Enabling .experimental_preserve_all_tensors")
def test_static_recipes_accept_the_result(models):
    """ai-edge-quantizer refuses to calibrate a file that has no signature."""
    from ai_edge_quantizer import quantizer, recipe

    x = np.load(models.train_data)["x"][:8]
    before = models.tflite_cnn_no_signature.read_bytes()

    def quantized(content):
        engine = quantizer.Quantizer(bytearray(content))
        engine.load_quantization_recipe(recipe.static_wi8_ai8())
        names = Interpreter(model_content=content).get_signature_list()
        (name,) = names["serving_default"]["inputs"] if names else ["x"]
        calibration = {"serving_default": [{name: sample[None]} for sample in x]}
        return bytes(engine.quantize(engine.calibrate(calibration)).quantized_model)

    with pytest.raises(Exception, match="signature_key"):
        quantized(before)
    assert len(quantized(add_signature(before))) < 0.6 * len(before)


def test_names_become_distinct_identifiers():
    names = [b"serving_default_x:0", b"a/b:1", b"a_b:1", b"", b"2nd", b"caf\xc3\xa9 in", b"\xff\xfe"]
    assert unique_names(names, "input") == [
        "x",
        "a_b_1",
        "a_b_1_2",
        "input_3",
        "input_2nd",
        "caf_in",
        "input_6",
    ]


@given(st.lists(st.binary(max_size=12), max_size=8))
def test_any_names_become_distinct_identifiers(names):
    result = unique_names(names, "output")
    assert len(set(result)) == len(names)
    assert all(name.isidentifier() for name in result)
