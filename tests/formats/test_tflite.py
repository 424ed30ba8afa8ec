"""``.tflite`` files with operators that LiteRT does not have."""

import pytest
from ai_edge_litert import schema_py_generated as schema

from edgekit import flatbuffer
from edgekit.errors import ModelError
from edgekit.formats import open_artifact


def test_a_custom_operator_is_named(models, tmp_path):
    def make_custom(model):
        model.operatorCodes[0].builtinCode = schema.BuiltinOperator.CUSTOM
        model.operatorCodes[0].deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        model.operatorCodes[0].customCode = b"FlexAngle"

    path = tmp_path / "m.tflite"
    path.write_bytes(flatbuffer.rewrite(models.tflite_cnn.read_bytes(), make_custom))
    with pytest.raises(ModelError, match="FlexAngle") as caught:
        open_artifact(path)
    assert caught.value.code == "EK117"


def test_an_operator_version_of_the_future_is_refused(models, tmp_path):
    def age(model):
        for code in model.operatorCodes:
            code.version = 99

    path = tmp_path / "m.tflite"
    path.write_bytes(flatbuffer.rewrite(models.tflite_cnn.read_bytes(), age))
    with pytest.raises(ModelError) as caught:
        open_artifact(path)
    assert caught.value.code == "EK117"
