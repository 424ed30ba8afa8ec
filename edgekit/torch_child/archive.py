"""A ``.pt2`` archive copied without anything that is code.

PyTorch's own reader unpickles objects that such an archive may hold, and loads compiled kernels from it. What it reads
here is a copy, made of the parts that are a graph, tensors and their descriptions.
"""

import json
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

_KEPT = (
    "archive_format",
    "archive_version",
    "byteorder",
    ".format_version",
    ".data/",
    "version",
    "models/model.json",
    "data/weights/model_",
    "data/weights/weight_",
    "data/constants/model_",
    "data/constants/tensor_",
    "data/sample_inputs/model.pt",
)
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
# PyTorch stores members uncompressed; a file that grows more than this when unpacked is made to do harm.
_MOST_GROWTH = 20


class UnsafeError(Exception):
    """An archive needs something that is code."""


class OldError(Exception):
    """An archive was written by PyTorch before 2.8."""


def copy_without_code(path: Path, output: Path) -> None:
    """Copy what describes the program and its tensors.

    Raises:
        UnsafeError: A weight or constant is an object that only unpickling restores.
        OldError: It is of the older kind of archive.
        zipfile.BadZipFile: It is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        members = {_inside(info.filename): info for info in archive.infolist() if not info.is_dir()}
        if "serialized_exported_program.json" in {info.filename for info in archive.infolist()}:
            raise OldError
        if sum(info.file_size for info in members.values()) > _MOST_GROWTH * path.stat().st_size:
            raise zipfile.BadZipFile("it grows beyond all measure when unpacked")
        for config in _CONFIGS:
            _check(json.loads(archive.read(members[config])))
        with zipfile.ZipFile(output, "w", zipfile.ZIP_STORED) as copy:
            for name, info in members.items():
                if name.startswith(_KEPT):
                    with (
                        archive.open(info) as source,
                        copy.open(f"model/{name}", "w", force_zip64=True) as target,
                    ):
                        while chunk := source.read(1 << 20):
                            target.write(chunk)


def _inside(name: str) -> str:
    """A member's name without the folder that stands for the archive."""
    return str(PurePosixPath(*PurePosixPath(name).parts[1:]))


def _check(config: Any) -> None:
    for name, entry in config["config"].items():
        if entry["use_pickle"] or not entry["path_name"].startswith(("weight_", "tensor_")):
            raise UnsafeError(name)
