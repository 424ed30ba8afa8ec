"""`edgekit distill` on small models: teachers of several formats, the cache, and what is refused."""

import json
import zipfile
from dataclasses import replace

import jsonschema
import numpy as np
import pytest

import edgekit
from edgekit import training_process
from edgekit.cli._group import run
from edgekit.errors import DataError, ModelError, UsageError
from edgekit.teacher_pass import Teacher, teach
from edgekit.training import job_for
from edgekit.verbs.distill import distill


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def _kept_cache(_own_cache, kept, monkeypatch):
    """One cache for the tests that train: the training process stays for as long as its environment does."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(kept))


def _job(models, tmp_path, data=None):
    return job_for(
        "distill",
        models.keras_cnn,
        tmp_path / "out.keras",
        train_data=data or models.train_data,
        epochs=1,
        options={},
    )


@pytest.mark.parametrize("kind", ["tflite_cnn", "onnx_cnn"])
def test_a_teacher_of_any_format_answers_as_in_its_own_runtime(models, tmp_path, kind):
    path = getattr(models, kind)
    job, findings = teach(_job(models, tmp_path), edgekit.open_artifact(models.keras_cnn), Teacher(path))
    assert findings == []
    name, unit = job.teacher["outputs"][0]
    assert unit is None
    said = np.load(f"{job.teacher['rows'][0]}/0.npy")
    with np.load(models.train_data) as arrays:
        labels = arrays["y"]
    assert said.shape == (1200, 10)
    assert np.mean(said.argmax(1) == labels) > 0.9
    _again, found = teach(_job(models, tmp_path), edgekit.open_artifact(models.keras_cnn), Teacher(path))
    assert [finding.code for finding in found] == ["EK761"]
    assert name


def test_a_teacher_is_asked_about_each_view_of_an_augmented_sample(models, tmp_path):
    student, path = edgekit.open_artifact(models.keras_cnn), models.tflite_cnn
    job, _findings = teach(
        replace(_job(models, tmp_path), augment="shift:2"), student, Teacher(path, views=3)
    )
    plain, *moved = (np.load(f"{rows}/0.npy") for rows in job.teacher["rows"])
    assert len(moved) == 2
    from edgekit.train.augmentation import Augmentation

    with np.load(models.train_data) as arrays:
        shown = Augmentation(shift=2).view(2, 1200).applied({"x": arrays["x"].reshape(1200, 8, 8, 1)})["x"]
    np.savez(tmp_path / "shown.npz", x=shown, y=np.zeros(1200, np.int64))
    again, _found = teach(_job(models, tmp_path, tmp_path / "shown.npz"), student, Teacher(path))
    np.testing.assert_allclose(np.load(f"{again.teacher['rows'][0]}/0.npy"), moved[1], atol=1e-6)
    assert not np.allclose(plain, moved[1])


def test_an_int8_teacher_tells_its_step(models, tmp_path):
    student = edgekit.open_artifact(models.keras_cnn)
    job, _findings = teach(_job(models, tmp_path), student, Teacher(models.tflite_cnn_int8, cache=False))
    assert job.teacher["outputs"][0][1] == pytest.approx(1 / 256, rel=0.01)
    assert str(job.checkpoints) in job.teacher["rows"][0]
    assert not (tmp_path / "cache").exists()


def test_a_teacher_with_other_outputs_is_refused_before_it_runs(models, tmp_path):
    student = edgekit.open_artifact(models.keras_two_inputs)
    with pytest.raises(ModelError, match="1 outputs, the student 2"):
        teach(_job(models, tmp_path), student, Teacher(models.tflite_cnn))


def test_layers_need_a_keras_teacher(models, tmp_path):
    teacher = Teacher(models.tflite_cnn, features=[("a", "b")])
    with pytest.raises(ModelError, match="layers have no names"):
        teach(_job(models, tmp_path), edgekit.open_artifact(models.keras_cnn), teacher)


@pytest.mark.parametrize("student", ["width", "width:0", "width:9", "half", "width:nan"])
def test_students_that_cannot_be_made_are_refused(models, tmp_path, student):
    with pytest.raises(UsageError, match="describes no student"):
        distill(
            models.keras_cnn,
            tmp_path / "out.keras",
            teacher=models.tflite_cnn,
            train_data=models.train_data,
            student=student,
        )


def test_there_must_be_a_student(models, tmp_path):
    with pytest.raises(UsageError, match="no student"):
        distill(None, tmp_path / "out.keras", teacher=models.tflite_cnn, train_data=models.train_data)


@pytest.mark.slow
@pytest.mark.usefixtures("_kept_cache")
def test_a_student_of_half_the_width_learns_from_a_keras_teacher(models, tmp_path):
    output, tflite = tmp_path / "half.keras", tmp_path / "half.tflite"
    trained = distill(
        None,
        output,
        teacher=Teacher(models.keras_cnn),
        student="width:0.5",
        train_data=models.train_data,
        validation=str(models.test_data),
        epochs=12,
        batch_size=32,
        learning_rate=0.01,
        tflite=str(tflite),
    )
    assert trained.report["parameters"]["student"] < trained.report["parameters"]["given"]
    assert edgekit.evaluate(tflite, models.test_data, workers=1).value > 0.75
    assert edgekit.evaluate(output, models.test_data, workers=1).value == pytest.approx(
        edgekit.evaluate(tflite, models.test_data, workers=1).value, abs=0.01
    )
    lineage = json.loads((tmp_path / "half.keras.json").read_text())
    assert lineage["options"]["teacher"]["sha256"] == edgekit.open_artifact(models.keras_cnn).sha256


@pytest.mark.slow
@pytest.mark.usefixtures("_kept_cache")
def test_qat_listens_to_a_teacher(models, tmp_path):
    trained = edgekit.qat(
        models.keras_cnn,
        tmp_path / "qat.keras",
        teacher=models.onnx_cnn,
        train_data=models.train_data,
        epochs=2,
        weight_bits=4,
        scale_learning_rate=True,
        tflite=str(tmp_path / "int4.tflite"),
    )
    assert trained.report["quantized_layers"]
    assert trained.report["teacher"]["model"] == str(models.onnx_cnn)
    assert edgekit.evaluate(tmp_path / "int4.tflite", models.test_data, workers=1).value > 0.75


@pytest.mark.slow
@pytest.mark.usefixtures("_kept_cache")
def test_a_teacher_of_other_classes_is_noticed_and_the_command_says_so(models, tmp_path, capfd):
    with np.load(models.train_data) as arrays:
        np.savez(tmp_path / "shifted.npz", x=arrays["x"][:300], y=(arrays["y"][:300] + 1) % 10)
    layer = _a_layer(models.keras_cnn)
    command = ["distill", str(models.keras_cnn), "-o", str(tmp_path / "out.keras"), "--epochs", "1", "--json"]
    command += ["--teacher", str(models.keras_cnn), "--train", str(tmp_path / "shifted.npz")]
    command += ["--feature", f"{layer}={layer}", "--feature-loss", "relation", "--scale-learning-rate"]
    assert run(command) == 0
    document = json.loads(capfd.readouterr().out)
    assert "EK769" in [finding["code"] for finding in document["findings"]]
    assert document["result"]["report"]["teacher"]["accuracy"] < 0.1
    jsonschema.Draft202012Validator(edgekit.schema("distill")).validate(document)


def _a_layer(path):
    with zipfile.ZipFile(path) as archive:
        layers = json.loads(archive.read("config.json"))["config"]["layers"]
    return next(layer["config"]["name"] for layer in layers if layer["class_name"] == "Conv2D")


@pytest.mark.slow
@pytest.mark.usefixtures("_kept_cache")
def test_samples_that_change_are_refused(models, tmp_path):
    (tmp_path / "random.py").write_text(
        "import numpy as np\n"
        "def samples():\n"
        "    for label in range(64):\n"
        "        yield np.random.default_rng().random((8, 8, 1), np.float32), label % 10\n"
    )
    with pytest.raises(DataError, match="other samples to the teacher"):
        distill(
            models.keras_cnn,
            tmp_path / "out.keras",
            teacher=models.tflite_cnn,
            train_data=f"{tmp_path / 'random.py'}:samples",
            epochs=1,
        )
    # A process that a training failed in trains nothing else.
    assert not training_process._waiting
