"""Quantization from file to file: what comes out is read back by other means than edgekit's own."""

import json
import math
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter

import edgekit
from edgekit import flatbuffer
from edgekit.artifact import Artifact, Format
from edgekit.errors import DataError, ModelError, OutputError, UsageError
from edgekit.findings import Level
from edgekit.logits import logits_snr_db
from edgekit.operators import Operator
from edgekit.pipeline import Produced
from edgekit.readback import ReadBack
from edgekit.tensor import Difference
from edgekit.verbs.quantize import _Made, _nearest

STATIC = ["static_wi8_ai8", "static_wi8_ai16", "static_wi4_ai8"]
OTHERS = [
    "float16",
    "dynamic_wi8_afp32",
    "dynamic_wi4_afp32",
    "weight_only_wi8_afp32",
    "weight_only_wi4_afp32",
]
# Each measured on this model, less a margin: 8-bit weights cost little, 4-bit ones of a tiny network a lot.
WORST_SNR_DB = {"float16": 50, "static_wi8_ai8": 20, "static_wi8_ai16": 25}


def samples(models):
    with np.load(models.test_data) as arrays:
        return arrays["x"][:200].astype(np.float32), arrays["y"][:200]


def run_tflite(path, x):
    """Outputs as real numbers, by the plain interpreter."""
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    rows = []
    for sample in x:
        value = sample[None]
        if taken["dtype"] != np.float32:
            scale, zero_point = taken["quantization"]
            limits = np.iinfo(taken["dtype"])
            value = np.clip(np.rint(value / scale) + zero_point, limits.min, limits.max)
        interpreter.set_tensor(taken["index"], value.astype(taken["dtype"]))
        interpreter.invoke()
        row = interpreter.get_tensor(given["index"])[0]
        if given["dtype"] != np.float32:
            scale, zero_point = given["quantization"]
            row = (row.astype(np.float32) - zero_point) * scale
        rows.append(row)
    return np.array(rows)


def tensor_dtypes(path):
    plain = Interpreter(str(path))
    return {np.dtype(detail["dtype"]).name for detail in plain.get_tensor_details()}


@pytest.mark.parametrize("recipe", [*STATIC, *OTHERS])
def test_tflite_recipes_shrink_the_file_and_keep_the_predictions(models, tmp_path, recipe):
    output = tmp_path / "out.tflite"
    found = edgekit.quantize(models.tflite_cnn, output, recipe=recipe, calibration=models.train_data)
    x, _ = samples(models)
    expected, measured = run_tflite(models.tflite_cnn, x), run_tflite(output, x)
    assert output.stat().st_size < models.tflite_cnn.stat().st_size
    assert (expected.argmax(1) == measured.argmax(1)).mean() > (0.7 if "wi4" in recipe else 0.95)
    assert found.read_back.snr_db > WORST_SNR_DB.get(recipe, 5)
    assert found.artifact.size_bytes == output.stat().st_size


def test_int8_has_no_float_operator_inside(models, tmp_path):
    output = tmp_path / "out.tflite"
    found = edgekit.quantize(
        models.tflite_cnn, output, recipe="int8", io="int8", calibration=models.train_data
    )
    assert tensor_dtypes(output) == {"int8", "int32"}
    assert found.describe()["ops"]["float"] == 0
    assert {finding.level for finding in found.findings} <= {Level.NOTE}


@pytest.mark.parametrize("io", ["float32", "int8", "uint8"])
def test_inputs_and_outputs_are_of_the_type_asked_for(models, tmp_path, io):
    output = tmp_path / "out.tflite"
    edgekit.quantize(models.tflite_cnn, output, io=io, calibration=models.train_data)
    interpreter = Interpreter(str(output))
    details = [*interpreter.get_input_details(), *interpreter.get_output_details()]
    assert {np.dtype(detail["dtype"]).name for detail in details} == {io}
    assert [list(detail["shape"]) for detail in details] == [[1, 8, 8, 1], [1, 10]]


def test_file_without_a_signature_gets_one(models, tmp_path):
    output = tmp_path / "out.tflite"
    edgekit.quantize(models.tflite_cnn_no_signature, output, calibration=models.train_data)
    assert list(Interpreter(str(output)).get_signature_list()) == ["serving_default"]


def test_operator_codes_of_old_files_are_understood(models, tmp_path):
    old = tmp_path / "old.tflite"

    def age(tree):
        for code in tree.operatorCodes:
            code.deprecatedBuiltinCode, code.builtinCode = code.builtinCode, 0

    old.write_bytes(flatbuffer.rewrite(models.tflite_cnn.read_bytes(), age))
    found = edgekit.quantize(old, tmp_path / "out.tflite", calibration=models.train_data)
    assert found.describe()["ops"]["float"] == 0
    assert found.read_back.snr_db > 20


def test_dynamic_batch_is_fixed_to_one(models, tmp_path):
    output = tmp_path / "out.tflite"
    edgekit.quantize(models.tflite_cnn_dynamic_batch, output, calibration=models.train_data)
    detail = Interpreter(str(output)).get_input_details()[0]
    assert list(detail["shape_signature"]) == [1, 8, 8, 1]


def test_keep_float_leaves_the_layers_named(models, tmp_path):
    output = tmp_path / "out.tflite"
    found = edgekit.quantize(
        models.tflite_cnn, output, keep_float=["classes"], keep_names=True, calibration=models.train_data
    )
    kinds = [entry["op"] for entry in found.describe()["ops"]["float_ops"]]
    assert "FULLY_CONNECTED" in kinds
    assert "CONV_2D" not in kinds
    assert "EK301" not in {finding.code for finding in found.findings}


def test_rule_that_matches_nothing_is_a_finding(models, tmp_path):
    found = edgekit.quantize(
        models.tflite_cnn, tmp_path / "out.tflite", keep_float=["clases"], calibration=models.train_data
    )
    assert ["'clases'" in f.message for f in found.findings if f.code == "EK322"] == [True]


def test_recipe_file_gives_layers_their_own_precision(models, tmp_path):
    recipe = tmp_path / "mixed.toml"
    recipe.write_text(
        'schema = 1\nbase = "int8"\n[[rules]]\noperators = ["FULLY_CONNECTED"]\nprecision = "float32"\n'
    )
    found = edgekit.quantize(
        models.tflite_cnn, tmp_path / "out.tflite", recipe=str(recipe), calibration=models.train_data
    )
    assert found.describe()["ops"]["float_ops"][0]["op"] == "FULLY_CONNECTED"


def test_slow_kernels_are_a_finding(models, tmp_path):
    found = edgekit.quantize(
        models.tflite_cnn, tmp_path / "out.tflite", recipe="int16x8", calibration=models.train_data
    )
    assert "EK303" in {finding.code for finding in found.findings}


def test_lineage_lies_beside_the_file(models, tmp_path):
    output = tmp_path / "out.tflite"
    found = edgekit.quantize(
        models.tflite_cnn, output, calibration=models.train_data, calibration_samples=90, seed=5
    )
    lineage = json.loads((tmp_path / "out.tflite.json").read_text())
    assert lineage["source_sha256"] == found.source.sha256
    assert lineage["recipe"] == "static_wi8_ai8"
    assert lineage["engine"] == "ai_edge_quantizer"
    assert lineage["calibration"]["count"] == 90
    assert lineage["seed"] == 5
    assert lineage["versions"]["edgekit"] == edgekit.__version__


def test_the_contract_is_kept_also_where_no_data_is_given(tflite_cnn, tmp_path):
    contract = tmp_path / "counts.toml"
    contract.write_text("schema = 1\nscale = 0.0625\n")
    edgekit.quantize(tflite_cnn, tmp_path / "out.tflite", recipe="float16", preprocess=str(contract))
    lineage = json.loads((tmp_path / "out.tflite.json").read_text())
    assert lineage["preprocessing"]["scale"] == 0.0625
    with pytest.raises(UsageError, match="imagenet"):
        edgekit.quantize(tflite_cnn, tmp_path / "b.tflite", recipe="float16", preprocess="imagenet-torhc")
    assert not (tmp_path / "b.tflite").exists()


def test_same_seed_gives_the_same_bytes(models, tmp_path):
    for name in ("a.tflite", "b.tflite"):
        edgekit.quantize(models.tflite_cnn, tmp_path / name, calibration=models.train_data, seed=1)
    assert (tmp_path / "a.tflite").read_bytes() == (tmp_path / "b.tflite").read_bytes()


@pytest.mark.parametrize("recipe", ["static_wi8_ai8", "static_wi8_ai16", "dynamic_wi8_afp32", "float16"])
def test_onnx_recipes_load_in_onnx_runtime_and_keep_the_predictions(models, tmp_path, recipe):
    output = tmp_path / "out.onnx"
    edgekit.quantize(models.onnx_cnn, output, recipe=recipe, calibration=models.train_data)
    x, _ = samples(models)
    onnx.checker.check_model(onnx.load(output))
    before, after = (onnxruntime.InferenceSession(str(p)) for p in (models.onnx_cnn, output))
    name = before.get_inputs()[0].name
    assert after.get_inputs()[0].name == name
    expected = before.run(None, {name: x})[0]
    measured = np.concatenate([after.run(None, {name: sample[None]})[0] for sample in x])
    assert output.stat().st_size < models.onnx_cnn.stat().st_size
    assert (expected.argmax(1) == measured.argmax(1)).mean() > 0.95


def test_onnx_static_weights_are_int8(models, tmp_path):
    output = tmp_path / "out.onnx"
    edgekit.quantize(models.onnx_cnn, output, calibration=models.train_data)
    weights = [t for t in onnx.load(output).graph.initializer if len(t.dims) == 4]
    assert weights
    assert {tensor.data_type for tensor in weights} == {onnx.TensorProto.INT8}


def test_keras_tries_both_engines_and_keeps_the_nearest(models, tmp_path):
    output = tmp_path / "out.tflite"
    found = edgekit.quantize(models.keras_cnn, output, calibration=models.train_data)
    assert {attempt.engine for attempt in found.attempts} == {"ai_edge_quantizer", "tensorflow"}
    # Near where it counts: before the softmax, on samples that neither engine saw.
    x, y = samples(models)
    edgekit.convert(models.keras_cnn, tmp_path / "float.tflite")
    original = edgekit.open_artifact(tmp_path / "float.tflite")
    snr = {}
    for engine in ("ai-edge-quantizer", "tensorflow"):
        alone = edgekit.quantize(
            models.keras_cnn, tmp_path / f"{engine}.tflite", calibration=models.train_data, engine=engine
        )
        snr[alone.engine] = logits_snr_db(original, alone.artifact, {original.inputs[0].name: x})
    assert snr[found.engine] >= max(snr.values()) - 1
    x, y = samples(models)
    assert (run_tflite(output, x).argmax(1) == y).mean() > 0.9


@pytest.mark.parametrize("engine", ["ai_edge_quantizer", "tensorflow"])
def test_batch_of_four_is_built_in_and_calibrated_in_fours(models, tmp_path, engine):
    output = tmp_path / "out.tflite"
    found = edgekit.quantize(
        models.keras_cnn,
        output,
        batch=4,
        engine=engine,
        calibration=models.train_data,
        calibration_samples=50,
    )
    assert list(Interpreter(str(output)).get_input_details()[0]["shape"]) == [4, 8, 8, 1]
    assert found.read_back.snr_db > 20


def test_findings_where_nothing_is_given_to_compare_with(models, tmp_path):
    found = edgekit.quantize(models.tflite_cnn, tmp_path / "out.tflite", recipe="dynamic")
    assert "EK320" in {finding.code for finding in found.findings}


def test_static_recipe_without_calibration_is_refused(models, tmp_path):
    with pytest.raises(UsageError, match="needs calibration data"):
        edgekit.quantize(models.tflite_cnn, tmp_path / "out.tflite")
    assert list(tmp_path.iterdir()) == []


def test_output_without_a_known_suffix_is_refused(models, tmp_path):
    with pytest.raises(UsageError, match="which format"):
        edgekit.quantize(models.tflite_cnn, tmp_path / "out.bin", calibration=models.train_data)


def test_integer_io_needs_a_static_tflite(models, tmp_path):
    with pytest.raises(UsageError, match="--io int8"):
        edgekit.quantize(models.tflite_cnn, tmp_path / "out.tflite", recipe="float16", io="int8")


def test_existing_output_is_kept(models, tmp_path):
    output = tmp_path / "out.tflite"
    output.write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists already"):
        edgekit.quantize(models.tflite_cnn, output, calibration=models.train_data)
    assert output.read_bytes() == b"precious"
    edgekit.quantize(models.tflite_cnn, output, calibration=models.train_data, overwrite=True)
    assert output.stat().st_size > 1000


def test_existing_file_in_the_lineages_place_is_kept(models, tmp_path):
    notes = tmp_path / "out.tflite.json"
    notes.write_text("precious")
    with pytest.raises(OutputError, match=r"out\.tflite\.json exists already"):
        edgekit.quantize(models.tflite_cnn, tmp_path / "out.tflite", calibration=models.train_data)
    assert notes.read_text() == "precious"
    assert not (tmp_path / "out.tflite").exists()


def test_wrong_shape_is_refused_before_anything_is_written(models, tmp_path):
    data = tmp_path / "wrong.npz"
    np.savez(data, x=np.random.default_rng(0).random((60, 7, 8, 1), np.float32))
    with pytest.raises(DataError):
        edgekit.quantize(models.tflite_cnn, tmp_path / "out.tflite", calibration=data)
    assert not (tmp_path / "out.tflite").exists()


def test_already_quantized_model_is_refused(models, tmp_path):
    with pytest.raises(ModelError, match="already"):
        edgekit.quantize(models.tflite_cnn_int8, tmp_path / "out.tflite", calibration=models.train_data)


def matmul_model(path, *, opset=17):
    """Two dense layers by MatMul and Add, with their weights listed among the inputs, as old files do."""
    helper, generator = onnx.helper, np.random.default_rng(0)
    weights = {
        name: generator.standard_normal(shape).astype(np.float32) * 0.1
        for name, shape in {"a": (64, 256), "b": (256, 32)}.items()
    }
    real = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "a"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("MatMul", ["r", "b"], ["y"]),
        ],
        "dense",
        [
            helper.make_tensor_value_info("x", real, ["n", 64]),
            *(helper.make_tensor_value_info(name, real, values.shape) for name, values in weights.items()),
        ],
        [helper.make_tensor_value_info("y", real, ["n", 32])],
        [onnx.numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=3)
    onnx.save(model, path)
    data = path.with_suffix(".npz")
    np.savez(data, x=generator.standard_normal((200, 64)).astype(np.float32))
    return data


@pytest.mark.parametrize(
    ("recipe", "share"), [("weight_only_wi4_afp32", 0.25), ("weight_only_wi8_afp32", 0.4)]
)
def test_onnx_weight_only_is_matmul_nbits(tmp_path, recipe, share):
    model, output = tmp_path / "dense.onnx", tmp_path / "out.onnx"
    data = matmul_model(model)
    found = edgekit.quantize(model, output, recipe=recipe, calibration=data)
    kinds = [node.op_type for node in onnx.load(output).graph.node]
    assert kinds.count("MatMulNBits") == 2
    assert output.stat().st_size < share * model.stat().st_size
    assert found.read_back.stayed_float == ()


def test_old_opset_is_upgraded_before_per_channel_quantization(tmp_path):
    model, output = tmp_path / "old.onnx", tmp_path / "out.onnx"
    data = matmul_model(model, opset=8)
    found = edgekit.quantize(model, output, calibration=data)
    assert min(entry.version for entry in onnx.load(output).opset_import if not entry.domain) >= 13
    assert found.read_back.snr_db > 25


def test_recipe_without_anything_to_do_is_said(models, tmp_path):
    found = edgekit.quantize(
        models.onnx_cnn,
        tmp_path / "out.onnx",
        recipe="weight_only_wi4_afp32",
        calibration=models.train_data,
    )
    assert {"Conv", "Gemm"} & {operator.kind for operator in found.read_back.stayed_float}
    assert "EK301" in {finding.code for finding in found.findings}


def candidate(engine, *, snr_db, stayed, size_bytes):
    operator = Operator("CONV_2D", ("y",), (), ())
    read = ReadBack({"y": Difference(snr_db, 0.0)}, (), (operator,) * stayed, 1, ())
    artifact = Artifact(Path(engine), Format.TFLITE, (), (), "", size_bytes)
    return _Made(Produced(engine, artifact, Path(engine), artifact, ()), read, snr_db)


@pytest.mark.parametrize(
    ("candidates", "kept"),
    [
        # Nothing quantized is nothing gained, however near.
        ([("idle", math.inf, 9, 100), ("busy", 30.0, 0, 50)], "busy"),
        # A complete file that is far off loses to a nearer one with a layer in float.
        ([("near", 30.0, 1, 100), ("far", 9.0, 0, 50)], "near"),
        # Equally near: the smaller one.
        ([("large", 30.3, 0, 100), ("small", 30.0, 0, 50)], "small"),
        ([("nearer", 33.0, 0, 100), ("small", 30.0, 0, 50)], "nearer"),
    ],
)
def test_the_kept_candidate_did_what_was_asked_and_is_near(candidates, kept):
    made = [
        candidate(name, snr_db=snr, stayed=stayed, size_bytes=size) for name, snr, stayed, size in candidates
    ]
    assert _nearest(made).produced.engine == kept
