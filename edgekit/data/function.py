"""``FILE.py:function``: the user's own code, run because the user said so."""

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from typing import Any, cast

import numpy as np

from edgekit.data.sources import Batch, merge
from edgekit.errors import DataError

# tf.data.INFINITE_CARDINALITY
_ENDLESS = -1
# The files of users whose code ran in this process.
LOADED: set[Path] = set()


class FunctionSource:
    """Calls the function anew for each pass over the data; it yields ``(x, y)`` or ``x``, sample by sample.

    ``x`` is one sample without a batch axis, or a dict of them by input name. ``y`` may be a dict too, of labels by
    the name of the output that they belong to; each becomes an array ``y_<name>``.
    """

    class_names: tuple[str, ...] = ()

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self._function = _load(path, name)
        first = next(self._samples(), None)
        if first is None:
            raise DataError("EK202", f"{path}:{name} yields no samples.", "Yield (x, y) for each sample.")
        self.names = tuple(first.inputs)
        self.has_labels = first.labels is not None
        self._shapes = {key: array.shape[1:] for key, array in first.inputs.items()}

    @cached_property
    def count(self) -> int:
        """Number of samples: the function is run once to know it."""
        return sum(1 for _ in self._samples())

    def sample_shape(self, name: str) -> tuple[int, ...]:
        """The shape of the first sample."""
        return self._shapes[name]

    def batches(self, size: int) -> Iterator[Batch]:
        """Collect ``size`` samples at a time."""
        pending: list[Batch] = []
        first = 0
        for sample in self._samples():
            pending.append(sample)
            if len(pending) == size:
                yield self._merge(pending, first)
                first += size
                pending = []
        if pending:
            yield self._merge(pending, first)

    def digest(self) -> str:
        """sha256 of the samples, in order."""
        digest = hashlib.sha256()
        for sample in self._samples():
            for name in sorted(sample.inputs):
                array = sample.inputs[name]
                digest.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
            if sample.labels is not None:
                digest.update(sample.labels.tobytes())
        return digest.hexdigest()

    def _check_end(self, items: Any) -> None:
        """A `tf.data` pipeline says when it has no end; waiting for it would take for ever."""
        cardinality = getattr(items, "cardinality", None)
        if callable(cardinality) and int(cardinality()) == _ENDLESS:
            raise DataError(
                "EK213",
                f"{self.path} gives a pipeline without an end.",
                "Leave .repeat() out: the function is called anew for each epoch.",
            )

    def _merge(self, samples: list[Batch], first: int) -> Batch:
        try:
            return merge(samples, first)
        except (ValueError, KeyError, AssertionError) as error:
            raise DataError(
                "EK213",
                f"Samples {first} to {first + len(samples) - 1} of {self.path} differ in shape: {error}.",
            ) from error

    def _samples(self) -> Iterator[Batch]:
        try:
            items = self._function()
            self._check_end(items)
            for number, item in enumerate(items):
                yield _sample(item, number)
        except DataError:
            raise
        except Exception as error:
            raise _failed(self.path, error) from error


def _load(path: Path, name: str) -> Callable[[], Any]:
    loader = SourceFileLoader(f"edgekit_user_{path.stem}", str(path))
    specification = importlib.util.spec_from_loader(loader.name, loader, origin=str(path))
    module = importlib.util.module_from_spec(cast(ModuleSpec, specification))
    # Its neighbours can be imported, as when Python runs the file itself.
    LOADED.add(path.absolute())
    sys.path.insert(0, str(path.absolute().parent))
    try:
        loader.exec_module(module)
    except Exception as error:
        raise _failed(path, error) from error
    finally:
        sys.path.pop(0)
    function = getattr(module, name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise DataError(
            "EK213", f"{path} has no function {name!r}.", f"It has: {', '.join(known) or 'none'}."
        )
    return function  # type: ignore[no-any-return]


def _sample(item: Any, number: int) -> Batch:
    """One yielded item as a batch of one."""
    x, y = item if isinstance(item, tuple) and len(item) == 2 else (item, None)
    named = x if isinstance(x, Mapping) else {"x": x}
    inputs = {str(name): np.asarray(value)[None] for name, value in named.items()}
    if isinstance(y, Mapping):
        inputs |= {f"y_{name}": np.asarray(value)[None] for name, value in y.items()}
        y = None
    for name, array in inputs.items():
        if array.dtype.kind not in "buif":
            raise DataError(
                "EK212", f"Sample {number}: {name} is of type {array.dtype}, not numbers.", "Yield numbers."
            )
    return Batch(inputs, None if y is None else np.asarray(y)[None], number)


def _failed(path: Path, error: Exception) -> DataError:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return DataError(
        "EK213",
        f"{path} failed: {type(error).__name__}: {error} ({Path(last.filename).name}, line {last.lineno}).",
        "Correct the function; -v shows the traceback.",
        detail="".join(traceback.format_exception(error)),
    )
