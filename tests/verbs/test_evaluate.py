"""``evaluate``: the right number for every kind of model and data, and a sentence for what does not fit."""

import json
from dataclasses import replace

import numpy as np
import pytest

from edgekit.artifact import Format, TensorSpec
from edgekit.cli._group import run
from edgekit.data import open_dataset
from edgekit.errors import DataError, ModelError, UsageError
from edgekit.formats import open_artifact
from edgekit.verbs.evaluate import evaluate, match_outputs, paired


@pytest.fixture(scope="module")
def float_evaluation(models):
    return evaluate(models.tflite_cnn, models.test_data)


def codes(evaluation):
    return [finding.code for finding in evaluation.findings]


def saved(folder, name="d.npz", **arrays):
    np.savez_compressed(folder / name, **arrays)
    return folder / name


@pytest.mark.parametrize(
    "model", ["tflite_cnn", "tflite_cnn_int8", "onnx_cnn", "keras_cnn", "saved_model_cnn"]
)
def test_accuracy_of_every_format_is_that_of_its_scores(models, model):
    evaluation = evaluate(getattr(models, model), models.test_data)
    assert evaluation.metric == "top1"
    assert evaluation.n == 597
    assert evaluation.value > 0.9
    assert evaluation.ci95.low < evaluation.value < evaluation.ci95.high
    assert evaluation.value == np.mean(evaluation.rows[:, 0] == evaluation.rows[:, 1])
    assert evaluation.confusion.sum() == 597
    assert [item["n"] for item in evaluation.per_class] == evaluation.confusion.sum(axis=1).tolist()
    assert sum(item["n"] * item["value"] for item in evaluation.per_class) == pytest.approx(
        597 * evaluation.value
    )
    assert evaluation.runtime == {"tflite": "litert", "onnx": "onnxruntime"}.get(
        model.split("_")[0], "tensorflow"
    )
    assert evaluation.samples_per_second > 0


def test_the_chosen_metric_is_said(float_evaluation):
    assert "EK403" in codes(float_evaluation)


def test_named_metrics_are_not_announced(models):
    assert "EK403" not in codes(evaluate(models.tflite_cnn, models.test_data, metric="top5", samples=60))


def test_the_paired_drop_is_counted_by_hand(models, float_evaluation):
    after = evaluate(models.tflite_cnn_int8, models.test_data)
    drop = paired(float_evaluation, after)
    was = float_evaluation.rows[:, 0] == float_evaluation.rows[:, 1]
    now = after.rows[:, 0] == after.rows[:, 1]
    assert (drop.broken, drop.fixed, drop.n) == (int((was & ~now).sum()), int((~was & now).sum()), 597)
    assert drop.drop == pytest.approx(float_evaluation.value - after.value)
    assert drop.drop_ci95.low <= drop.drop <= drop.drop_ci95.high


def test_evaluations_that_are_no_pair(models, float_evaluation):
    fewer = evaluate(models.tflite_cnn, models.test_data, samples=100)
    other = evaluate(models.tflite_cnn, models.test_data, metric="top5")
    shuffled = replace(float_evaluation, rows=float_evaluation.rows[::-1])
    for second in (fewer, other, shuffled):
        with pytest.raises(UsageError) as caught:
            paired(float_evaluation, second)
        assert caught.value.code == "EK425"


@pytest.mark.parametrize("metric", ["snr", "agreement", "mse", "mae"])
def test_a_reference_takes_the_place_of_labels(models, tmp_path, metric):
    with np.load(models.test_data) as data:
        unlabelled = saved(tmp_path, x=data["x"][:80])
    same = evaluate(models.tflite_cnn, unlabelled, metric=metric, reference=models.tflite_cnn_no_signature)
    int8 = evaluate(models.tflite_cnn_int8, unlabelled, metric=metric, reference=models.keras_cnn)
    perfect = {"snr": np.inf, "agreement": 1.0, "mse": 0.0, "mae": 0.0}[metric]
    assert same.value == pytest.approx(perfect)
    assert int8.value != perfect or metric == "agreement"
    bounds = {"snr": (15, 60), "agreement": (0.9, 1.0), "mse": (0, 1e-2), "mae": (0, 5e-2)}[metric]
    assert bounds[0] <= int8.value <= bounds[1]
    assert int8.n == 80


def test_snr_is_the_default_with_a_reference(models):
    evaluation = evaluate(models.tflite_cnn_int8, models.test_data, reference=models.tflite_cnn, samples=50)
    assert evaluation.metric == "snr"


def test_several_inputs_by_name_and_all_outputs_compared(models, tmp_path):
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 6, 4))
    data = saved(tmp_path, first=first, second=second, y=2 * first + second)
    evaluation = evaluate(models.keras_two_inputs, data, metric="mae")
    assert evaluation.value == pytest.approx(0, abs=1e-6)
    assert "EK405" in codes(evaluation)
    compared = evaluate(models.keras_two_inputs, data, metric="snr", reference=models.keras_two_inputs)
    assert {item["output"] for item in compared.per_class} == {"total", "wide"}


def test_labels_that_are_targets_choose_mse(models, tmp_path):
    first = np.random.default_rng(0).normal(size=(6, 4))
    data = saved(tmp_path, first=first, second=first, y=3 * first + 0.5)
    evaluation = evaluate(models.keras_two_inputs, data)
    assert evaluation.metric == "mse"
    assert evaluation.value == pytest.approx(0.25, rel=1e-4)


def test_labels_may_be_one_hot(models, tmp_path, float_evaluation):
    with np.load(models.test_data) as data:
        hot = saved(tmp_path, x=data["x"], y=np.eye(10, dtype=np.float32)[data["y"]])
    evaluation = evaluate(models.tflite_cnn, hot)
    assert (evaluation.metric, evaluation.value) == ("top1", float_evaluation.value)


def test_samples_are_spread_over_the_file(models, tmp_path):
    with np.load(models.test_data) as data:
        order = np.argsort(data["y"], kind="stable")
        ordered = saved(tmp_path, x=data["x"][order], y=data["y"][order])
    evaluation = evaluate(models.tflite_cnn, ordered, samples=100)
    assert evaluation.n == 100
    assert len(evaluation.per_class) == 10


def test_class_names_reach_the_classes(models, tmp_path):
    names = ", ".join(f'"digit {number}"' for number in range(10))
    (tmp_path / "d.toml").write_text(f'schema = 1\ndata = "{models.test_data}"\nlabels = [{names}]\n')
    evaluation = evaluate(models.tflite_cnn, tmp_path / "d.toml")
    assert evaluation.per_class[3]["name"] == "digit 3"


@pytest.mark.parametrize(
    ("arrays", "options", "code"),
    [
        ({"x": np.zeros((5, 8, 8, 1))}, {}, "EK211"),
        ({"x": np.zeros((5, 8, 8, 1))}, {"metric": "top1"}, "EK211"),
        ({"x": np.zeros((5, 8, 8, 1)), "y": np.arange(5)}, {"metric": "snr"}, "EK421"),
        ({"x": np.zeros((5, 8, 8, 1)), "y": np.arange(5) + 8}, {}, "EK208"),
        ({"x": np.zeros((5, 8, 8)), "y": np.arange(5)}, {}, "EK206"),
        ({"x": np.zeros((5, 8, 8, 1)), "y": np.arange(5)}, {"samples": 6}, "EK210"),
        ({"x": np.full((5, 8, 8, 1), np.nan), "y": np.arange(5)}, {}, "EK207"),
        ({"x": np.zeros((5, 8, 8, 1)), "y": np.zeros((5, 4))}, {"metric": "mse"}, "EK420"),
        ({"x": np.zeros((5, 8, 8, 1)), "y": np.arange(5) % 2}, {"metric": "auc"}, "EK420"),
    ],
)
def test_data_that_do_not_fit(models, tmp_path, arrays, options, code):
    with pytest.raises(DataError) as caught:
        evaluate(models.tflite_cnn, saved(tmp_path, **arrays), **options)
    assert caught.value.code == code


def test_unknown_names_get_the_nearest(models):
    for options, nearest in [({"metric": "top-1"}, "top1"), ({"runtime": "onnxruntimes"}, "onnxruntime")]:
        with pytest.raises(UsageError) as caught:
            evaluate(models.tflite_cnn, models.test_data, **options)
        assert nearest in caught.value.hint


def test_progress_ends_at_all(models):
    seen = []
    evaluate(models.tflite_cnn, models.test_data, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (597, 597)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_predictions_hold_one_row_per_sample(models, tmp_path, float_evaluation):
    path = tmp_path / "rows.npz"
    evaluate(models.tflite_cnn, models.test_data, save_predictions=path)
    with np.load(path) as rows, np.load(models.test_data) as data:
        np.testing.assert_array_equal(rows["label"], data["y"])
        np.testing.assert_array_equal(rows["rows"], float_evaluation.rows)
        np.testing.assert_array_equal(rows["output_0"].argmax(axis=1), float_evaluation.rows[:, 1])
        assert rows["output_names"].tolist() == [open_artifact(models.tflite_cnn).outputs[0].name]
        assert len(set(rows["digest"].tolist())) > 590
    assert [file.name for file in tmp_path.iterdir()] == ["rows.npz"]


def test_a_failed_evaluation_writes_no_predictions(models, tmp_path):
    x = np.zeros((200, 8, 8, 1), np.float32)
    x[150] = np.inf
    with pytest.raises(DataError):
        evaluate(
            models.tflite_cnn,
            saved(tmp_path, x=x, y=np.zeros(200, int)),
            save_predictions=tmp_path / "rows.npz",
        )
    assert [file.name for file in tmp_path.iterdir()] == ["d.npz"]


@pytest.fixture
def with_lineage(models, tmp_path):
    """The CNN with a lineage that says: pixels / 255; and its samples as such pixels."""
    model = tmp_path / "m.tflite"
    model.write_bytes(models.tflite_cnn.read_bytes())
    lineage = {"preprocessing": {"name": "unit", "scale": 1 / 255}}
    (tmp_path / "m.tflite.json").write_text(json.dumps(lineage))
    with np.load(models.test_data) as data:
        pixels = np.rint(data["x"] * 255).astype(np.uint8)
        saved(tmp_path, "pixels.npz", x=pixels, y=data["y"])
    return model


def test_the_lineages_contract_is_met_again(models, with_lineage, float_evaluation):
    pixels = with_lineage.parent / "pixels.npz"
    applied = evaluate(with_lineage, pixels)
    assert "EK406" in codes(applied)
    assert applied.value == pytest.approx(float_evaluation.value, abs=0.005)
    ignored = evaluate(with_lineage, pixels, preprocess="none")
    assert not {"EK406", "EK407", "EK409"} & set(codes(ignored))
    ready = evaluate(with_lineage, models.test_data)
    assert "EK407" in codes(ready)
    assert ready.value == float_evaluation.value
    other = evaluate(with_lineage, pixels, preprocess="unit-range-gray")
    assert "EK408" in codes(other)


def test_raw_samples_without_a_contract_are_said(models, with_lineage):
    assert "EK409" in codes(evaluate(models.tflite_cnn, with_lineage.parent / "pixels.npz"))
    warned = evaluate(models.tflite_cnn_int8, with_lineage.parent / "pixels.npz")
    said = next(finding for finding in warned.findings if finding.code == "EK409")
    assert "saturate" in said.message


def test_outputs_are_matched_by_name_then_by_shape():
    def specs(**shapes):
        return tuple(TensorSpec(name, shape, "float32") for name, shape in shapes.items())

    own = specs(a=(1, 2), b=(1, 3))
    assert match_outputs(own, specs(b=(1, 2), a=(1, 3))) == {"a": "a", "b": "b"}
    assert match_outputs(own, specs(c=(None, 3), d=(None, 2))) == {"a": "d", "b": "c"}
    assert match_outputs(own[:1], specs(z=(1, 9))) == {"a": "z"}
    with pytest.raises(ModelError) as caught:
        match_outputs(specs(a=(1, 2), b=(1, 2)), specs(c=(1, 2), d=(1, 2)))
    assert caught.value.code == "EK415"


def test_a_dataset_and_an_artifact_may_be_open_already(models, float_evaluation):
    artifact, dataset = open_artifact(models.tflite_cnn), open_dataset(models.test_data)
    assert artifact.format == Format.TFLITE
    assert evaluate(artifact, dataset).value == float_evaluation.value


def test_a_users_function_is_data(models, tmp_path, float_evaluation):
    script = tmp_path / "mine.py"
    script.write_text(
        "import numpy as np\n"
        "def digits():\n"
        f"    with np.load({str(models.test_data)!r}) as data:\n"
        "        yield from zip(data['x'], data['y'])\n"
    )
    assert evaluate(models.tflite_cnn, f"{script}:digits").value == float_evaluation.value


def test_the_command_prints_one_document(models, capfd):
    assert run(["evaluate", str(models.tflite_cnn_int8), "--data", str(models.test_data), "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    result = document["result"]
    assert document["status"] == "ok"
    assert {
        "metric",
        "value",
        "ci95",
        "n",
        "per_class",
        "samples_per_second",
        "seconds",
        "device",
        "runtime",
    } <= set(result)
    assert (result["metric"], result["n"], result["device"], result["runtime"]) == (
        "top1",
        597,
        "local",
        "litert",
    )
    assert result["ci95"][0] < result["value"] < result["ci95"][1]
    assert len(result["confusion"]) == 10


def test_the_command_speaks_to_people(models, capfd):
    assert (
        run(["evaluate", str(models.tflite_cnn_int8), "--data", str(models.test_data), "--samples", "200"])
        == 0
    )
    shown = capfd.readouterr()
    assert "top1 9" in shown.out
    assert "n = 200" in shown.out
    assert "samples per second" in shown.out
    assert "EK403" in shown.err
    assert "next: edgekit benchmark" in shown.err


def test_dry_run_runs_nothing(models, tmp_path, capfd):
    path = tmp_path / "rows.npz"
    arguments = ["evaluate", str(models.tflite_cnn), "--data", str(models.test_data), "--dry-run"]
    assert run([*arguments, "--save-predictions", str(path)]) == 0
    assert "would measure top1" in capfd.readouterr().out
    assert not path.exists()


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (["--data", "absent.npz"], 7, "EK201"),
        (["--data", "{data}", "--metric", "topp1"], 2, "top1"),
        (["--data", "{data}", "--runtime", "onnxruntime"], 2, "EK414"),
        (["--data", "{data}", "--preprocess", "unit-rang-rgb"], 2, "unit-range-rgb"),
        (["--data", "{data}", "--samples", "100000"], 7, "has only 597"),
        (["--data", "{data}", "--save-predictions", "/no/such/folder/p.npz"], 2, "EK603"),
        ([], 2, "--data"),
    ],
)
def test_bad_usage_is_one_sentence_and_an_exit_code(models, capfd, arguments, exit_code, words):
    filled = [word.replace("{data}", str(models.test_data)) for word in arguments]
    assert run(["evaluate", str(models.tflite_cnn), *filled]) == exit_code
    shown = capfd.readouterr()
    assert words in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""


def test_existing_predictions_are_refused_and_untouched(models, tmp_path, capfd):
    path = tmp_path / "rows.npz"
    path.write_bytes(b"mine")
    arguments = [
        "evaluate",
        str(models.tflite_cnn),
        "--data",
        str(models.test_data),
        "--save-predictions",
        str(path),
    ]
    assert run(arguments) == 2
    assert "EK602" in capfd.readouterr().err
    assert path.read_bytes() == b"mine"
    assert run([*arguments, "--overwrite"]) == 0
    with np.load(path) as rows:
        assert len(rows["digest"]) == 597
