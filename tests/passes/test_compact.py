import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from edgekit import flatbuffer
from edgekit.passes.compact import compact


def spec(model):
    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    fields = ("name", "shape", "shape_signature", "dtype", "quantization")
    return [
        {name: str(detail[name]) for name in fields}
        for detail in interpreter.get_input_details() + interpreter.get_output_details()
    ], interpreter.get_signature_list()


def random_inputs(model, count, seed=0):
    """``count`` random inputs within the range of each input's type."""
    rng = np.random.default_rng(seed)
    interpreter = Interpreter(model_content=model)
    for _ in range(count):
        yield [
            rng.normal(0, 1, detail["shape"]).astype(np.float32)
            if detail["dtype"] is np.float32
            else rng.integers(-128, 128, detail["shape"]).astype(detail["dtype"])
            for detail in interpreter.get_input_details()
        ]


def assert_same_outputs(before, after, inputs, run):
    for arrays in inputs:
        for reference in (False, True):
            old, new = (run(model, *arrays, reference=reference) for model in (before, after))
            assert [array.tobytes() for array in old] == [array.tobytes() for array in new]


@pytest.mark.parametrize("name", ["cnn", "cnn_int8", "cnn_no_signature", "cnn_dynamic_batch"])
def test_outputs_and_specs_stay_and_the_file_shrinks(models, run_tflite, name):
    before = getattr(models, f"tflite_{name}").read_bytes()
    after = compact(before)
    assert len(after) < len(before)
    assert spec(after) == spec(before)
    assert_same_outputs(before, after, random_inputs(before, 20), run_tflite)


def test_an_int8_file_of_the_converter_loses_a_tenth_and_more(models):
    before = models.tflite_cnn_int8.read_bytes()
    assert len(compact(before)) < 0.75 * len(before)
    assert len(compact(before, keep_names=True)) < 0.88 * len(before)


def test_compact_twice_is_compact_once(models):
    once = compact(models.tflite_cnn_int8.read_bytes())
    assert compact(once) is once


def test_names_of_inner_tensors_go_unless_kept(quantized_sum):
    model = quantized_sum()
    model.tree.description = b"ours"
    before = model.bytes()

    def names(content):
        tree = flatbuffer.read(content)
        return [tensor.name for tensor in tree.subgraphs[0].tensors], tree.subgraphs[0].name, tree.description

    assert names(compact(before)) == ([b"a:0", b"b:0", b"total:0", b"flat:0", None], None, None)
    kept = [b"a:0", b"b:0", b"total:0", b"flat:0", b"shape"]
    assert names(compact(before, keep_names=True)) == (kept, b"main", b"ours")


def test_ranges_go_and_scales_stay(quantized_sum):
    model = quantized_sum()
    for tensor in model.graph.tensors[:4]:
        tensor.quantization.min, tensor.quantization.max = [-1.0], [1.0]
    tables = [tensor.quantization for tensor in flatbuffer.read(compact(model.bytes())).subgraphs[0].tensors]
    assert [(float(table.scale[0]), int(table.zeroPoint[0])) for table in tables[:4]] == [
        (0.5, 3),
        (0.25, 0),
        (1.0, -3),
        (0.5, 3),
    ]
    assert all(table.min is None and table.max is None for table in tables[:4])


def test_others_metadata_stays_with_its_buffer(quantized_sum):
    model = quantized_sum()
    for name, data in ((b"min_runtime_version", b"1.5.0"), (b"mine", b"precious")):
        model.tree.metadata = [
            *(model.tree.metadata or []),
            schema.MetadataT(name=name, buffer=len(model.tree.buffers)),
        ]
        model.tree.buffers.append(schema.BufferT(data=np.frombuffer(data, np.uint8)))
    tree = flatbuffer.read(compact(model.bytes()))
    assert [entry.name for entry in tree.metadata] == [b"mine"]
    assert tree.buffers[tree.metadata[0].buffer].data.tobytes() == b"precious"


def test_equal_weights_share_one_buffer_and_unused_ones_go(made, run_tflite):
    x = made.tensor("x", "float32", (1, 64))
    weights = np.arange(64 * 64, dtype=np.float32).reshape(64, 64)
    first, second = (made.tensor(f"w{i}", "float32", (64, 64), values=weights) for i in range(2))
    made.tree.buffers.append(schema.BufferT(data=np.zeros(10_000, np.uint8)))
    hidden, y = (made.tensor(name, "float32", (1, 64)) for name in ("hidden", "y"))
    made.graph.inputs, made.graph.outputs = [x], [y]
    made.operator("FULLY_CONNECTED", [x, first, -1], [hidden], schema.FullyConnectedOptionsT())
    made.operator("FULLY_CONNECTED", [hidden, second, -1], [y], schema.FullyConnectedOptionsT())
    before = made.bytes()

    after = compact(before)

    assert len(after) < weights.nbytes + 700
    assert_same_outputs(before, after, random_inputs(before, 3), run_tflite)
    assert len(flatbuffer.read(after).operatorCodes) == 1


def test_a_dynamic_shape_stays_dynamic(made, run_tflite):
    x = made.tensor("x", "float32", (1, 4), signature=(-1, 4))
    y = made.tensor("y", "float32", (1, 4), signature=(-1, 4))
    made.graph.inputs, made.graph.outputs = [x], [y]
    made.operator("NEG", [x], [y], schema.NegOptionsT())
    after = compact(made.bytes())
    assert spec(after)[0][0]["shape_signature"] == "[-1  4]"
    three = np.ones((3, 4), np.float32)
    np.testing.assert_array_equal(run_tflite(after, three)[0], -three)


def test_ai_edge_quantizer_reads_the_result(models):
    from ai_edge_quantizer.utils import tfl_flatbuffer_utils

    tree = tfl_flatbuffer_utils.read_model(compact(models.tflite_cnn_int8.read_bytes()))
    plain = tfl_flatbuffer_utils.read_model(models.tflite_cnn_int8.read_bytes())
    assert len(tree.subgraphs[0].operators) == len(plain.subgraphs[0].operators)
    for ours, theirs in zip(tree.subgraphs[0].tensors, plain.subgraphs[0].tensors, strict=True):
        assert list(ours.shape) == list(theirs.shape)
        assert np.array_equal(tree.buffers[ours.buffer].data, plain.buffers[theirs.buffer].data)


def test_ai_edge_quantizer_quantizes_a_compact_file_with_names(models):
    from ai_edge_quantizer import quantizer, recipe

    content = compact(models.tflite_cnn.read_bytes(), keep_names=True)
    engine = quantizer.Quantizer(bytearray(content))
    engine.load_quantization_recipe(recipe.dynamic_wi8_afp32())
    quantized = bytes(engine.quantize().quantized_model)
    assert len(compact(quantized)) < 0.6 * len(content)


def samples(assets, detail):
    """Real samples for an input: digits, pictures, keywords or heartbeats by its shape; else noise."""
    files = {
        (32, 32, 3): ("cifar10_test5k.npz", 1.0),
        (49, 10, 1): ("speech_commands_mfcc_test2445.npz", 1.0),
        (28, 28, 1): ("mnist_test5k.npz", 1.0),
        (28, 28): ("mnist_test5k.npz", 1.0),
        (96, 96, 3): ("coco_person96_128.npz", 1.0),
        (140,): ("ecg5000_test1333.npz", 1.0),
    }
    shape = tuple(int(size) for size in detail["shape"][1:])
    if shape not in files:
        return np.random.default_rng(1).normal(size=(20, *shape)).astype(np.float32)
    with np.load(assets / "data" / files[shape][0]) as archive:
        x = archive["x"][:100].astype(np.float32)
    return x.reshape(len(x), *shape) / (255 if x.max() > 1 and shape != (32, 32, 3) and shape[0] != 49 else 1)


@pytest.mark.acceptance
def test_every_public_model_computes_the_same_in_fewer_bytes(assets, run_tflite):
    paths = sorted(assets.rglob("*.tflite"))
    assert len(paths) >= 19
    for path in paths:
        before = path.read_bytes()
        after = compact(before)
        assert len(after) < len(before), path
        assert spec(after) == spec(before), path
        details = Interpreter(model_content=before).get_input_details()
        columns = [samples(assets, detail) for detail in details]
        inputs = []
        for rows in zip(*columns, strict=False):
            arrays = []
            for row, detail in zip(rows, details, strict=True):
                scale, zero_point = detail["quantization"]
                real = row[None]
                arrays.append(
                    real.astype(np.float32)
                    if not scale
                    else np.clip(np.rint(real / scale) + zero_point, -128, 127).astype(detail["dtype"])
                )
            inputs.append(arrays)
        assert_same_outputs(before, after, inputs[:25], run_tflite)


@pytest.mark.acceptance
def test_resnet8_is_12_percent_smaller(assets):
    before = (assets / "mlperf-tiny-ic" / "pretrainedResnet_quant.tflite").read_bytes()
    assert len(before) == 98_496
    assert len(compact(before)) <= 85_960
