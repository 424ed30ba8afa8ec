"""Public models on a GPU that the processor plays: what comes out, and whether wrong numbers are seen."""

import numpy as np
import pytest
from devicelab.command_line import CommandLine, codes

pytestmark = [pytest.mark.acceptance, pytest.mark.devicelab]

_IC = "mlperf-tiny-ic/pretrainedResnet"
_CIFAR = "data/cifar10_test5k.npz"


@pytest.fixture
def user(gpu, tmp_path):
    return CommandLine(tmp_path, gpu)


@pytest.mark.parametrize(
    ("model", "data", "count", "field", "limit"),
    [
        (f"{_IC}.tflite", _CIFAR, 100, "max_abs", 1e-5),
        ("mlperf-tiny-vww/vww_96_int8.tflite", "data/coco_person96_128.npz", 60, "max_units", 1),
    ],
)
def test_accuracy_is_that_of_the_processor(user, assets, model, data, count, field, limit):
    words = ("evaluate", assets / model, "--data", assets / data, "--samples", str(count))
    here = user.run(*words)["result"]
    document = user.run(*words, "--device", "local", "--delegate", "gpu")
    assert document["result"]["delegate"] == "gpu"
    assert document["result"]["value"] == here["value"]
    assert document["result"]["agreement"]["value"] == 1
    assert document["result"]["agreement"][field] <= limit
    assert "EK543" in codes(document)
    assert not {"EK511", "EK512", "EK545"} & set(codes(document))


def test_a_defect_of_the_accelerator_is_measured_warned_of_and_found(user, assets):
    """LiteRT 2.3.0 computes the int8 model's strided 1x1 convolutions wrong on a GPU."""
    there = ("--data", assets / _CIFAR, "--device", "local", "--delegate", "gpu")
    document = user.run("evaluate", assets / f"{_IC}_quant.tflite", *there, "--samples", "100")
    assert "EK545" in codes(document)
    agreement = document["result"]["agreement"]
    assert agreement["value"] < 0.95
    assert agreement["max_units"] > 100
    assert len(agreement["differing"]) == round(100 * (1 - agreement["value"]))
    found = user.run("debug", assets / f"{_IC}_quant.tflite", *there, "--samples", "4", expect=1)
    defects = [tensor for tensor in found["result"]["tensors"] if tensor["verdict"] == "defect"]
    assert [tensor["op"] for tensor in defects] == ["CONV_2D", "CONV_2D"]
    assert "conv2d_5" in defects[0]["name"]


def test_a_model_that_the_gpu_takes_in_part(user, assets):
    words = (
        "benchmark",
        assets / "dtln/model_1.tflite",
        "--device",
        "local",
        "--delegate",
        "gpu",
        "--runs",
        "5",
    )
    document = user.run(*words, "--require-placement", "80")
    assert 80 < document["result"]["placement"]["accelerated_pct"] < 90
    [told] = [finding for finding in document["findings"] if finding["code"] == "EK512"]
    assert "STRIDED_SLICE" in told["message"]
    assert "EK515" in codes(user.run(*words, "--require-placement", "90", expect=4))


def test_a_run_ends_when_the_outputs_are_there(user, assets):
    """The interface returns after 0.1 ms with the work still before it: 12 million multiplications, on a processor."""
    words = ("benchmark", assets / f"{_IC}.tflite", "--device", "local", "--delegate", "gpu", "--runs", "5")
    assert user.run(*words)["result"]["latency_ms"]["min"] > 0.5


@pytest.fixture
def onnx_user(gpu, onnx_gpu, tmp_path):
    """One whose cache has ONNX Runtime for GPUs."""
    user = CommandLine(tmp_path, gpu)
    user.share_toolchains(onnx_gpu)
    return user


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "data", "contract", "count"),
    [
        ("mnist-models/mnist-8.onnx", "data/mnist_test5k.npz", "raw-0-255-gray-nchw", 60),
        (
            "mlperf-tiny-vww-onnx/vww_96_float.onnx",
            "data/coco_person96_128.npz",
            "unit-range-rgb-nchw",
            12,
        ),
    ],
)
def test_onnx_runtime_answers_there_what_it_answers_here(onnx_user, assets, model, data, contract, count):
    words = ("evaluate", assets / model, "--data", assets / data, "--preprocess", contract)
    words = (*words, "--samples", str(count))
    here = onnx_user.run(*words)["result"]
    document = onnx_user.run(*words, "--device", "local", "--delegate", "gpu")
    result = document["result"]
    assert (result["runtime"], result["delegate"]) == ("onnxruntime", "gpu")
    assert result["value"] == here["value"]
    assert result["agreement"]["value"] == 1
    # Of logits up to 10,000 for digits, and of probabilities.
    assert 0 < result["agreement"]["max_abs"] < 0.01
    assert "EK543" in codes(document)
    assert not {"EK511", "EK512"} & set(codes(document))


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2])
def test_onnx_runtime_takes_models_with_states(onnx_user, assets, tmp_path, number):
    model = assets / f"dtln/model_{number}.onnx"
    generator = np.random.default_rng(0)
    features = {1: ("input_2", 257), 2: ("input_4", 512)}[number]
    states = {1: "input_3", 2: "input_5"}[number]
    samples = {
        features[0]: generator.random((20, 1, features[1]), np.float32),
        states: generator.normal(size=(20, 2, 128, 2)).astype(np.float32),
    }
    np.savez(tmp_path / "data.npz", **samples)
    there = ("--device", "local", "--delegate", "gpu")
    words = ("evaluate", model, "--data", tmp_path / "data.npz", "--metric", "snr", "--reference", model)
    assert onnx_user.run(*words, *there)["result"]["value"] > 100
    measured = onnx_user.run("benchmark", model, *there, "--runs", "3", "--require-placement", "100")
    assert measured["result"]["placement"]["accelerated_pct"] == 100
