"""What a benchmark holds. Nothing here depends on how fast the machine is."""

import itertools

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import edgekit
from edgekit.errors import DataError, DependencyError, ModelError, UsageError
from edgekit.interleaved import BenchmarkOptions
from edgekit.measurement import Record, Verdict
from edgekit.verbs.benchmark import benchmark, subjects

QUICK = BenchmarkOptions(runs=12, warmup_runs=2)


def codes(result):
    return {finding.code for finding in result.findings}


def save_onnx(path, node, shape, dtype=TensorProto.FLOAT):
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info("y", dtype, None)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_one_model_has_the_documented_fields(dense_onnx):
    result = benchmark([dense_onnx], QUICK)
    document = result.describe()
    assert {
        "device", "runtime", "delegate", "threads", "model_size_bytes", "load_ms", "first_inference_ms",
        "latency_ms", "throughput_per_s", "peak_memory_bytes", "placement", "conditions", "noise",
    } <= set(document)  # fmt: skip
    assert set(document["latency_ms"]) == {
        "median", "mean", "stdev", "min", "p90", "p95", "p99", "ci95_median", "runs", "warmup_runs",
    }  # fmt: skip
    assert {"before", "after", "throttled"} <= set(document["conditions"])
    assert {"verdict", "reason"} <= set(document["noise"])
    assert (document["device"], document["runtime"], document["threads"]) == ("local", "onnxruntime", 1)
    assert document["model_size_bytes"] == dense_onnx.stat().st_size
    latency = document["latency_ms"]
    assert latency["runs"] == 12
    assert latency["warmup_runs"] >= 2
    assert latency["min"] <= latency["median"] <= latency["p90"] <= latency["p95"] <= latency["p99"]
    low, high = latency["ci95_median"]
    assert latency["min"] <= low <= high
    assert document["throughput_per_s"] == pytest.approx(1000 / latency["mean"])
    assert document["placement"] is None
    assert "EK510" in codes(result)


def test_litert_models_in_turn_have_ratios_to_the_first(models):
    paths = [models.tflite_cnn, models.tflite_cnn_int8, models.tflite_cnn_no_signature]
    result = benchmark(paths, BenchmarkOptions(runs=30, warmup_runs=3))
    document = result.describe()
    assert [model["model"] for model in document["models"]] == [str(path) for path in paths]
    assert [entry["candidate"] for entry in document["ratios"]] == [str(path) for path in paths[1:]]
    assert {entry["baseline"] for entry in document["ratios"]} == {str(paths[0])}
    for entry in document["ratios"]:
        low, high = entry["ci95"]
        assert 0 < low <= entry["median_ratio"] <= high
    latencies = [model.latency for model in result.models]
    assert {len(latency.blocks) for latency in latencies} == {30}
    for entry, model in zip(result.ratios, result.models[1:], strict=True):
        expected = np.median(model.latency.block_medians / latencies[0].block_medians)
        assert entry.median_ratio == pytest.approx(expected)
    assert all(model["placement"]["accelerated_pct"] > 0 for model in document["models"])
    assert len({model["sha256"] for model in document["models"]}) == 3


def test_blocks_of_several_models_never_overlap_and_change_their_order(dense_onnx, models, monkeypatch):
    from edgekit import interleaved

    spans = []
    ask = interleaved.Runner.block

    def block(runner, runs, seconds):
        ask(runner, runs, seconds)
        spans.append((runner._starts_ns[-1], sum(runner._blocks[-1]), id(runner)))
        return spans[-1][1] / 1e9

    monkeypatch.setattr(interleaved.Runner, "block", block)
    benchmark([dense_onnx, models.tflite_cnn], BenchmarkOptions(runs=60, warmup_runs=1))
    for (start, length, _), (following, *_rest) in itertools.pairwise(spans):
        assert start + length <= following
    firsts = [spans[i][2] for i in range(0, len(spans), 2)]
    assert len(spans) == 60
    assert len(set(firsts)) == 2


def test_the_same_seed_gives_the_same_plan_and_time_ends_it(dense_onnx):
    result = benchmark([dense_onnx], BenchmarkOptions(max_seconds=0.2, warmup_runs=1))
    latency = result.models[0].latency
    assert len(latency.values) >= 10
    assert sum(latency.values) < 0.4e9
    assert len(latency.blocks) <= 30


def test_time_cuts_the_runs_and_says_so(dense_onnx):
    result = benchmark([dense_onnx], BenchmarkOptions(runs=10_000_000, max_seconds=0.05, warmup_runs=1))
    assert len(result.models[0].latency.values) < 10_000_000
    assert "EK508" in codes(result)


def test_few_runs_are_not_stable(dense_onnx):
    result = benchmark([dense_onnx], BenchmarkOptions(runs=3, warmup_runs=0))
    assert result.models[0].noise.verdict is Verdict.UNKNOWN
    assert not result.stable
    assert "EK504" in codes(result)


def test_data_are_the_inputs(tmp_path, models, dense_onnx):
    result = benchmark(
        [models.tflite_cnn_int8], BenchmarkOptions(runs=10, warmup_runs=1, data=str(models.test_data))
    )
    assert len(result.models[0].latency.values) == 10
    np.savez(tmp_path / "wrong.npz", x=np.zeros((5, 7), np.float32))
    with pytest.raises(DataError):
        benchmark([dense_onnx], BenchmarkOptions(runs=10, data=str(tmp_path / "wrong.npz")))


def test_free_dimensions_are_a_finding_and_data_fill_them(tmp_path):
    model = save_onnx(tmp_path / "free.onnx", helper.make_node("Relu", ["x"], ["y"]), ["n", "length", 4])
    random = benchmark([model], QUICK)
    assert "EK509" in codes(random)
    assert random.models[0].opened["inputs"][0]["used_shape"] == [1, 1, 4]
    np.savez(tmp_path / "long.npz", x=np.zeros((2, 50, 4), np.float32))
    given = benchmark([model], BenchmarkOptions(runs=5, warmup_runs=1, data=str(tmp_path / "long.npz")))
    assert given.models[0].opened["inputs"][0]["used_shape"] == [1, 50, 4]
    assert "EK509" not in codes(given)


def test_without_xnnpack_nothing_is_accelerated(models):
    result = benchmark([models.tflite_cnn], BenchmarkOptions(runs=10, warmup_runs=1, xnnpack=False))
    document = result.describe()
    assert document["delegate"] == "none"
    assert document["placement"]["accelerated_pct"] == 0
    assert "EK511" not in codes(result)  # it was asked for


def test_saved_values_are_all_of_them(tmp_path, dense_onnx):
    result = benchmark([dense_onnx, dense_onnx], QUICK)
    result.record().save(tmp_path / "r.json")
    read = Record.read(tmp_path / "r.json")
    assert [latency for _, latency in read.models] == [model.latency for model in result.models]
    assert read.models[0][0]["runtime"] == "onnxruntime"
    assert read.before == result.before


@pytest.mark.parametrize("attribute", ["keras_cnn", "h5_cnn", "saved_model_cnn"])
def test_training_formats_are_refused_with_the_command_that_converts_them(models, attribute, monkeypatch):
    path = getattr(models, attribute)
    with pytest.raises(ModelError, match="no device runs") as caught:
        subjects([path], QUICK)
    assert caught.value.code == "EK520"
    assert caught.value.hint.endswith(f"edgekit quantize {path} -r float16 -o model.tflite")


def test_a_runtime_must_open_the_format(dense_onnx, models):
    with pytest.raises(UsageError, match="litert does not open"):
        subjects([dense_onnx], BenchmarkOptions(runtime="litert"))
    with pytest.raises(UsageError, match="no XNNPACK"):
        subjects([dense_onnx], BenchmarkOptions(xnnpack=False))
    assert subjects([models.tflite_cnn, dense_onnx], QUICK)[1].runtime == "onnxruntime"


@pytest.mark.parametrize(
    "wrong", [{"runs": 0}, {"warmup_runs": -1}, {"threads": 0}, {"max_seconds": 0.0}, {"runtime": "litrt"}]
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError):
        BenchmarkOptions(**wrong)


def test_a_missing_runtime_names_the_line_that_installs_it(models):
    try:
        import tflite_runtime.interpreter  # noqa: F401
    except ImportError:
        pass
    else:
        pytest.skip("tflite_runtime works here")
    with pytest.raises(DependencyError) as caught:
        benchmark([models.tflite_cnn], BenchmarkOptions(runtime="tflite_runtime"))
    assert caught.value.exit_code == 3
    assert 'pip install "edgekit[tflite-runtime]"' in caught.value.hint


def test_a_model_that_its_runtime_refuses(tmp_path):
    # Reshape to a size that the input does not have: it opens, and fails when it runs.
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    graph = helper.make_graph(
        [node],
        "bad",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [helper.make_tensor("shape", TensorProto.INT64, [2], [3, 5])],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8),
        tmp_path / "bad.onnx",
    )
    with pytest.raises(ModelError, match=r"onnxruntime refuses bad\.onnx") as caught:
        benchmark([tmp_path / "bad.onnx"], QUICK)
    assert caught.value.code == "EK531"


def test_a_model_that_never_answers_is_ended(dense_onnx):
    with pytest.raises(ModelError, match="did not answer within"):
        benchmark([dense_onnx], BenchmarkOptions(runs=5, deadline_s=0.001))


def test_progress_counts_rounds(dense_onnx):
    seen = []
    benchmark([dense_onnx], QUICK, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 12) for done in range(1, 13)]


def test_it_is_the_public_function():
    assert edgekit.benchmark is benchmark
