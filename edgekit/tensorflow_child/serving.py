"""The requests, each a function of the same name; the models last used stay in memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf  # noqa: TID253

from edgekit.tensorflow_child import exporting
from edgekit.tensorflow_child.loading import Loaded, load

_CHUNK = 64
_KEPT = 2
_cache: dict[tuple[str, int, int], Loaded] = {}


def answer(request: dict[str, Any], folder: Path) -> Any:
    """Serve one request: ``{"do": "describe", "path": ...}``."""
    return _REQUESTS[request["do"]](folder, **{key: value for key, value in request.items() if key != "do"})


def describe(folder: Path, path: str) -> dict[str, Any]:
    """Names, shapes and dtypes; ``notes`` tell which library could read the file, and what was changed."""
    loaded = _load(path, folder)
    outputs = loaded.concrete(None).structured_outputs
    return {
        "notes": [loaded.loader, *loaded.notes],
        "inputs": [[spec.name, _shape(spec), spec.dtype.name] for spec in loaded.inputs],
        "outputs": [[name, _shape(value), value.dtype.name] for name, value in outputs.items()],
    }


def predict(folder: Path, path: str, inputs: str, outputs: str) -> None:
    """Run samples from one .npz into another."""
    loaded = _load(path, folder)
    arrays = dict(np.load(inputs, allow_pickle=False))
    fixed = next((spec.shape[0] for spec in loaded.inputs if spec.shape.rank and spec.shape[0]), None)
    step, count = fixed or _CHUNK, max(len(array) for array in arrays.values())
    traced = tf.function(loaded.call, autograph=False, reduce_retracing=True)
    parts: list[dict[str, Any]] = []
    for first in range(0, count, step):
        values = [arrays[spec.name][first : first + step] for spec in loaded.inputs]
        loaded.reset()
        result = traced(
            *[_padded(value, fixed, spec.dtype) for value, spec in zip(values, loaded.inputs, strict=True)]
        )
        parts.append({name: value.numpy()[: len(values[0])] for name, value in result.items()})
    joined: dict[str, Any] = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    np.savez(outputs, allow_pickle=False, **joined)


def export_tflite(folder: Path, path: str, output: str, options: dict[str, Any]) -> dict[str, Any]:
    """Write a .tflite file; ``unrolled`` counts the recurrent layers that were written out step by step."""
    loaded = _load(path, folder)
    loaded.reset()  # or the state of the last prediction would become the one to start from
    exporting.export_tflite(loaded, options, Path(output))
    return {"unrolled": len(exporting.recurrent_layers(loaded, options))}


def export_onnx(folder: Path, path: str, output: str, batch: int | None, *, tflite: bool) -> None:
    """Write an .onnx file from a Keras file, a SavedModel or a .tflite file."""
    if tflite:
        exporting.tflite_to_onnx(Path(path), Path(output))
    else:
        exporting.export_onnx(_load(path, folder), batch, Path(output))


def calls(folder: Path, path: str) -> list[str]:
    """The layers of a Keras 3 model in the order of their calls."""
    from edgekit.tensorflow_child.cutting import calls

    return calls(_load(path, folder))


def cut(folder: Path, path: str, output: str, first: int, last: int) -> None:
    """Write a part of a Keras 3 model as a .keras file."""
    from edgekit.tensorflow_child.cutting import cut

    cut(_load(path, folder), first, last, Path(output))


def export_core_ml(folder: Path, path: str, output: str, options: dict[str, str]) -> dict[str, Any]:
    """Write a Core ML package; ``unrolled`` counts the recurrent layers that were written out step by step."""
    loaded = _load(path, folder)
    loaded.reset()
    return {"unrolled": exporting.export_core_ml(loaded, options, Path(output))}


def _load(path: str, folder: Path) -> Loaded:
    status = Path(path).stat()
    key = (path, status.st_mtime_ns, status.st_size)
    if key not in _cache:
        loaded = load(Path(path), folder)
        while len(_cache) >= _KEPT:
            del _cache[next(iter(_cache))]
        _cache[key] = loaded
    return _cache[key]


def _padded(value: Any, batch: int | None, dtype: Any) -> Any:
    """A batch as the model wants it: the last one of a model with a fixed batch is filled up with zeros."""
    missing = (batch or len(value)) - len(value)
    padding = [(0, missing)] + [(0, 0)] * (value.ndim - 1)
    return tf.constant(np.pad(value, padding) if missing else value, dtype)


def _shape(tensor: Any) -> list[int | None]:
    return list(tensor.shape.as_list())


_REQUESTS: dict[str, Callable[..., Any]] = {
    "describe": describe,
    "predict": predict,
    "export_tflite": export_tflite,
    "export_onnx": export_onnx,
    "calls": calls,
    "cut": cut,
    "export_core_ml": export_core_ml,
}
