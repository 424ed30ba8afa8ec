"""What is kept of an archive before PyTorch reads it; needs no PyTorch."""

import io
import json
import zipfile

import pytest

from edgekit.errors import ModelError
from edgekit.formats import find_format
from edgekit.torch_child.archive import OldError, UnsafeError, copy_without_code
from edgekit.torch_errors import translate

_WEIGHT = {"path_name": "weight_0", "is_param": True, "use_pickle": False, "tensor_meta": {}}


def archive(path, *, weights=None, constants=None, more=None):
    members = {
        "archive_format": "pt2",
        "models/model.json": "{}",
        "data/weights/model_weights_config.json": json.dumps({"config": weights or {"w": _WEIGHT}}),
        "data/weights/weight_0": b"\0\0\0\0",
        "data/constants/model_constants_config.json": json.dumps({"config": constants or {}}),
        "data/sample_inputs/model.pt": b"",
    } | (more or {})
    with zipfile.ZipFile(path, "w") as made:
        for name, content in members.items():
            made.writestr(f"cnn/{name}", content)
    return path


def test_tensors_and_graph_are_copied_and_nothing_else(tmp_path):
    more = {"data/aotinductor/model/kernel.so": b"code", "extra/notes.txt": b"notes"}
    copy_without_code(archive(tmp_path / "a.pt2", more=more), tmp_path / "b.pt2")
    with zipfile.ZipFile(tmp_path / "b.pt2") as copy:
        assert sorted(copy.namelist()) == [
            "model/archive_format",
            "model/data/constants/model_constants_config.json",
            "model/data/sample_inputs/model.pt",
            "model/data/weights/model_weights_config.json",
            "model/data/weights/weight_0",
            "model/models/model.json",
        ]
        assert copy.read("model/data/weights/weight_0") == b"\0\0\0\0"
        assert all(info.compress_type == zipfile.ZIP_STORED for info in copy.infolist())


@pytest.mark.parametrize(
    "change", [{"use_pickle": True}, {"path_name": "custom_obj_0"}, {"path_name": "../x"}]
)
@pytest.mark.parametrize("part", ["weights", "constants"])
def test_pickled_objects_are_refused_by_name(tmp_path, part, change):
    path = archive(tmp_path / "a.pt2", **{part: {"thing": _WEIGHT | change}})
    with pytest.raises(UnsafeError, match="thing"):
        copy_without_code(path, tmp_path / "b.pt2")
    assert not (tmp_path / "b.pt2").exists()


def test_archives_of_the_older_kind_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "old.pt2", "w") as made:
        made.writestr("version", "8.2")
        made.writestr("serialized_exported_program.json", "{}")
    assert find_format(tmp_path / "old.pt2") == "pytorch"
    with pytest.raises(OldError):
        copy_without_code(tmp_path / "old.pt2", tmp_path / "b.pt2")


def test_what_grows_without_measure_is_refused(tmp_path):
    path = tmp_path / "a.pt2"
    with zipfile.ZipFile(archive(path), "a", zipfile.ZIP_DEFLATED) as made:
        made.writestr("cnn/data/weights/weight_1", bytes(1 << 22))
    with pytest.raises(zipfile.BadZipFile, match="grows"):
        copy_without_code(path, tmp_path / "b.pt2")


def test_the_format_is_found_from_the_content(tmp_path):
    assert find_format(archive(tmp_path / "no.suffix")) == "pytorch"


def test_an_inner_archive_is_not_taken_for_the_whole(tmp_path):
    """A checkpoint inside of a program whose own end was cut off."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as checkpoint:
        checkpoint.writestr("model/data.pkl", b"pickle")
    whole = archive(
        tmp_path / "whole.pt2", more={"data/sample_inputs/model.pt": inner.getvalue()}
    ).read_bytes()
    cut = tmp_path / "cut.pt2"
    cut.write_bytes(whole[: whole.rindex(b"PK\x01\x02") - 100])
    with pytest.raises(ModelError) as caught:
        find_format(cut)
    assert caught.value.code == "EK105"


@pytest.mark.parametrize(
    ("error", "message", "doing", "code", "says"),
    [
        ("ModuleNotFoundError", "No module named 'litert_torch'", "converted", "EK610", "needs litert_torch"),
        ("TrainingModeError", "aten.dropout.default", "read", "EK137", "as it trains"),
        ("UnsafeError", "thing", "read", "EK110", "keeps thing as a pickled object"),
        ("OldError", "", "read", "EK138", "before 2.8"),
        ("NoModuleError", "make gave int", "exported", "EK139", "gives no model: make gave int"),
        ("RuntimeError", "Lowering not found: aten.svd.default", "converted", "EK120", "write svd.default"),
        ("ValueError", "first\nsecond", "exported", "EK139", "cannot be exported by PyTorch: first"),
        ("ValueError", "odd", "read", "EK105", "cannot be read by PyTorch: odd"),
        ("ValueError", "odd", "run", "EK121", "cannot be run by PyTorch: odd"),
    ],
)
def test_what_pytorch_says_becomes_a_sentence(tmp_path, error, message, doing, code, says):
    found = translate(tmp_path / "model.pt2", error, message, "trace", doing)
    assert found.code == code
    assert says in found.message
    assert "\n" not in found.message
