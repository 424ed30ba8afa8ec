"""Zeros and values of kernels, counted in files and compared with what the interpreter holds; and their gates."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import edgekit
from edgekit import flatbuffer
from edgekit.formats import open_artifact
from edgekit.gates import max_clusters, min_sparsity
from edgekit.tflite_kernels import counts, sparsity, stored_kernels

_DIGITS = Path(__file__).parents[1] / "examples" / "digits"
_ZEROS = 0.6


def zeroed(content: bytes) -> bytes:
    """The model with three fifths of each kernel's weights set to zero, and the rest to one of two values."""

    def edit(tree):
        for tensor in tree.subgraphs[0].tensors:
            data = tree.buffers[tensor.buffer].data
            if data is None or not len(data) or len(tensor.shape) < 2:
                continue
            count = int(np.prod(tensor.shape))
            values = np.where(np.arange(count) % 2, 0.5, -0.25).astype("<f4")
            values[: round(_ZEROS * count)] = 0
            tree.buffers[tensor.buffer].data = np.frombuffer(values.tobytes(), np.uint8)

    return flatbuffer.rewrite(content, edit)


@pytest.fixture(scope="module")
def sparse(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("sparse") / "sparse.tflite"
    path.write_bytes(zeroed((_DIGITS / "model.tflite").read_bytes()))
    return path


@pytest.fixture(scope="module")
def quantized(sparse) -> Path:
    path = sparse.with_name("int8.tflite")
    edgekit.quantize(sparse, path, calibration=_DIGITS / "calibration.npz")
    return path


def held(path: Path) -> list[np.ndarray]:
    """The kernels as the interpreter gives them out."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(str(path), experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    operators = interpreter._get_ops_details()
    wanted = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
    return [interpreter.get_tensor(op["inputs"][1]) for op in operators if op["op_name"] in wanted]


def trial(path):
    return SimpleNamespace(candidate=open_artifact(path))


@pytest.mark.parametrize("which", ["sparse", "quantized"])
def test_the_counts_are_those_of_the_interpreter(request, which):
    path = request.getfixturevalue(which)
    found = stored_kernels(path)
    arrays = held(path)
    assert len(arrays) >= 3
    assert [tuple(counts(values).values()) for values in found.values()] == [
        (array.size, int(np.sum(array == 0)), len(np.unique(array))) for array in arrays
    ]


def test_zeros_stay_zeros_in_int8_and_the_gates_say_so(quantized):
    assert sparsity(stored_kernels(quantized)) == pytest.approx(_ZEROS, abs=0.01)
    assert min_sparsity.decide(trial(quantized), 0.55).verdict == "pass"
    gate = min_sparsity.decide(trial(quantized), 0.7)
    assert gate.verdict == "fail"
    assert "70% are asked for" in gate.reason
    assert gate.candidate == pytest.approx(_ZEROS, abs=0.01)


def test_kernels_with_more_values_are_named(sparse):
    gate = max_clusters.decide(trial(sparse), 3)
    assert (gate.verdict, gate.candidate) == ("pass", 3)
    dense = max_clusters.decide(trial(_DIGITS / "model.tflite"), 3)
    assert dense.verdict == "fail"
    assert next(iter(stored_kernels(_DIGITS / "model.tflite"))) in dense.reason


def test_other_formats_are_inconclusive():
    keras = SimpleNamespace(candidate=SimpleNamespace(format="keras"))
    assert min_sparsity.decide(keras, 0.5).verdict == "inconclusive"
    assert max_clusters.decide(keras, 16).verdict == "inconclusive"


def test_the_gate_of_the_command_knows_them(sparse, tmp_path):
    baseline = tmp_path / "baseline.json"
    edgekit.create_baseline(sparse, _DIGITS / "test.npz", baseline, latency=False, samples=100)
    limits = {"max_drop": 0.2, "min_sparsity": 0.5, "max_clusters": 2}
    found = edgekit.check(sparse, baseline, data=_DIGITS / "test.npz", samples=100, limits=limits)
    assert {gate.name: gate.verdict.value for gate in found.gates} == {
        "accuracy": "pass",
        "min_sparsity": "pass",
        "max_clusters": "fail",
    }
