"""Published int8 models are no defects, and a defect planted into one is found in its layer."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

import edgekit
from edgekit import flatbuffer
from edgekit.debugging.verdict import Verdict

pytestmark = pytest.mark.acceptance

_PAIRS = {
    "ic": ("mlperf-tiny-ic/pretrainedResnet.tflite", "mlperf-tiny-ic/pretrainedResnet_quant.tflite"),
    "ic large": (
        "mlperf-tiny-ic/pretrainedResnet_large_float.tflite",
        "mlperf-tiny-ic/pretrainedResnet_large_int8.tflite",
    ),
    "kws": ("mlperf-tiny-kws/kws_ref_model_float32.tflite", "mlperf-tiny-kws/kws_ref_model.tflite"),
    "vww": ("mlperf-tiny-vww/vww_96_float.tflite", "mlperf-tiny-vww/vww_96_int8.tflite"),
    "ecg": (
        "mltk-autoencoder-ecg/autoencoder_example.float32.tflite",
        "mltk-autoencoder-ecg/autoencoder_example.tflite",
    ),
}
_DATA = {
    "ic": "cifar10_test5k.npz",
    "ic large": "cifar10_test5k.npz",
    "kws": "speech_commands_mfcc_test2445.npz",
    "ecg": "ecg5000_test1333.npz",
}


@pytest.fixture(scope="module")
def subject(assets, tmp_path_factory):
    """Float model, int8 model and samples, by name."""

    def found(name):
        if name in _DATA:
            return (*(assets / path for path in _PAIRS[name]), assets / "data" / _DATA[name])
        scaled = tmp_path_factory.mktemp("data") / "person.npz"
        with np.load(assets / "data" / "coco_person96_128.npz") as arrays:
            np.savez(scaled, x=(arrays["x"] / 255).astype(np.float32))
        return (*(assets / path for path in _PAIRS[name]), scaled)

    return found


@pytest.mark.parametrize("name", _PAIRS)
def test_published_int8_models_are_not_defective(subject, name):
    model, int8, data = subject(name)
    found = edgekit.debug(model, int8, data)
    assert found.defect is None
    assert found.pairing.only_a == found.pairing.only_b == ()
    assert found.verdict is (Verdict.DEGRADES if name == "vww" else Verdict.ROUNDING)
    # Apart from what is cut off, what rounding explains is what is there. The weights of the keyword model's
    # reference are integers themselves, so that their rounding can only be estimated.
    for report in found.tensors:
        if "CONV" in report.pair.b.kind and not report.pair.a.is_hybrid:
            assert report.seen.own.snr_db == pytest.approx(report.expected_db, abs=1.5)


def test_vww_was_calibrated_too_narrow_and_the_layer_is_named(subject):
    """Its logits reach beyond the range of the int8 tensor in one of seven values."""
    found = edgekit.debug(*subject("vww"))
    assert found.worst.pair.b.kind == "FULLY_CONNECTED"
    assert found.worst.seen.saturated_share > 0.1


@pytest.mark.parametrize("name", ["ic", "kws"])
def test_int8_kernels_of_two_kinds_differ_by_two_steps_at_most(subject, name):
    _, int8, data = subject(name)
    found = edgekit.debug(int8, None, data, runtime_b="litert_builtin", samples=16)
    assert found.verdict is Verdict.ROUNDING
    assert all(r.seen.own.largest <= 2.01 * r.step for r in found.tensors if r.step)


@pytest.mark.parametrize("name", ["ic", "kws"])
@pytest.mark.parametrize("place", [1, 4, 8])
def test_a_zeroed_bias_is_found_in_its_layer(subject, tmp_path, name, place):
    model, int8, data = subject(name)

    def edit(tree):
        graph = tree.subgraphs[0]
        bias = graph.tensors[graph.operators[place].inputs[2]]
        size = len(tree.buffers[bias.buffer].data)
        tree.buffers.append(schema.BufferT(data=np.zeros(size, np.uint8)))
        bias.buffer = len(tree.buffers) - 1

    planted = tmp_path / "planted.tflite"
    planted.write_bytes(flatbuffer.rewrite(int8.read_bytes(), edit))
    found = edgekit.debug(model, planted, data, samples=8)
    written = str(flatbuffer.read(planted.read_bytes()).subgraphs[0].operators[place].outputs[0])
    assert [r.pair.b.key for r in found.tensors if r.verdict is Verdict.DEFECT] == [written]
