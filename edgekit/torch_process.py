"""What PyTorch does for edgekit, in its child process: describe, run and convert exported programs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from edgekit import files
from edgekit.artifact import TensorSpec
from edgekit.framework_process import Framework, FrameworkProcess
from edgekit.tensor import Array
from edgekit.torch_errors import INSTALL, translate

_DESCRIBE_S = 300.0
_CONVERT_S = 3600.0

_process = FrameworkProcess(
    Framework(
        name="PyTorch",
        package="torch",
        module="edgekit.torch_child",
        install=INSTALL,
        translate=translate,
        doing={
            "describe": "read",
            "predict": "run",
            "export_program": "exported",
            "export_tflite": "converted",
            "export_onnx": "converted",
            "calls": "cut",
            "cut": "cut",
            "export_core_ml": "converted",
        },
        slow_hint="",
    )
)
_descriptions: dict[tuple[Path, int, int], "_Description"] = {}

start, stop, require = _process.start, _process.stop, _process.require


@dataclass(frozen=True)
class _Description:
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def describe(path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """The inputs and outputs of a ``.pt2`` file.

    Raises:
        ModelError: PyTorch cannot read it.
        DependencyError: PyTorch is not installed.
    """
    status = path.stat()
    key = (path.absolute(), status.st_mtime_ns, status.st_size)
    if key not in _descriptions:
        reply = _process.ask(path, {"do": "describe"}, _DESCRIBE_S)
        inputs, outputs = (
            tuple(TensorSpec(name, tuple(shape), dtype) for name, shape, dtype in reply[side])
            for side in ("inputs", "outputs")
        )
        _descriptions[key] = _Description(inputs, outputs)
    found = _descriptions[key]
    return found.inputs, found.outputs


def predict(path: Path, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run a ``.pt2`` file on samples.

    Args:
        path: The model.
        inputs: Values by input name, samples on the first axis: ``{"x": (100, 3, 32, 32)}``.

    Returns:
        Values by output name: ``{"output_0": (100, 10)}``.
    """
    with _process.exchange(path) as folder:
        given, wanted = folder / "inputs.npz", folder / "outputs.npz"
        np.savez(given, allow_pickle=False, **inputs)
        _process.ask(path, {"do": "predict", "inputs": str(given), "outputs": str(wanted)}, _CONVERT_S)
        with np.load(wanted, allow_pickle=False) as arrays:
            return dict(arrays)


def export_program(path: Path, function: str, output: Path) -> None:
    """Write the module that a function of a user's file gives as a ``.pt2`` file.

    Args:
        path: The user's Python file, which is run because the user said so.
        function: Its function, which gives ``(module, example_inputs)``.
        output: The file to write.

    Raises:
        ModelError: The function fails or gives something else, or its module cannot be exported.
        DependencyError: PyTorch is not installed.
    """
    _made(path, output, {"do": "export_program", "function": function})


def export_tflite(path: Path, output: Path, *, batch: int | None = 1) -> None:
    """Convert a ``.pt2`` file with litert-torch.

    Raises:
        ModelError: litert-torch refuses the model.
        DependencyError: PyTorch or litert-torch is not installed.
    """
    _made(path, output, {"do": "export_tflite", "batch": batch})


def export_onnx(path: Path, output: Path, *, batch: int | None = 1) -> None:
    """Convert a ``.pt2`` file with PyTorch's own ONNX exporter.

    Raises:
        ModelError: The exporter refuses the model.
        DependencyError: PyTorch or onnxscript is not installed.
    """
    _made(path, output, {"do": "export_onnx", "batch": batch})


def calls(path: Path) -> list[str]:
    """Kind and name of the nodes of a ``.pt2`` file, in the order of their calls.

    Raises:
        ModelError: Its graph cannot be seen.
    """
    return cast(list[str], _process.ask(path, {"do": "calls"}, _DESCRIBE_S))


def cut(path: Path, first: int, last: int, output: Path) -> None:
    """Write the nodes of a ``.pt2`` file from ``first`` to ``last`` as a ``.pt2`` file.

    Raises:
        ModelError: They are no model of their own.
    """
    _made(path, output, {"do": "cut", "first": first, "last": last})


def export_core_ml(path: Path, output: Path, options: Mapping[str, str]) -> None:
    """Convert a ``.pt2`` file with coremltools into a folder; ``core_ml_child`` has the options.

    Raises:
        ModelError: coremltools refuses the model or crashes.
        DependencyError: PyTorch is not installed, or coremltools' packages do not fit edgekit's environment.
    """
    request = {"do": "export_core_ml", "output": str(output.absolute()), "options": dict(options)}
    _process.ask(path, request, _CONVERT_S)


def _made(path: Path, output: Path, request: Mapping[str, object]) -> None:
    with _process.exchange(path) as folder:
        made = folder / "model"
        _process.ask(path, {**request, "output": str(made)}, _CONVERT_S)
        files.copy_file(made, output)
