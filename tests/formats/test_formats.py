"""Every model is recognised by its bytes, and everything else refused in one sentence with a code."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgekit.artifact import Format
from edgekit.errors import DependencyError, ModelError
from edgekit.formats import open_artifact


def refusal(path):
    """The error that a path raises; it is one sentence with an exit code of 7."""
    with pytest.raises(ModelError) as caught:
        open_artifact(path)
    error = caught.value
    assert error.exit_code == 7
    assert "\n" not in error.message
    assert error.message.startswith(str(path)) or str(path) in error.message
    return error


def rewritten(source, target, **changes):
    """A copy of a zip file in which members are replaced; None leaves one out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = changes.get(name.split(".")[0], old.read(name))
            if content is not None:
                new.writestr(name, content)
    return target


def config_of(path):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("config.json"))


# What is read


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("keras_cnn", Format.KERAS),
        ("h5_cnn", Format.KERAS),
        ("tflite_cnn", Format.TFLITE),
        ("tflite_cnn_no_signature", Format.TFLITE),
        ("onnx_cnn", Format.ONNX),
    ],
)
def test_the_format_is_found_without_the_name(models, tmp_path, name, kind):
    disguised = tmp_path / "model.txt"
    shutil.copy(getattr(models, name), disguised)
    artifact = open_artifact(disguised)
    assert artifact.format is kind
    assert artifact.inputs[0].shape[1:] == (8, 8, 1)
    assert artifact.outputs[0].shape[1:] == (10,)
    assert artifact.size_bytes == disguised.stat().st_size


def test_a_saved_model_folder_is_read(models):
    artifact = open_artifact(models.saved_model_cnn)
    assert artifact.format is Format.SAVED_MODEL
    assert [spec.name for spec in artifact.inputs + artifact.outputs] == ["image", "output_0"]


def test_names_come_from_the_signature_and_without_one_from_the_tensors(models):
    with_signature = open_artifact(models.tflite_cnn)
    without = open_artifact(models.tflite_cnn_no_signature)
    assert [spec.name for spec in with_signature.inputs + with_signature.outputs] == ["image", "output_0"]
    assert [spec.name for spec in without.inputs + without.outputs] == ["image", "Identity"]


def test_a_free_batch_is_none(models):
    assert open_artifact(models.tflite_cnn).inputs[0].shape == (1, 8, 8, 1)
    assert open_artifact(models.tflite_cnn_dynamic_batch).inputs[0].shape == (None, 8, 8, 1)
    assert open_artifact(models.onnx_cnn).inputs[0].shape == (None, 8, 8, 1)


def test_integer_inputs_carry_their_scale(models):
    spec = open_artifact(models.tflite_cnn_int8).inputs[0]
    assert spec.dtype == "int8"
    # Digits lie in 0..1, which 256 steps divide: the smallest stands for 0.
    assert spec.quantization.scales[0] == pytest.approx(1 / 255, rel=1e-3)
    assert spec.quantization.zero_points == (-128,)


def test_an_hdf5_file_behind_a_user_block_is_read(models, tmp_path):
    import h5py

    moved = tmp_path / "moved.h5"
    with h5py.File(models.h5_cnn) as old, h5py.File(moved, "w", userblock_size=512) as new:
        for name in old:
            old.copy(name, new)
        new.attrs.update(old.attrs)
    assert open_artifact(moved).inputs[0].name == "image"


# Files that are no models


def test_a_missing_file_suggests_its_neighbour(tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"x")
    error = refusal(tmp_path / "modle.tflite")
    assert (error.code, error.hint) == ("EK101", f"Did you mean {tmp_path / 'model.tflite'}?")


def lfs_pointer(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab\nsize 12345\n")


def npz(path):
    with path.open("wb") as stream:
        np.savez(stream, x=np.zeros(3))


def zip_of_other_things(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


def torch_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
        archive.writestr("archive/version", "3")


def frozen_graph(path):
    # A GraphDef: field 1 is a node, with a name and an operator.
    path.write_bytes(b"\x0a\x10\x0a\x05input\x12\x0bPlaceholder"[:18] * 40)


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (lambda path: path.write_bytes(b""), "EK102", "is empty"),
        (lfs_pointer, "EK103", "git-LFS pointer"),
        (lambda path: path.write_bytes(b"MThd" * 50), "EK104", "not a model"),
        (lambda path: path.write_bytes(bytes(1000)), "EK104", "not a model"),
        (lambda path: path.write_bytes(b"x"), "EK104", "not a model"),
        (frozen_graph, "EK104", "not a model"),
        (os.mkfifo, "EK104", "neither a file nor a folder"),
        (lambda path: path.mkdir(), "EK111", "without saved_model.pb"),
        (zip_of_other_things, "EK106", "no .keras model"),
        (npz, "EK106", "NumPy arrays"),
        (torch_zip, "EK110", "state dicts and pickles are not read"),
        (lambda path: path.write_bytes(pickle.dumps({"w": 1}, protocol=2)), "EK110", "never reads pickles"),
        (lambda path: path.write_bytes(pickle.dumps({"w": 1}, protocol=5)), "EK110", "never reads pickles"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path, make, code, words):
    path = tmp_path / "file.bin"
    make(path)
    error = refusal(path)
    assert error.code == code
    assert words in error.message


def test_a_pickle_that_runs_code_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    (tmp_path / "model.pt").write_bytes(pickle.dumps(Trap()))
    refusal(tmp_path / "model.pt")
    assert not (tmp_path / "sprung").exists()


def test_the_folder_above_a_saved_model_names_it(models):
    error = refusal(models.folder)
    assert str(models.folder / "batch_1") in error.hint


# Files that are cut off


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("name", ["keras_cnn", "h5_cnn", "tflite_cnn", "onnx_cnn"])
def test_a_truncated_model_is_damaged(models, tmp_path, name, kept):
    content = getattr(models, name).read_bytes()
    (tmp_path / "cut").write_bytes(content[: int(len(content) * kept)])
    assert refusal(tmp_path / "cut").code == "EK105"


def test_a_saved_model_without_its_variables_is_damaged(models, tmp_path):
    shutil.copytree(models.saved_model_cnn, tmp_path / "m")
    shutil.rmtree(tmp_path / "m" / "variables")
    assert refusal(tmp_path / "m").code == "EK105"
    (tmp_path / "m" / "saved_model.pb").write_bytes(b"")
    assert refusal(tmp_path / "m").code == "EK102"


# Keras files


def test_weights_without_a_model(models):
    error = refusal(models.h5_weights)
    assert error.code == "EK107"
    assert "load_weights" in error.hint


def test_a_keras_archive_without_weights(models, tmp_path):
    assert refusal(rewritten(models.keras_cnn, tmp_path / "m.keras", model=None)).code == "EK105"


def test_a_configuration_that_is_no_json(models, tmp_path):
    assert refusal(rewritten(models.keras_cnn, tmp_path / "m.keras", config=b"{")).code == "EK105"
    deep = b"[" * 100_000 + b"]" * 100_000
    assert refusal(rewritten(models.keras_cnn, tmp_path / "deep.keras", config=deep)).code == "EK105"


def test_a_zip_bomb_is_not_unpacked(models, tmp_path):
    bomb = tmp_path / "bomb.keras"
    with zipfile.ZipFile(models.keras_cnn) as old, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as new:
        new.writestr("metadata.json", old.read("metadata.json"))
        new.writestr("config.json", b" " * (60 << 20))
        new.writestr("model.weights.h5", bytes(60 << 20))
    assert refusal(bomb).code == "EK116"


def test_a_lambda_layer_is_refused_before_any_of_it_runs(models, tmp_path):
    config = config_of(models.keras_cnn)
    function = {"class_name": "__lambda__", "config": {"code": "4wEAAAA=", "defaults": None, "closure": None}}
    layer = {"module": "keras.layers", "class_name": "Lambda", "config": {"name": "l", "function": function}}
    config["config"]["layers"].insert(1, layer)
    assert (
        refusal(rewritten(models.keras_cnn, tmp_path / "m.keras", config=json.dumps(config))).code == "EK108"
    )


@pytest.mark.parametrize(
    ("name", "code", "word"),
    [
        ("lambda.keras", "EK108", "Lambda"),
        ("lambda.h5", "EK108", "Lambda"),
        ("nested.keras", "EK108", "Lambda"),
        ("swirl.keras", "EK109", "Swirl"),
        ("swirl.h5", "EK109", "Swirl"),
        ("whirl.keras", "EK109", "Whirl"),
        ("curve.keras", "EK109", "curve"),
        ("curve.h5", "EK109", "curve"),
        ("unbuilt.keras", "EK113", "input shape"),
    ],
)
def test_code_of_the_user_s_own_is_named(models, name, code, word):
    error = refusal(models.odd / name)
    assert (error.code, word in error.message) == (code, True), error.message


@pytest.mark.parametrize(("name", "size"), [("loss.keras", 2), ("loss.h5", 2), ("ops.keras", 4)])
def test_a_custom_loss_and_built_in_operations_are_no_obstacle(models, name, size):
    assert open_artifact(models.odd / name).outputs[0].shape == (None, size)


def test_without_h5py_the_pip_line_is_named(models):
    script = f"""
        import sys
        sys.modules["h5py"] = None
        from edgekit.formats import open_artifact
        from edgekit.errors import DependencyError
        try:
            open_artifact({str(models.h5_cnn)!r})
        except DependencyError as error:
            print(error.code, error.exit_code, error.hint)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == 'EK610 3 Install it: pip install "edgekit[tensorflow]"'
    assert issubclass(DependencyError, Exception)
