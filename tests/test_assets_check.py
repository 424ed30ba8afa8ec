"""The gate on public models: int8 twins pass, models damaged by about two points fail, few samples do not tell."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit import flatbuffer

pytestmark = pytest.mark.acceptance

_CASES = Path(__file__).parents[1] / "benchmarks" / "_cases.py"
# The model as .tflite for damaging, the operator that is damaged, by how many deviations of its weights, and a seed.
_FLOAT = {
    "ic": ("mlperf-tiny-ic/pretrainedResnet.tflite", 1, 0.21, 1),
    "kws": ("mlperf-tiny-kws/kws_ref_model_float32.tflite", 3, 0.3, 1),
    "ecg": ("mltk-autoencoder-ecg/autoencoder_example.float32.tflite", 5, 3.8, 3),
}
_MAX_DROP = {"max_drop": 0.01}


@pytest.fixture(scope="module")
def cases(assets):
    spec = importlib.util.spec_from_file_location("cases", _CASES)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEKIT_ASSETS", str(assets))
        patch.syspath_prepend(_CASES.parent)
        # Dataclasses look their module up by name.
        patch.setitem(sys.modules, "cases", module)
        spec.loader.exec_module(module)
        yield {case.name: case for case in module.CASES}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("check")


@pytest.fixture(scope="module")
def baselines(cases, folder):
    """A baseline of each float model on all of its test samples."""
    made = {}
    for name in _FLOAT:
        _, test = cases[name].data(folder)
        made[name] = folder / f"{name}.json"
        edgekit.create_baseline(cases[name].path, test, made[name], metric=cases[name].metric, latency=False)
    return made


def damage(source, target, operator, strength, seed):
    """Add noise to the weights of one layer of a float .tflite."""

    def edit(model):
        graph = model.subgraphs[0]
        buffer = model.buffers[graph.tensors[graph.operators[operator].inputs[1]].buffer]
        weights = np.frombuffer(bytes(buffer.data), np.float32)
        noise = np.random.default_rng(seed).normal(size=weights.size)
        noisy = (weights + strength * weights.std() * noise).astype(np.float32)
        buffer.data = np.frombuffer(noisy.tobytes(), np.uint8)

    target.write_bytes(flatbuffer.rewrite(source.read_bytes(), edit))
    return target


@pytest.fixture(scope="module", params=sorted(_FLOAT))
def name(request):
    return request.param


def test_the_int8_twin_passes(name, cases, baselines, folder):
    calibration, _ = cases[name].data(folder)
    twin = folder / f"{name}.int8.tflite"
    edgekit.quantize(cases[name].path, twin, recipe="int8", calibration=calibration)
    found = edgekit.check(twin, baselines[name], limits=_MAX_DROP)
    assert found.verdict == "pass", found.sentence()


def test_a_damaged_model_fails(name, assets, baselines, folder):
    model, *how = _FLOAT[name]
    bad = damage(assets / model, folder / f"{name}.bad.tflite", *how)
    found = edgekit.check(bad, baselines[name], limits=_MAX_DROP)
    assert 0.015 < found.gates[0].difference < 0.035
    assert found.verdict == "fail", found.sentence()


def test_a_hundred_samples_do_not_tell_and_the_number_that_would_is_named(name, assets, baselines, folder):
    model, *how = _FLOAT[name]
    bad = damage(assets / model, folder / f"{name}.few.tflite", *how)
    found = edgekit.check(bad, baselines[name], limits=_MAX_DROP, samples=100)
    assert found.verdict == "inconclusive", found.sentence()
    assert found.gates[0].needed_n > 500
    assert "samples would tell" in found.gates[0].reason


def test_a_regression_in_one_class_is_caught_by_its_own_gate_alone(assets, baselines, folder):
    """Class 3, the cats, is made less likely: a little for all of them together, a lot for itself."""

    def edit(model):
        graph = model.subgraphs[0]
        last = next(op for op in reversed(graph.operators) if len(op.inputs) == 3)
        buffer = model.buffers[graph.tensors[last.inputs[2]].buffer]
        bias = np.frombuffer(bytes(buffer.data), np.float32).copy()
        bias[3] -= 0.9
        buffer.data = np.frombuffer(bias.tobytes(), np.uint8)

    bad = folder / "one-class.tflite"
    bad.write_bytes(flatbuffer.rewrite((assets / _FLOAT["ic"][0]).read_bytes(), edit))
    found = edgekit.check(bad, baselines["ic"], limits={**_MAX_DROP, "per_class_max_drop": 0.05})
    verdicts = {gate.name: gate.verdict for gate in found.gates}
    assert verdicts == {"accuracy": "pass", "per_class": "fail"}, found.sentence()
    failed = [item["class"] for item in found.gates[1].details["classes"] if item["verdict"] == "fail"]
    assert failed == [3]
