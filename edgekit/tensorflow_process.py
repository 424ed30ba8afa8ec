"""What TensorFlow does for edgekit, in its child process: describe, run and convert models."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np

from edgekit import files
from edgekit.artifact import TensorSpec
from edgekit.errors import DependencyError, ModelError
from edgekit.findings import Finding, Level
from edgekit.framework_process import PYTHON, Framework, FrameworkProcess, environment, is_installed
from edgekit.tensor import Array
from edgekit.tensorflow_errors import INSTALL, translate

_HDF5_S = 60.0
_DESCRIBE_S = 300.0
_CONVERT_S = 3600.0


@dataclass(frozen=True)
class TFLiteExport:
    """How a Keras model or a SavedModel becomes a .tflite file.

    ``batch`` is put in place of a free first dimension; None leaves it free. ``calibration`` has samples on
    the first axis by input name, ``{"image": (200, 32, 32, 3)}``; the two integer ways need it. ``io`` is
    the type of inputs and outputs of an int8 file. ``unroll`` writes recurrent layers of Keras 3 with at most
    64 steps out step by step, which the two integer ways do anyway.
    """

    batch: int | None = 1
    optimize: Literal["none", "float16", "dynamic", "int8", "int16x8"] = "none"
    calibration: Mapping[str, Array] | None = None
    io: Literal["float32", "int8", "uint8"] = "float32"
    per_channel: bool = True
    unroll: bool = False

    def __post_init__(self) -> None:
        if self.optimize in ("int8", "int16x8") and not self.calibration:
            raise ValueError(f"{self.optimize} needs calibration samples")
        if self.io != "float32" and self.optimize != "int8":
            raise ValueError(f"{self.io} inputs and outputs need int8, not {self.optimize}")


@dataclass(frozen=True)
class _Description:
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    notes: tuple[str, ...]


_process = FrameworkProcess(
    Framework(
        name="TensorFlow",
        package="tensorflow",
        module="edgekit.tensorflow_child",
        install=INSTALL,
        translate=translate,
        doing={
            "describe": "read",
            "predict": "run",
            "export_tflite": "converted",
            "export_onnx": "converted",
            "calls": "cut",
            "cut": "cut",
            "export_core_ml": "converted",
        },
        slow_hint=", or use fewer calibration samples",
    )
)
_descriptions: dict[tuple[Path, int, int], _Description] = {}

start, stop, require = _process.start, _process.stop, _process.require


def describe(path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """The inputs and outputs of a Keras file or a SavedModel.

    Raises:
        ModelError: TensorFlow cannot read it.
        DependencyError: TensorFlow is not installed.
    """
    description = _describe(path)
    return description.inputs, description.outputs


def findings(path: Path) -> tuple[Finding, ...]:
    """What the user should know about how a model was read."""
    notes = {
        "tf_keras": ("EK131", f"{path.name} is a Keras 2 file that Keras 3 does not read; tf_keras read it."),
        "float32": ("EK136", f"{path.name} was trained in mixed precision; here it computes in float32."),
    }
    found = [notes[note] for note in _describe(path).notes if note in notes]
    return tuple(Finding(code, message, level=Level.NOTE) for code, message in found)


def hdf5_config(path: Path) -> str | None:
    """The configuration that Keras stored in an .h5 file, None where it holds only weights.

    Raises:
        ModelError: The file is damaged.
        DependencyError: h5py, a part of the tensorflow extra, is not installed.
    """
    if not is_installed("h5py"):
        raise DependencyError("EK610", f"{path} needs TensorFlow and h5py, which are not installed.", INSTALL)
    command = [*PYTHON, "edgekit.tensorflow_child.hdf5", str(path.absolute())]
    hint = "The file may be damaged: compare its size and checksum with the original."
    try:
        done = subprocess.run(command, capture_output=True, env=environment(), timeout=_HDF5_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise ModelError("EK105", f"{path} is damaged: HDF5 reads it without end.", hint) from error
    if done.returncode:
        raise ModelError("EK105", f"{path} is damaged: HDF5 crashed on it.", hint, detail=str(done.stderr))
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise translate(path, answer["error"], answer["message"], "")
    return cast(str | None, answer["config"])


def predict(path: Path, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run a Keras file or a SavedModel on samples.

    Args:
        path: The model.
        inputs: Real values by input name, samples on the first axis: ``{"image": (100, 32, 32, 3)}``.

    Returns:
        Real values by output name: ``{"classes": (100, 10)}``.
    """
    with _process.exchange(path) as folder:
        given, wanted = folder / "inputs.npz", folder / "outputs.npz"
        np.savez(given, allow_pickle=False, **inputs)
        _process.ask(path, {"do": "predict", "inputs": str(given), "outputs": str(wanted)}, _CONVERT_S)
        with np.load(wanted, allow_pickle=False) as arrays:
            return dict(arrays)


def export_tflite(path: Path, output: Path, options: TFLiteExport) -> tuple[Finding, ...]:
    """Convert a Keras file or a SavedModel with TensorFlow's converter; the result has run once on zeros.

    Returns:
        What was changed on the way.

    Raises:
        ModelError: The converter refuses the model or crashes, or its result does not run.
    """
    with _process.exchange(path) as folder:
        document = asdict(options) | {"calibration": None}
        if options.calibration:
            document["calibration"] = str(folder / "calibration.npz")
            np.savez(document["calibration"], allow_pickle=False, **options.calibration)
        made = folder / "model.tflite"
        reply = _process.ask(
            path, {"do": "export_tflite", "output": str(made), "options": document}, _CONVERT_S
        )
        files.copy_file(made, output)
    return _unrolled(reply)


def export_onnx(path: Path, output: Path, *, batch: int | None = 1) -> None:
    """Convert a Keras file, a SavedModel or a .tflite file with tf2onnx to opset 17.

    Raises:
        ModelError: tf2onnx refuses the model, or ONNX Runtime refuses what it made.
    """
    with _process.exchange(path) as folder:
        made = folder / "model.onnx"
        tflite = path.is_file() and path.read_bytes()[4:8] == b"TFL3"
        request = {"do": "export_onnx", "output": str(made), "batch": batch, "tflite": tflite}
        _process.ask(path, request, _CONVERT_S)
        _check_onnx(path, made)
        files.copy_file(made, output)


def calls(path: Path) -> list[str]:
    """Kind and name of the layers of a Keras 3 model, in the order of their calls.

    Raises:
        ModelError: Its graph cannot be seen.
    """
    return cast(list[str], _process.ask(path, {"do": "calls"}, _DESCRIBE_S))


def cut(path: Path, first: int, last: int, output: Path) -> None:
    """Write the layers of a Keras 3 model from ``first`` to ``last`` as a ``.keras`` file.

    Raises:
        ModelError: They are no model of their own.
    """
    with _process.exchange(path) as folder:
        made = folder / "part.keras"
        _process.ask(path, {"do": "cut", "output": str(made), "first": first, "last": last}, _CONVERT_S)
        files.copy_file(made, output)


def export_core_ml(path: Path, output: Path, options: Mapping[str, str]) -> tuple[Finding, ...]:
    """Convert a Keras file or a SavedModel with coremltools into a folder; ``core_ml_child`` has the options.

    Returns:
        What was changed on the way.

    Raises:
        ModelError: coremltools refuses the model or crashes.
        DependencyError: Its packages do not fit edgekit's environment.
    """
    request = {"do": "export_core_ml", "output": str(output.absolute()), "options": dict(options)}
    return _unrolled(_process.ask(path, request, _CONVERT_S))


def _unrolled(reply: Mapping[str, int]) -> tuple[Finding, ...]:
    if not reply["unrolled"]:
        return ()
    message = f"Recurrent layers were written out step by step: {reply['unrolled']}."
    return (Finding("EK132", message, level=Level.NOTE),)


def _check_onnx(path: Path, made: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(str(made), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        missing = "Erfc" in str(error) or "GELU" in str(error)
        raise ModelError(
            "EK125",
            f"tf2onnx made an invalid file from {path}"
            + (": ONNX has no operator for its exact GELU." if missing else "; ONNX Runtime refuses it."),
            "Use the tanh approximation: gelu(x, approximate=True)." if missing else "Use -f tflite.",
            detail=str(error),
        ) from error


def _describe(path: Path) -> _Description:
    status = path.stat()
    key = (path.absolute(), status.st_mtime_ns, status.st_size)
    if key not in _descriptions:
        reply = _process.ask(path, {"do": "describe"}, _DESCRIBE_S)
        inputs, outputs = (
            tuple(TensorSpec(name, tuple(shape), dtype) for name, shape, dtype in reply[side])
            for side in ("inputs", "outputs")
        )
        _descriptions[key] = _Description(inputs, outputs, tuple(reply["notes"]))
    return _descriptions[key]
