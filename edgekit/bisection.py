"""Finds the smallest part of a model whose conversion fails as that of the whole does."""

import json
import math
import shlex
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit import files, pipeline
from edgekit.artifact import Artifact
from edgekit.calibration import random_samples
from edgekit.cutting import Cutter, cutter
from edgekit.errors import EdgekitError, ModelError, UsageError
from edgekit.fidelity import measure
from edgekit.formats import open_artifact
from edgekit.plan import Candidate
from edgekit.reference import Reference
from edgekit.routes import Route

Fails = Callable[[int, int], bool]
Progress = Callable[[int, int], None]

_SAMPLES = 4


@dataclass(frozen=True)
class Part:
    """Operators ``first`` to ``last``, counted from 1, of the ``count`` in the model, in a file of their own.

    ``operators`` are kind and name: ``("Det second",)``. ``error`` is what the conversion of ``path`` raises.
    """

    path: Path
    first: int
    last: int
    count: int
    operators: tuple[str, ...]
    error: ModelError

    @property
    def sentence(self) -> str:
        """What and where it is."""
        which = (
            f"operator {self.first}" if self.first == self.last else f"operators {self.first} to {self.last}"
        )
        return f"The smallest part that fails is {which} of {self.count}, {', '.join(self.operators[:3])}: {self.path}"

    def describe(self, command: str) -> dict[str, Any]:
        """The part as it stands in ``part.json``; ``command`` is what fails on it."""
        return {
            "first": self.first,
            "last": self.last,
            "count": self.count,
            "operators": list(self.operators),
            "code": self.error.code,
            "message": self.error.message,
            "detail": self.error.detail,
            "command": command,
        }


class Bisection:
    """The search in one model, which is refused before anything is converted where it cannot be done.

    Args:
        source: The model.
        folder: Where ``part`` with the format's suffix and ``part.json`` go; made where it is not there.
        overwrite: Whether those are replaced.

    Raises:
        UsageError: edgekit cannot cut such a model, or a part is there already.
    """

    def __init__(self, source: Artifact, folder: Path, *, overwrite: bool) -> None:
        found = cutter(source.format)
        if found is None:
            message = f"edgekit cannot cut a part out of {source.path}, which is {source.format}."
            raise UsageError(
                "EK355", message, "Leave --bisect out, or give the Keras model that it was made of."
            )
        self._cutter: Cutter = found
        self._source = source
        self._path = folder / f"part{found.SUFFIX}"
        self._report = folder / "part.json"
        for path in (self._path, self._report) if folder.is_dir() else (folder,):
            files.check_output(path, overwrite=overwrite)

    def run(
        self,
        route: Route,
        failure: ModelError,
        *,
        batch: int | None,
        output: str,
        progress: Progress | None = None,
    ) -> Part | None:
        """Search, and write what was found.

        Args:
            route: The conversion that failed.
            failure: How it failed; a part fails alike where its error has the same code.
            batch: The batch size that was asked for.
            output: The suffix of the file that was to be written, ``".tflite"``.
            progress: Called with the number of conversions done, and of those that it takes at most.

        Returns:
            The part, None where the whole model, cut out of itself, does not fail.
        """
        operators = self._cutter.operators(self._source.path)
        report, most = (
            progress or (lambda _done, _all: None),
            2 * math.ceil(math.log2(max(2, len(operators)))) + 1,
        )
        errors: dict[tuple[int, int], ModelError] = {}
        with tempfile.TemporaryDirectory(prefix="edgekit-") as temporary:
            part = Path(temporary) / self._path.name

            def fails(first: int, last: int) -> bool:
                report(min(len(errors), most - 1), most)
                error = self._try(part, first, last, route, batch)
                if error is None or error.code != failure.code:
                    return False
                errors[first, last] = error
                return True

            found = smallest_part(len(operators), fails)
            if found is None:
                return None
            first, last = found
            self._cutter.cut(self._source.path, first, last, part)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            files.copy_file(part, self._path)
        named, error = tuple(operators[first : last + 1]), errors[found]
        error.message = error.message.replace(str(part), self._path.name)
        result = Part(self._path, first + 1, last + 1, len(operators), named, error)
        command = shlex.join(["edgekit", "convert", self._path.name, "-o", f"out{output}"])
        files.write_bytes(self._report, json.dumps(result.describe(command), indent=2).encode())
        return result

    def _try(self, part: Path, first: int, last: int, route: Route, batch: int | None) -> ModelError | None:
        """How the conversion of a part fails, None where it does not, or where the model cannot be cut there."""
        try:
            self._cutter.cut(self._source.path, first, last, part)
            source = open_artifact(part)
            samples = random_samples(source.inputs, seed=0, count=_SAMPLES)
            reference = Reference.of(source, samples.held_back)
        except EdgekitError:
            return None
        with tempfile.TemporaryDirectory(dir=part.parent) as folder:
            try:
                candidate = Candidate(route.converter, route.steps)
                made = pipeline.run(candidate, source, pipeline.float_settings(batch), Path(folder))
                measure(reference, made.artifact)
            except ModelError as error:
                return error
        return None


def smallest_part(count: int, fails: Fails) -> tuple[int, int] | None:
    """The first and the last of a run of operators that fails, and none of whose halves was seen to.

    The end is found first, then the beginning, each by halving: some ``2 * log2(count)`` trials. Where several parts
    fail it is one of them.

    >>> smallest_part(100, lambda first, last: first <= 57 <= last)
    (57, 57)
    """
    if not count or not fails(0, count - 1):
        return None
    low, last = 0, count - 1
    while low < last:
        middle = (low + last) // 2
        low, last = (low, middle) if fails(0, middle) else (middle + 1, last)
    first, high = 0, last
    while first < high:
        middle = (first + high + 1) // 2
        first, high = (middle, high) if fails(middle, last) else (first, middle - 1)
    return first, last
