"""Comparisons: every number against one computed from the models' own answers, and a sentence for bad input."""

import base64
import io
import json
import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import edgekit
from edgekit.cli._group import run
from edgekit.errors import DataError, EdgekitError, ModelError, UsageError
from edgekit.workflows.comparison import pareto_front


def compare(*arguments, **options):
    return edgekit.compare(*arguments, **{"latency": False, "workers": 1} | options)


def answers(model, x):
    """What ONNX Runtime alone says: the class of each sample."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model))
    return session.run(None, {"x": x})[0].argmax(axis=1)


def codes(found):
    return [finding.code for finding in found.findings]


def test_drops_are_those_of_the_models_own_answers(pair, tmp_path):
    data = pair.data(tmp_path / "d.npz", 900, broken=30, fixed=8)
    with np.load(data) as arrays:
        x, y = arrays["x"], arrays["y"]
    right = [answers(model, x) == y for model in (pair.baseline, pair.candidate)]
    found = compare([pair.baseline, pair.candidate], data).describe()
    first, second = found["models"]
    assert [model["evaluation"]["value"] for model in found["models"]] == [share.mean() for share in right]
    assert first["drop"] is None
    drop = second["drop"]
    assert drop["broken"] == int((right[0] & ~right[1]).sum()) == 30
    assert drop["fixed"] == int((~right[0] & right[1]).sum()) == 8
    assert drop["drop"] == pytest.approx(22 / 900)
    assert drop["drop_ci95"][0] < 22 / 900 < drop["drop_ci95"][1]
    for item in drop["per_class"]:
        own = y == item["class"]
        assert item["n"] == own.sum()
        assert item["before"] == pytest.approx(right[0][own].mean())
        assert item["after"] == pytest.approx(right[1][own].mean())
        assert item["broken"] == (right[0] & ~right[1])[own].sum()
        assert item["drop"] == pytest.approx(item["before"] - item["after"])
        assert item["drop_ci95"][0] <= item["drop"] <= item["drop_ci95"][1]
    assert sum(item["broken"] for item in drop["per_class"]) == 30


def test_confusions_that_changed_most_come_first(pair, tmp_path):
    data = pair.data(tmp_path / "d.npz", 900, broken=30, fixed=8)
    found = compare([pair.baseline, pair.candidate], data).describe()
    before, after = (np.array(model["evaluation"]["confusion"]) for model in found["models"])
    changes = found["models"][1]["drop"]["confusion_changes"]
    assert changes
    sizes = [abs(change["after"] - change["before"]) for change in changes]
    assert sizes == sorted(sizes, reverse=True)
    for change in changes:
        place = int(change["label"]), int(change["predicted"])
        assert (change["before"], change["after"]) == (before[place], after[place])


def test_samples_that_broke_are_right_before_and_wrong_after(pair, tmp_path):
    data = pair.data(tmp_path / "d.npz", 600, broken=40)
    with np.load(data) as arrays:
        x, y = arrays["x"], arrays["y"]
    found = compare([pair.baseline, pair.candidate], data, samples=300).describe()
    assert 0 < len(found["broken_samples"]) <= 24
    for sample in found["broken_samples"]:
        row = 2 * sample["sample"]  # of 300 evenly spread ones
        said = [int(answers(model, x[row : row + 1])[0]) for model in (pair.baseline, pair.candidate)]
        assert sample["answers"] == [str(answer) for answer in said]
        assert sample["label"] == str(y[row]) == sample["answers"][0] != sample["answers"][1]
        assert sample["wrong"] == [1]
        assert sample["picture"] is None


def image_model(path, weights):
    """``y = flatten(x) @ weights`` over pictures of 8 by 8 values."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"])],
        "images",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8, 8, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", weights.shape[1]])],
        [numpy_helper.from_array(weights.astype(np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
    return path


def test_pictures_are_those_of_the_samples(tmp_path):
    image_module = pytest.importorskip("PIL.Image", reason="needs pillow")
    rng = np.random.default_rng(3)
    x = rng.integers(0, 255, (60, 8, 8, 1)).astype(np.uint8)
    weights = rng.normal(size=(64, 4))
    models = [image_model(tmp_path / "a.onnx", weights), image_model(tmp_path / "b.onnx", weights[:, ::-1])]
    np.savez(tmp_path / "d.npz", x=x, y=answers(models[0], x.astype(np.float32)))
    found = compare(models, tmp_path / "d.npz", preprocess="none")
    assert found.describe()["broken_samples"][0]["picture"] is None
    shown = found.describe(with_pictures=True)["broken_samples"]
    assert len(shown) == 24
    for sample in shown:
        content = base64.b64decode(sample["picture"].partition(",")[2])
        picture = np.asarray(image_module.open(io.BytesIO(content)))
        np.testing.assert_array_equal(picture, x[sample["sample"], :, :, 0])


def test_without_pillow_a_finding_says_why_there_are_no_pictures(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    weights = np.random.default_rng(3).normal(size=(64, 4))
    models = [image_model(tmp_path / "a.onnx", weights), image_model(tmp_path / "b.onnx", weights[:, ::-1])]
    x = np.random.default_rng(4).random((60, 8, 8, 1), np.float32)
    np.savez(tmp_path / "d.npz", x=x, y=answers(models[0], x))
    found = compare(models, tmp_path / "d.npz")
    assert "EK446" in codes(found)
    shown = found.describe(with_pictures=True)["broken_samples"]
    assert shown
    assert all(sample["picture"] is None for sample in shown)


@pytest.mark.slow
def test_latencies_are_measured_in_turn_and_compared_with_the_first(pair, tmp_path):
    data = pair.data(tmp_path / "d.npz", 60)
    found = compare([pair.baseline, pair.candidate], data, latency=True, max_seconds=0.1)
    document = found.describe()
    first, second = document["models"]
    assert first["ratio"] is None
    assert document["latency_baseline"] == first["name"] == "baseline.onnx"
    assert second["ratio"]["median_ratio"] > 0
    saved = found.saved()
    for model, kept in zip(document["models"], saved["benchmark"]["models"], strict=True):
        values = [value / 1e6 for block in kept["latency"]["blocks"] for value in block]
        assert np.median(values) == pytest.approx(model["benchmark"]["latency_ms"]["median"])
        assert len(values) == model["benchmark"]["latency_ms"]["runs"]
    assert document["conditions"]["before"]["cores"] >= 1


@pytest.mark.slow
def test_a_keras_model_has_no_latency_and_the_first_that_has_one_is_the_baseline(models):
    chosen = [models.keras_cnn, models.tflite_cnn, models.tflite_cnn_int8]
    found = compare(chosen, models.test_data, latency=True, max_seconds=0.1, samples=100)
    document = found.describe()
    assert "EK444" in codes(found)
    assert document["models"][0]["benchmark"] is None
    assert document["latency_baseline"] == "cnn.tflite"
    assert document["models"][1]["ratio"] is None
    assert document["models"][2]["ratio"]["baseline"].endswith("cnn.tflite")
    assert document["models"][2]["operators"]["quantized"] > 0
    assert document["models"][1]["operators"]["quantized"] == 0
    layers = document["models"][2]["operators"]["layers"]
    assert (
        0 < sum(layer["weight_bytes"] for layer in layers) < document["models"][2]["artifact"]["size_bytes"]
    )


def test_a_runtime_of_no_device_has_no_latency(pair, tmp_path):
    data = pair.data(tmp_path / "d.npz", 60)
    found = compare([pair.baseline, pair.candidate], data, latency=True, runtime="null")
    assert "EK445" in codes(found)
    assert found.benchmark is None


def test_models_of_one_name_are_told_apart(pair, tmp_path):
    data = pair.data(tmp_path / "d.npz", 60)
    weights = np.eye(4)[:, :3]
    paths = []
    for folder in ("new", "old"):
        (tmp_path / folder).mkdir()
        paths.append(pair.linear(tmp_path / folder / "m.onnx", weights))
    found = compare([*paths, paths[0]], data, latency=True, max_seconds=0.05).describe()
    assert [model["name"] for model in found["models"]] == ["new/m.onnx", "old/m.onnx", "new/m.onnx (2)"]
    assert found["models"][2]["drop"]["drop"] == 0
    assert found["models"][2]["ratio"] is not None


def test_lineage_is_that_beside_the_file(pair, tmp_path):
    data = pair.data(tmp_path / "d.npz", 60)
    weights = np.eye(4)[:, :3]
    made = pair.linear(tmp_path / "made.onnx", weights)
    (tmp_path / "made.onnx.json").write_text(json.dumps({"recipe": "float16", "engine": "hand"}))
    (tmp_path / "other.onnx.json").write_text("{")
    other = pair.linear(tmp_path / "other.onnx", weights)
    found = compare([made, other], data).describe()
    assert [model["lineage"] for model in found["models"]] == [{"recipe": "float16", "engine": "hand"}, None]


def test_without_labels_the_first_model_is_the_reference(pair, tmp_path):
    with np.load(pair.data(tmp_path / "d.npz", 300, broken=30)) as arrays:
        x = arrays["x"]
    np.savez(tmp_path / "x.npz", x=x)
    different = int((answers(pair.baseline, x) != answers(pair.candidate, x)).sum())
    assert different == 30
    found = compare([pair.baseline, pair.candidate], tmp_path / "x.npz", metric="agreement")
    assert "EK441" in codes(found)
    document = found.describe()
    assert document["models"][1]["drop"]["broken"] == different
    assert document["models"][1]["evaluation"]["value"] == pytest.approx(1 - different / 300)
    assert document["models"][1]["drop"]["per_class"] == []
    assert all(sample["wrong"] == [1] for sample in document["broken_samples"])
    noise = compare([pair.baseline, pair.candidate], tmp_path / "x.npz")
    assert noise.metric == "snr"
    assert noise.models[0].evaluation.value == math.inf
    json.dumps(noise.describe(), allow_nan=False)
    assert noise.describe()["models"][0]["evaluation"]["value"] is None


def test_another_reference(pair, tmp_path):
    with np.load(pair.data(tmp_path / "d.npz", 300, broken=30)) as arrays:
        np.savez(tmp_path / "x.npz", x=arrays["x"])
    options = {"metric": "mse", "reference": pair.candidate}
    found = compare([pair.baseline, pair.candidate], tmp_path / "x.npz", **options)
    assert "EK441" not in codes(found)
    # 30 of 300 samples have one of three outputs changed by 20.
    assert found.models[0].evaluation.value == pytest.approx(30 / 300 * 400 / 3, rel=0.01)
    assert found.models[1].drop.drop == pytest.approx(-found.models[0].evaluation.value)
    assert not found.higher_is_better
    assert found.broken_samples == ()


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=8))
def test_only_what_is_beaten_is_off_the_front(costs):
    def beats(one, other):
        return one != other and all(a <= b for a, b in zip(one, other, strict=True))

    front = pareto_front(costs)
    assert any(front)
    for own, on_front in zip(costs, front, strict=True):
        assert on_front == (not any(beats(other, own) for other in costs))


def test_a_model_that_others_beat_is_off_the_front(pair, tmp_path):
    data = pair.data(tmp_path / "d.npz", 300, broken=60)
    found = compare([pair.baseline, pair.candidate], data)
    sizes = [model.artifact.size_bytes for model in found.models]
    assert sizes[0] <= sizes[1]
    assert [model.on_pareto_front for model in found.models] == [True, False]


class TestBadInput:
    def refused(self, kind, code, *arguments, **options):
        with pytest.raises(EdgekitError) as caught:
            compare(*arguments, **options)
        assert isinstance(caught.value, kind)
        assert caught.value.code == code
        assert "\n" not in caught.value.message
        return caught.value

    def test_one_model(self, pair, tmp_path):
        error = self.refused(UsageError, "EK440", [pair.baseline], pair.data(tmp_path / "d.npz", 9))
        assert error.exit_code == 2

    def test_other_classes(self, pair, tmp_path):
        five = pair.linear(tmp_path / "five.onnx", np.ones((4, 5)))
        error = self.refused(ModelError, "EK442", [pair.baseline, five], pair.data(tmp_path / "d.npz", 9))
        assert "five.onnx gives 5 values per sample, baseline.onnx 3." in error.message
        assert error.exit_code == 7

    def test_no_samples(self, pair, tmp_path):
        np.savez(tmp_path / "d.npz", x=np.zeros((0, 4), np.float32), y=np.zeros(0, int))
        self.refused(DataError, "EK202", [pair.baseline, pair.candidate], tmp_path / "d.npz")

    def test_no_labels_for_a_metric_that_needs_them(self, pair, tmp_path):
        np.savez(tmp_path / "d.npz", x=np.zeros((9, 4), np.float32))
        models = [pair.baseline, pair.candidate]
        error = self.refused(DataError, "EK211", models, tmp_path / "d.npz", metric="top1")
        assert error.exit_code == 7

    def test_a_metric_that_does_not_apply(self, pair, tmp_path):
        data = pair.data(tmp_path / "d.npz", 9)
        self.refused(DataError, "EK420", [pair.baseline, pair.candidate], data, metric="top5")

    def test_an_unknown_metric(self, pair, tmp_path):
        with pytest.raises(UsageError, match="no metric named"):
            compare([pair.baseline, pair.candidate], pair.data(tmp_path / "d.npz", 9), metric="top2")

    def test_samples_that_change_with_every_reading(self, pair, tmp_path):
        (tmp_path / "feed.py").write_text(
            "import numpy as np\n"
            "def samples():\n"
            "    for x in np.random.default_rng().random((20, 4), np.float32):\n"
            "        yield x, 1\n"
        )
        data = f"{tmp_path / 'feed.py'}:samples"
        self.refused(DataError, "EK443", [pair.baseline, pair.candidate], data)


class TestCommandLine:
    def test_the_table_and_the_files(self, pair, tmp_path, capfd, monkeypatch):
        monkeypatch.chdir(tmp_path)
        pair.data(tmp_path / "d.npz", 300, broken=6, fixed=2)
        command = ["compare", str(pair.baseline), str(pair.candidate), "--data", "d.npz", "--no-latency"]
        assert run([*command, "--save", "run.json", "--html", "page.html"]) == 0
        out = capfd.readouterr().out
        assert "baseline.onnx *" in out
        assert "88.67%" in out
        assert "+1.33" in out
        assert "page.html" in out
        saved = json.loads((tmp_path / "run.json").read_text())
        assert saved["kind"] == "comparison"
        assert saved["result"]["models"][1]["drop"]["broken"] == 6
        before = (tmp_path / "run.json").read_bytes()
        assert run([*command, "--save", "run.json"]) == 2
        assert "exists already" in capfd.readouterr().err
        assert (tmp_path / "run.json").read_bytes() == before
        assert run([*command, "--save", "run.json", "--overwrite", "--quiet"]) == 0
        assert {path.name for path in tmp_path.iterdir()} == {"d.npz", "run.json", "page.html"}

    @pytest.mark.parametrize("more", [[], ["--dry-run"], ["--max-seconds", "0.05"], ["--metric", "mse"]])
    def test_its_document_has_the_form_that_its_schema_says(self, pair, tmp_path, capfd, more):
        import jsonschema

        data = pair.data(tmp_path / "d.npz", 90, broken=6)
        if "mse" in more:
            with np.load(data) as arrays:
                np.savez(data, x=arrays["x"])
        latency = [] if "--max-seconds" in more else ["--no-latency"]
        command = ["compare", str(pair.baseline), str(pair.candidate), "--data", str(data), "--json"]
        assert run([*command, *latency, *more]) == 0
        document = json.loads(capfd.readouterr().out)
        jsonschema.validate(document, edgekit.schema("compare"))
        assert document["command"] == "compare"

    def test_dry_run_measures_nothing(self, pair, tmp_path, capfd):
        data = pair.data(tmp_path / "d.npz", 90)
        command = ["compare", str(pair.baseline), str(pair.candidate), "--data", str(data), "--dry-run"]
        assert run(command) == 0
        assert capfd.readouterr().out.splitlines() == [
            "would measure top1 of baseline.onnx in onnxruntime on 90 samples and its latency",
            "would measure top1 of candidate.onnx in onnxruntime on 90 samples and its latency",
        ]

    def test_one_model_is_a_usage_error(self, pair, tmp_path, capfd):
        data = pair.data(tmp_path / "d.npz", 90)
        assert run(["compare", str(pair.baseline), "--data", str(data)]) == 2
        assert "two models or more" in capfd.readouterr().err
