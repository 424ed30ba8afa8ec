"""Finds a model's format from its bytes; its name plays no part."""

import difflib
import zipfile
from pathlib import Path

from edgekit.artifact import Format
from edgekit.errors import ModelError
from edgekit.formats import _protobuf

_ZIP = b"PK\x03\x04"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_LFS = b"version https://git-lfs.github.com/spec/"
_KNOWN = "edgekit reads .keras, .h5, .tflite, .onnx and .pt2 files, and SavedModel folders."
_PICKLE_HINT = "Export the model: torch.export.save(torch.export.export(module.eval(), inputs), 'model.pt2')."


def find_format(path: Path) -> Format:
    """The format of a file or folder.

    Raises:
        ModelError: It is missing, empty, or no model that edgekit reads.
    """
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        raise ModelError("EK101", f"{path} does not exist.", _nearest(path))
    if not path.is_file():
        raise ModelError("EK104", f"{path} is neither a file nor a folder.", _KNOWN)
    try:
        with path.open("rb") as stream:
            head = stream.read(64)
    except OSError as error:
        raise ModelError("EK101", f"{path} cannot be opened: {error.strerror}.") from error
    return _file(path, head)


def _file(path: Path, head: bytes) -> Format:
    if not head:
        raise ModelError("EK102", f"{path} is empty.", "Fetch or save the file again.")
    if head.startswith(_LFS):
        message = f"{path} is a git-LFS pointer, not the model itself."
        raise ModelError("EK103", message, "Run git lfs pull in the repository that it comes from.")
    if head[4:8] == b"TFL3":
        return Format.TFLITE
    if head.startswith(_ZIP):
        return _archive(path)
    if _is_hdf5(path):
        return Format.KERAS
    # Protocol 2 and later begin with these bytes; so does what torch.save wrote before it wrote zip files.
    if head[0] == 0x80 and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise ModelError("EK110", f"{path} is a pickle, and edgekit never reads pickles.", _PICKLE_HINT)
    if _protobuf.is_onnx(path):
        return Format.ONNX
    raise ModelError("EK104", f"{path} is not a model that edgekit reads.", _unknown_hint(path, head))


def _archive(path: Path) -> Format:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            # PyTorch puts zip files into zip files: where the outer end is missing, an inner one is found.
            if names and min(info.header_offset for info in archive.infolist()) > 0:
                raise zipfile.BadZipFile("it does not begin where its list of contents says")
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ModelError(
            "EK105",
            f"{path} is a zip file whose end is missing or damaged.",
            "The file was cut off: fetch or save it again.",
            detail=repr(error),
        ) from error
    if {"config.json", "metadata.json"} <= names:
        return Format.KERAS
    if any(name.endswith(("/models/model.json", "serialized_exported_program.json")) for name in names):
        return Format.PYTORCH
    if any(name.endswith("/data.pkl") or name == "data.pkl" for name in names):
        message = f"{path} is a PyTorch file; state dicts and pickles are not read."
        raise ModelError("EK110", message, _PICKLE_HINT)
    if names and all(name.endswith(".npy") for name in names):
        message = f"{path} holds NumPy arrays, not a model."
        raise ModelError("EK106", message, "It may be data: give it with --data or --calibration.")
    message = f"{path} is a zip file, but no .keras model: config.json or metadata.json is missing."
    raise ModelError("EK106", message, "Unpack it, and give edgekit the model inside.")


def _is_hdf5(path: Path) -> bool:
    """HDF5's signature stands at 0, or behind a block of the user's own at 512, 1024, 2048 and so on."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        offset = 0
        while offset < min(size, 1 << 20):
            stream.seek(offset)
            if stream.read(8) == _HDF5:
                return True
            offset = max(512, offset * 2)
    return False


def _folder(path: Path) -> Format:
    if (path / "saved_model.pb").is_file():
        return Format.SAVED_MODEL
    inside = sorted(file.parent for file in path.glob("*/saved_model.pb"))
    hint = f"Give the folder in which it lies: {inside[0]}." if inside else _KNOWN
    raise ModelError("EK111", f"{path} is a folder without saved_model.pb.", hint)


def _nearest(path: Path) -> str:
    folder = path.parent
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    nearest = difflib.get_close_matches(path.name, names, n=1)
    return f"Did you mean {folder / nearest[0]}?" if nearest else ""


def _unknown_hint(path: Path, head: bytes) -> str:
    if head[4:8] == b"ORTM":
        return "It is an .ort file, made for one runtime: give the .onnx file that it was made from."
    if path.name == "saved_model.pb":
        return f"Give the folder of the SavedModel: {path.parent}."
    return _KNOWN
