"""The shared models are what their fixtures say."""

import numpy as np
import pytest


@pytest.mark.parametrize("name", ["tflite_cnn", "tflite_cnn_no_signature", "tflite_cnn_dynamic_batch"])
def test_the_shared_cnn_knows_digits(models, name):
    from ai_edge_litert.interpreter import Interpreter

    with np.load(models.test_data) as data:
        x, y = data["x"], data["y"]
    interpreter = Interpreter(str(getattr(models, name)), num_threads=1)
    interpreter.allocate_tensors()
    given, wanted = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    predicted = []
    for sample in x:
        interpreter.set_tensor(given, sample[None])
        interpreter.invoke()
        predicted.append(interpreter.get_tensor(wanted).argmax())
    assert np.mean(np.array(predicted) == y) > 0.9


def test_signatures_and_batches_differ_as_named(models):
    from ai_edge_litert.interpreter import Interpreter

    def facts(path):
        interpreter = Interpreter(str(path))
        return bool(interpreter.get_signature_list()), int(
            interpreter.get_input_details()[0]["shape_signature"][0]
        )

    assert facts(models.tflite_cnn) == (True, 1)
    assert facts(models.tflite_cnn_no_signature) == (False, 1)
    assert facts(models.tflite_cnn_dynamic_batch) == (True, -1)
