"""The public models of EDGEKIT_ASSETS: each is read and looked into, or refused for the right reason."""

import numpy as np
import pytest

from edgekit import tensorflow_process
from edgekit.errors import ModelError
from edgekit.formats import open_artifact
from edgekit.tensorflow_process import TFLiteExport
from edgekit.verbs.inspect import inspect

pytestmark = pytest.mark.acceptance

# MLPerf Tiny publishes 12.5 M multiply-accumulates for its ResNet8, 2.7 M for the keyword model, 7.5 M for the
# person model. The rest was found here; twins of one network must agree whatever their format and precision.
_RESNET8, _RESNET8_LARGE = (77_706, 12_501_632), (480_330, 76_473_920)
_KEYWORDS, _PERSON, _TOYCAR = (22_604, 2_656_768), (210_850, 7_489_664), (265_864, 264_192)
_HEARTBEAT, _CONV_FC = (10_484, 10_240), (50_608, 106_944)

_MODELS = {
    "mlperf-tiny-ic/pretrainedResnet.h5": ((None, 32, 32, 3), (None, 10), *_RESNET8),
    "mlperf-tiny-ic/pretrainedResnet.tflite": ((None, 32, 32, 3), (None, 10), *_RESNET8),
    "mlperf-tiny-ic/pretrainedResnet_quant.tflite": ((None, 32, 32, 3), (None, 10), *_RESNET8),
    "mlperf-tiny-ic/pretrainedResnet_large_float.tflite": ((None, 32, 32, 3), (None, 10), *_RESNET8_LARGE),
    "mlperf-tiny-ic/pretrainedResnet_large_int8.tflite": ((None, 32, 32, 3), (None, 10), *_RESNET8_LARGE),
    "mlperf-tiny-kws/kws_ref_model": ((None, 49, 10, 1), (None, 12), *_KEYWORDS),
    "mlperf-tiny-kws/kws_ref_model.tflite": ((None, 49, 10, 1), (None, 12), *_KEYWORDS),
    "mlperf-tiny-kws/kws_ref_model_float32.tflite": ((None, 49, 10, 1), (None, 12), *_KEYWORDS),
    "mlperf-tiny-vww/vww_96.h5": ((None, 96, 96, 3), (None, 2), *_PERSON),
    "mlperf-tiny-vww/vww_96_float.tflite": ((None, 96, 96, 3), (None, 2), *_PERSON),
    "mlperf-tiny-vww/vww_96_int8.tflite": ((None, 96, 96, 3), (None, 2), *_PERSON),
    "mlperf-tiny-vww-onnx/vww_96_float.onnx": ((1, 3, 96, 96), (1, 2), *_PERSON),
    "mlperf-tiny-ad/ad01.h5": ((None, 640), (None, 640), *_TOYCAR),
    "mlperf-tiny-ad/ad01_fp32.tflite": ((None, 640), (None, 640), *_TOYCAR),
    "mlperf-tiny-ad/ad01_int8.tflite": ((None, 640), (None, 640), *_TOYCAR),
    # The float model's first convolution has a bias of zeros, which a float file leaves out.
    "mlperf-tiny-sww/str_ww_ref_model.h5": ((None, 30, 1, 40), (None, 3), 46_627, 826_368),
    "mlperf-tiny-sww/str_ww_ref_model.tflite": ((None, 30, 1, 40), (None, 3), 46_883, 826_368),
    "mltk-autoencoder-ecg/autoencoder_example.h5": ((None, 140), (None, 140), *_HEARTBEAT),
    "mltk-autoencoder-ecg/autoencoder_example.float32.tflite": ((None, 140), (None, 140), *_HEARTBEAT),
    "mltk-autoencoder-ecg/autoencoder_example.tflite": ((None, 140), (None, 140), *_HEARTBEAT),
    "mnist-models/mobile-lenet-5.keras": ((None, 28, 28, 1), (None, 10), 2_698, 452_216),
    "mnist-models/conv_fc_mnist.tflite": ((None, 28, 28, 1), (None, 10), *_CONV_FC),
    "mnist-models/conv_fc_mnist_srq_a8w8.tflite": ((None, 28, 28, 1), (None, 10), *_CONV_FC),
    "mnist-models/mnist_quantized.tflite": ((None, 28, 28, 1), (None, 10), *_CONV_FC),
    # 28 steps of four gates of 20 cells, and a layer of 560 x 10.
    "mnist-models/trained_lstm.tflite": ((1, 28, 28), (1, 10), 9_530, 28 * 4 * 20 * 48 + 5_600),
    "mnist-models/mnist-8.onnx": ((1, 1, 28, 28), (1, 10), 5_994, 786_560),
    "dtln/model_1.tflite": ((1, 1, 257), (1, 1, 257), 362_369, 361_088),
    "dtln/model_2.tflite": ((1, 1, 512), (1, 1, 512), 625_152, 622_592),
    "dtln/model_1.onnx": ((1, 1, 257), (1, 1, 257), 363_393, 361_088),
    "dtln/model_2.onnx": ((1, 1, 512), (1, 1, 512), 624_384, 622_592),
    "fastestdet/FastestDet.onnx": ((1, 3, 352, 352), (1, 85, 22, 22), 240_301, 121_491_744),
}


@pytest.mark.parametrize("name", _MODELS)
def test_a_public_model_is_read_and_counted(assets, name):
    given, wanted, parameters, macs = _MODELS[name]
    inspection = inspect(assets / name)
    artifact = inspection.artifact
    assert (artifact.inputs[0].shape, artifact.outputs[0].shape) == (given, wanted)
    assert (inspection.parameters, inspection.macs) == (parameters, macs)
    assert all(facts.macs is not None for facts in inspection.operators)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("pytorch-resnet-cifar10/resnet20-12fca82f.th", "EK110"),
        ("fastestdet/fastestdet_ap0.253.pth", "EK110"),
        ("data/mnist_test5k.npz", "EK106"),
        ("mlperf-tiny-kws", "EK111"),
        ("mlperf-tiny-kws/kws_ref_model/saved_model.pb", "EK104"),
        ("INDEX.md", "EK104"),
    ],
)
def test_what_is_no_model_is_refused(assets, name, code):
    with pytest.raises(ModelError) as caught:
        open_artifact(assets / name)
    assert caught.value.code == code


def test_a_saved_model_that_litert_cannot_run_is_still_described(assets):
    inspection = inspect(assets / "dtln" / "dtln_saved_model")
    assert inspection.artifact.inputs[0].shape == (1, 512)
    assert "EK120" in {finding.code for finding in inspection.findings}
    assert any("IRFFT" in finding.message for finding in inspection.findings)
    assert inspection.describe()["macs"] is None


@pytest.mark.parametrize("name", [
    "mlperf-tiny-ic/pretrainedResnet.h5", "mlperf-tiny-kws/kws_ref_model", "mlperf-tiny-vww/vww_96.h5",
    "mlperf-tiny-ad/ad01.h5", "mlperf-tiny-sww/str_ww_ref_model.h5", "mltk-autoencoder-ecg/autoencoder_example.h5",
    "mnist-models/mobile-lenet-5.keras",
])  # fmt: skip
def test_exports_compute_what_the_model_computes(assets, tmp_path, name):
    """TensorFlow, LiteRT and ONNX Runtime agree on the same inputs."""
    import onnxruntime
    from ai_edge_litert.interpreter import Interpreter

    spec = open_artifact(assets / name).inputs[0]
    samples = np.random.default_rng(5).random((3, *spec.shape[1:]), np.float32)
    ((output, expected),) = tensorflow_process.predict(assets / name, {spec.name: samples}).items()
    tensorflow_process.export_tflite(assets / name, tmp_path / "m.tflite", TFLiteExport())
    tensorflow_process.export_onnx(assets / name, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    runner = Interpreter(str(tmp_path / "m.tflite"), num_threads=1).get_signature_runner()
    for sample, reference in zip(samples, expected, strict=True):
        one = {spec.name: sample[None]}
        np.testing.assert_allclose(runner(**one)[output][0], reference, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(session.run([output], one)[0][0], reference, rtol=1e-3, atol=1e-4)
