"""Planted defects are named, and sound files are not accused."""

import math

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import edgekit
from edgekit import flatbuffer
from edgekit.debugging.verdict import Verdict

_DEFECTS = ["weights scaled", "weight scale wrong", "bias zeroed", "zero point shifted"]


def _layers(path):
    """The places of the operators with a weight and a bias."""
    graph = flatbuffer.read(path.read_bytes()).subgraphs[0]
    return [
        place for place, op in enumerate(graph.operators) if op.inputs is not None and len(op.inputs) == 3
    ]


def _defects(found):
    return [report for report in found.tensors if report.verdict is Verdict.DEFECT]


@pytest.mark.parametrize("defect", _DEFECTS)
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_planted_defect_is_named_and_nothing_else(digits, int8, plant, defect, layer):
    model, _, test = digits
    place = _layers(int8[0])[layer]
    planted = plant(int8[0], defect, place)
    found = edgekit.debug(model, planted, test)
    written = flatbuffer.read(planted.read_bytes()).subgraphs[0].operators[place].outputs[0]
    assert found.verdict is Verdict.DEFECT
    assert [report.pair.b.key for report in _defects(found)] == [str(written)]
    assert found.defect is found.worst
    assert [finding.code for finding in found.findings if finding.level == "error"] == ["EK707"]
    assert repr(found.defect.pair.b.name) in found.sentence()


@pytest.mark.parametrize("version", [0, 1], ids=["named", "nameless"])
def test_a_sound_int8_file_is_rounding(digits, int8, version):
    model, _, test = digits
    found = edgekit.debug(model, int8[version], test)
    assert found.verdict is Verdict.ROUNDING
    assert found.pairing.only_a == found.pairing.only_b == ()
    assert found.samples == 32
    # What rounding explains is what is there, within the chance of 32 samples.
    for report in found.tensors:
        if report.pair.b.kind in {"CONV_2D", "DEPTHWISE_CONV_2D"}:
            assert report.own_db == pytest.approx(report.expected_db, abs=2.0)


@pytest.mark.parametrize(
    "recipe", ["dynamic", "float16", "int16x8", "weight_only_wi8_afp32", "static_wi4_ai8"]
)
def test_no_recipe_makes_defects(digits, tmp_path, recipe):
    model, calibration, test = digits
    edgekit.quantize(model, tmp_path / "q.tflite", recipe=recipe, calibration=calibration)
    found = edgekit.debug(model, tmp_path / "q.tflite", test)
    # Biases make up for the roundings of layers before: with 4 bits that is more than a layer's own rounding.
    allowed = {Verdict.ROUNDING, Verdict.DEGRADES} if recipe == "static_wi4_ai8" else {Verdict.ROUNDING}
    assert found.verdict in allowed
    assert found.pairing.only_a == ()


def test_the_numbers_are_those_of_the_outputs(digits, int8):
    """The last tensor's SNR is that of the models as they run, computed here without any edited file."""
    model, _, test = digits
    found = edgekit.debug(model, int8[0], test, samples=50)
    with np.load(test) as arrays:
        count = len(arrays["x"])
        x = arrays["x"][[i * count // 50 for i in range(50)]]
    outputs = []
    for path in (model, int8[0]):
        artifact = edgekit.open_artifact(path)
        session = edgekit.runtimes.open_session(artifact)
        outputs.append(session.run({artifact.inputs[0].name: x})[artifact.outputs[0].name].astype(np.float64))
    exact, measured = outputs
    snr_db = 10 * math.log10(np.sum(exact**2) / np.sum((exact - measured) ** 2))
    last = found.outputs[-1]
    assert last.seen.whole.snr_db == pytest.approx(snr_db, abs=1e-6)
    assert last.seen.whole.largest == pytest.approx(np.abs(exact - measured).max(), rel=1e-6)
    cosine = np.sum(exact * measured) / np.sqrt(np.sum(exact**2) * np.sum(measured**2))
    assert last.seen.whole.cosine == pytest.approx(cosine, abs=1e-9)
    assert found.exposed.largest == 0


def test_a_file_against_itself_is_identical(int8, digits):
    found = edgekit.debug(int8[0], int8[0], digits[2], samples=4)
    assert found.verdict is Verdict.IDENTICAL
    assert found.first is None
    assert found.worst is None


def test_two_runtimes_differ_by_rounding_in_every_operator(int8, digits):
    found = edgekit.debug(int8[0], None, digits[2], runtime_b="litert_builtin")
    assert found.verdict in {Verdict.ROUNDING, Verdict.IDENTICAL}
    assert found.runtimes == ("litert", "litert_builtin")
    steps = [(report.seen.own.largest, report.step) for report in found.tensors if report.step]
    assert len(steps) > 5
    assert all(largest <= 2 * step * 1.001 for largest, step in steps)


def test_a_defective_kernel_is_named(int8, digits):
    """One side answers wrongly in one tensor, as the kernel of a device would."""
    from edgekit.runtimes import open_session

    target = edgekit.debug(int8[0], int8[0], digits[2], samples=1).tensors[3].pair.b

    class Wrong:
        def __init__(self, session):
            self._session = session

        def run(self, inputs):
            outputs = self._session.run(inputs)
            if target.key in outputs:
                outputs[target.key] = np.roll(outputs[target.key], 1, axis=-1)
            return outputs

        def close(self):
            self._session.close()

    found = edgekit.debug(
        int8[0], int8[0], digits[2], open_b=lambda artifact: Wrong(open_session(artifact)), samples=8
    )
    assert _defects(found)[0].pair.b.key == target.key
    assert found.first.pair.b.key == target.key


def test_outputs_that_change_when_tensors_are_visible_are_said(int8, digits):
    """A runtime that fuses operators of the file as it is, and gives other outputs then."""
    from edgekit.runtimes import open_session

    class Fused:
        def __init__(self, session, is_plain):
            self._session, self._is_plain = session, is_plain

        def run(self, inputs):
            outputs = self._session.run(inputs)
            return {name: values + 0.25 * self._is_plain for name, values in outputs.items()}

        def close(self):
            self._session.close()

    def open_b(artifact):
        return Fused(open_session(artifact), artifact.path == int8[0])

    found = edgekit.debug(int8[0], int8[0], digits[2], open_b=open_b, samples=2)
    assert found.exposed.largest == pytest.approx(0.25)
    assert [finding.code for finding in found.findings] == ["EK706"]


def test_values_that_are_not_finite_are_a_defect(digits):
    from edgekit.runtimes import open_session

    class Infinite:
        def __init__(self, session):
            self._session = session

        def run(self, inputs):
            outputs = self._session.run(inputs)
            for values in outputs.values():
                values.ravel()[0] = np.inf
            return outputs

        def close(self):
            self._session.close()

    model, _, test = digits
    found = edgekit.debug(
        model, model, test, open_b=lambda artifact: Infinite(open_session(artifact)), samples=2
    )
    assert found.verdict is Verdict.DEFECT
    assert "NaN or infinite" in found.sentence()


def test_a_sound_onnx_file_is_rounding(onnx_pair):
    source, output, data = onnx_pair
    found = edgekit.debug(source, output, data)
    assert found.verdict is Verdict.ROUNDING
    assert found.pairing.only_a == found.pairing.only_b == ()


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_a_planted_defect_is_named_in_onnx(onnx_pair, tmp_path, layer):
    source, output, data = onnx_pair
    model = onnx.load(output)
    weights = [tensor for tensor in model.graph.initializer if len(tensor.dims) >= 2]
    values = numpy_helper.to_array(weights[layer])
    weights[layer].CopyFrom(numpy_helper.from_array((values // 2).astype(values.dtype), weights[layer].name))
    readers = {weights[layer].name}
    for node in model.graph.node:
        if node.input[0] in readers and node.op_type == "DequantizeLinear":
            readers.add(node.output[0])
    expected = next(
        node.output[0] for node in model.graph.node if len(node.input) > 1 and node.input[1] in readers
    )
    onnx.save(model, tmp_path / "planted.onnx")
    found = edgekit.debug(source, tmp_path / "planted.onnx", data)
    assert [report.pair.b.key for report in _defects(found)] == [expected]


def test_branches_that_come_in_another_order_are_paired_by_their_weights(onnx_pair, tmp_path):
    source, output, data = onnx_pair
    model = onnx.load(output)
    before = [node.op_type for node in model.graph.node]
    places = [place for place, kind in enumerate(before) if kind == "Conv"]
    first, second = places[1], places[2]
    nodes = list(model.graph.node)
    nodes[first], nodes[second] = nodes[second], nodes[first]
    from onnxruntime.quantization.onnx_model import ONNXModel

    del model.graph.node[:]
    model.graph.node.extend(nodes)
    swapped = ONNXModel(model)
    swapped.topological_sort()
    onnx.save(swapped.model, tmp_path / "swapped.onnx")
    found = edgekit.debug(source, tmp_path / "swapped.onnx", data)
    assert found.verdict is Verdict.ROUNDING
    assert found.pairing.only_a == ()
