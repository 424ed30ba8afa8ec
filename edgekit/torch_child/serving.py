"""The requests, each a function of the same name; the models last used stay in memory."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch  # noqa: TID253

from edgekit.torch_child import loading
from edgekit.torch_child.loading import Loaded

_CHUNK = 64
_KEPT = 2
_cache: dict[tuple[str, int, int], Loaded] = {}


def answer(request: dict[str, Any], folder: Path) -> Any:
    """Serve one request: ``{"do": "describe", "path": ...}``."""
    return _REQUESTS[request["do"]](folder, **{key: value for key, value in request.items() if key != "do"})


def describe(folder: Path, path: str) -> dict[str, Any]:
    """Names, shapes and dtypes."""
    loaded = _load(path, folder)
    return {"inputs": _specs(loaded.inputs), "outputs": _specs(loaded.outputs)}


def predict(folder: Path, path: str, inputs: str, outputs: str) -> None:
    """Run samples from one .npz into another."""
    loaded = _load(path, folder)
    arrays = dict(np.load(inputs, allow_pickle=False))
    fixed = next((_size(value.shape[0]) for value in loaded.inputs.values() if value.ndim), None)
    step, count = fixed or _CHUNK, max(len(array) for array in arrays.values())
    parts: list[dict[str, Any]] = []
    with torch.inference_mode():
        call = loaded.call
        for first in range(0, count, step):
            values = [arrays[name][first : first + step] for name in loaded.inputs]
            tensors = [torch.from_numpy(_padded(value, fixed)) for value in values]
            results = torch.utils._pytree.tree_leaves(call(*tensors))
            parts.append(
                {
                    name: result.numpy()[: len(values[0])]
                    for name, result in zip(loaded.outputs, results, strict=True)
                }
            )
    joined: dict[str, Any] = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    np.savez(outputs, allow_pickle=False, **joined)


def export_program(_folder: Path, path: str, function: str, output: str) -> None:
    """Write what a user's function gives as a .pt2 file."""
    loading.export(Path(path), function, Path(output))


def export_tflite(folder: Path, path: str, output: str, batch: int | None) -> None:
    """Convert with litert-torch."""
    from edgekit.torch_child.exporting import export_tflite

    export_tflite(_load(path, folder), batch, Path(output))


def export_onnx(folder: Path, path: str, output: str, batch: int | None) -> None:
    """Convert with PyTorch's own exporter."""
    from edgekit.torch_child.exporting import export_onnx

    export_onnx(_load(path, folder), batch, Path(output))


def calls(folder: Path, path: str) -> list[str]:
    """The nodes of the graph."""
    from edgekit.torch_child.cutting import calls

    return calls(_load(path, folder))


def cut(folder: Path, path: str, output: str, first: int, last: int) -> None:
    """Write a part of the graph as a .pt2 file."""
    from edgekit.torch_child.cutting import cut

    cut(_load(path, folder), first, last, Path(output))


def export_core_ml(folder: Path, path: str, output: str, options: dict[str, str]) -> dict[str, Any]:
    """Write a Core ML package; nothing is unrolled."""
    from edgekit.torch_child.exporting import export_core_ml

    export_core_ml(_load(path, folder), options, Path(output))
    return {"unrolled": 0}


def _load(path: str, folder: Path) -> Loaded:
    status = Path(path).stat()
    key = (path, status.st_mtime_ns, status.st_size)
    if key not in _cache:
        loaded = loading.load(Path(path), folder)
        while len(_cache) >= _KEPT:
            del _cache[next(iter(_cache))]
        _cache[key] = loaded
    return _cache[key]


def _specs(values: Mapping[str, Any]) -> list[list[Any]]:
    return [
        [name, [_size(size) for size in value.shape], str(value.dtype).removeprefix("torch.")]
        for name, value in values.items()
    ]


def _size(size: Any) -> int | None:
    """A size, None where it is a symbol."""
    return size if isinstance(size, int) else None


def _padded(value: Any, batch: int | None) -> Any:
    """A batch as the model wants it: the last one of a model with a fixed batch is filled up with zeros."""
    missing = (batch or len(value)) - len(value)
    padding = [(0, missing)] + [(0, 0)] * (value.ndim - 1)
    return np.ascontiguousarray(np.pad(value, padding) if missing else value)


_REQUESTS: dict[str, Callable[..., Any]] = {
    "describe": describe,
    "predict": predict,
    "export_program": export_program,
    "export_tflite": export_tflite,
    "export_onnx": export_onnx,
    "calls": calls,
    "cut": cut,
    "export_core_ml": export_core_ml,
}
