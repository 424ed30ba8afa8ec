"""The last finished epoch on disk, whole or not at all, so that a training goes on where it was killed."""

import hashlib
import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import files
from edgekit.tensor import Array
from edgekit.train.job import Job

_NAME = "epoch.npz"
# What a training is about does not depend on where results go, nor on how many devices or workers share the batches.
_RESULTS = ("output", "tflite", "tensorboard", "csv", "strategy")
_PATHS = ("model", "train", "validation", "preprocess", "teacher")


class Checkpoint:
    """What a job has reached: weights, the optimizer's state and the numbers of all epochs.

    Args:
        folder: Where it lies; made when the first epoch is saved.
        job: A checkpoint of another job is not taken up.
        digest: What the job started from: the model's and the data's.
    """

    def __init__(self, folder: Path, job: Job, digest: str) -> None:
        self._path = folder / _NAME
        self.refused = False
        self._identity = hashlib.sha256((_without(job, _RESULTS) + digest).encode()).hexdigest()
        # The same on every machine that has the same command, model and data.
        self.training = hashlib.sha256((_without(job, _RESULTS + _PATHS) + digest).encode()).hexdigest()

    def save(self, model: Any, state: dict[str, Any], best: Sequence[Array] = ()) -> None:
        """Replace the checkpoint by the model's state; ``state`` is what the loop needs beside it.

        ``best`` are the weights of the best epoch, where one is remembered.

        Raises:
            OutputError: The disk is full, or the folder cannot be written.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise files.output_error(self._path.parent, error) from error
        with files.atomic_write(self._path) as partial, partial.open("wb") as stream:
            values = {
                f"v{index:05d}": np.asarray(variable) for index, variable in enumerate(_variables(model))
            }
            document = np.array(json.dumps({**state, "identity": self._identity}))
            values |= {f"b{index:05d}": value for index, value in enumerate(best)}
            try:
                np.savez(stream, allow_pickle=False, state=document, **values)
            except ValueError as error:
                # A zip archive that fails while it is written complains about that when it is closed.
                raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None

    def restore(self, model: Any) -> tuple[dict[str, Any], list[Array]] | None:
        """Put the saved values into a compiled and built model; None where there is no checkpoint of this job.

        ``refused`` then says whether there is one of another.

        Returns:
            ``state`` and ``best`` as they were saved.
        """
        if not self._path.is_file():
            return None
        try:
            with np.load(self._path, allow_pickle=False) as arrays:
                state: dict[str, Any] = json.loads(str(arrays["state"]))
                variables = list(_variables(model))
                values, best = (
                    [arrays[name] for name in sorted(arrays.files) if name[0] == kind] for kind in "vb"
                )
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            self.refused = True
            return None
        if state.pop("identity", None) != self._identity or not _fit(variables, values):
            self.refused = True
            return None
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        return state, best


def _variables(model: Any) -> Iterator[Any]:
    yield from model.variables
    yield from model.optimizer.variables


def _fit(variables: list[Any], values: list[Array]) -> bool:
    shapes = [tuple(variable.shape) for variable in variables]
    return shapes == [value.shape for value in values]


def _without(job: Job, names: Sequence[str]) -> str:
    document = json.loads(job.to_json())
    return json.dumps({name: document[name] for name in sorted(document) if name not in names})
