"""What goes into a step of a run besides models, and the digests by which a change of it is noticed."""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from edgekit import files
from edgekit.data import open_dataset
from edgekit.documents import plain

# Which data of a recipe fills which argument of a verb.
DATA_ROLES = {
    "train_data": "train",
    "validation": "validation",
    "calibration": "calibration",
    "data": "test",
    "preprocess": "preprocess",
}
DATA_ARGUMENTS = frozenset(DATA_ROLES) - {"preprocess"}
# Arguments that name a file, or a model that an earlier step made.
FILE_ARGUMENTS = frozenset({*DATA_ROLES, "recipe", "teacher", "reference", "csv", "tensorboard"})


def digested(name: str, value: Any) -> Any:
    """An option as it counts for the result: a file by what is in it, wherever it lies."""
    if isinstance(value, dict):
        return {key: digested(name if key == "model" else key, item) for key, item in value.items()}
    if name in FILE_ARGUMENTS and isinstance(value, str) and Path(value).exists():
        return files.sha256(Path(value))
    return plain(value)


@cache
def data_digest(spec: str) -> str:
    """The digest of samples, and of the contract that goes with them; of a function, that of its file."""
    file, _, function = spec.rpartition(":")
    if file.endswith(".py"):
        return (
            f"{files.sha256(Path(file))} {function}" if Path(file).is_file() else open_dataset(spec).digest()
        )
    dataset = open_dataset(spec)
    contract = None if dataset.preprocessing is None else plain(dataset.preprocessing.describe())
    return f"{dataset.digest()} {hashlib.sha256(json.dumps(contract).encode()).hexdigest()[:16]}"
