"""Keras files: a .keras archive, or a full model in .h5.

What can be refused is refused from the stored configuration, before TensorFlow is started and without running
anything that the file brings along.
"""

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

from edgekit import tensorflow_process
from edgekit.artifact import TensorSpec
from edgekit.errors import ModelError

_MOST_CONFIG_BYTES = 64 << 20
# Keras stores weights uncompressed; a file that grows more than this when unpacked is made to do harm.
_MOST_GROWTH = 200
_MOST_NODES = 5_000_000
_DAMAGES = (OSError, EOFError, ValueError, LookupError, RecursionError, NotImplementedError, RuntimeError)
_DAMAGED_HINT = "The file may be damaged: compare its size and checksum with the original."


def read(path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """The inputs and outputs, by the names that Keras gives them.

    Raises:
        ModelError: It holds only weights, code or custom objects, or is damaged.
        DependencyError: TensorFlow is not installed.
    """
    tensorflow_process.start()
    is_archive = zipfile.is_zipfile(path)
    _check(path, _archive_config(path) if is_archive else _hdf5_config(path))
    return tensorflow_process.describe(path)


def _archive_config(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {info.filename: info.file_size for info in archive.infolist()}
            if sum(sizes.values()) > _MOST_GROWTH * path.stat().st_size:
                raise ModelError("EK116", f"{path} grows beyond all measure when unpacked.", _DAMAGED_HINT)
            if sizes["config.json"] > _MOST_CONFIG_BYTES:
                raise ModelError("EK116", f"{path} has a configuration of more than 64 MB.", _DAMAGED_HINT)
            if "model.weights.h5" not in sizes:
                raise ModelError("EK105", f"{path} has no file model.weights.h5 inside.", _DAMAGED_HINT)
            return json.loads(archive.read("config.json"))
    except (*_DAMAGES, zipfile.BadZipFile, zlib.error) as error:
        raise ModelError("EK105", f"{path} is damaged: {_reason(error)}.", _DAMAGED_HINT) from error


def _hdf5_config(path: Path) -> Any:
    text = tensorflow_process.hdf5_config(path)
    if text is None:
        raise ModelError(
            "EK107",
            f"{path} holds weights without a model.",
            "Build the model in Keras, call load_weights on this file, then model.save('model.keras').",
        )
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError("EK105", f"{path} is damaged: {_reason(error)}.", _DAMAGED_HINT) from error


def _check(path: Path, config: Any) -> None:
    """Refuse code and custom objects, wherever in the configuration they stand."""
    waiting, seen = [config], 0
    while waiting:
        node = waiting.pop()
        seen += 1
        if seen > _MOST_NODES:
            raise ModelError("EK116", f"{path} has a configuration without end.", _DAMAGED_HINT)
        if isinstance(node, list):
            waiting.extend(node)
        if not isinstance(node, dict):
            continue
        # How the model was trained is not read, so that a custom loss is no obstacle.
        waiting.extend(value for key, value in node.items() if key != "compile_config")
        name = node.get("class_name")
        if name in ("Lambda", "__lambda__"):
            raise ModelError(
                "EK108",
                f"{path} holds a Lambda layer, which is code that edgekit does not run.",
                "Replace it by a built-in layer, or export the model as a SavedModel: model.export(FOLDER).",
            )
        if _is_custom(node):
            raise ModelError(
                "EK109",
                f"{path} uses the custom object {name}, whose code is not in the file.",
                "Use built-in layers, or export the model where that code is: model.export(FOLDER).",
            )


def _is_custom(node: dict[str, Any]) -> bool:
    """Keras 3 notes a module of its own for its objects, and a registered name only for those of others."""
    if not {"module", "class_name", "registered_name"} <= node.keys() or node["registered_name"] is None:
        return False
    module = node["module"] or ""
    # Layers of edgekit's own training are as good as Keras's.
    known = ("keras", "tf_keras", "builtins", "tensorflow", "edgekit.train.")
    return isinstance(module, str) and not module.startswith(known)


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
