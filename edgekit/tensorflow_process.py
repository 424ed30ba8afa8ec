"""TensorFlow, which lives in one child process per run of edgekit.

Importing it takes seconds and its converter can crash, so edgekit's own process never loads it. The child
is started on first use, reused, and ends with its parent however that dies.
"""

import atexit
import contextlib
import importlib.util
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal, cast

import numpy as np

from edgekit import files
from edgekit.artifact import TensorSpec
from edgekit.errors import DependencyError, EdgekitError, ModelError
from edgekit.findings import Finding, Level
from edgekit.tensor import Array
from edgekit.tensorflow_errors import INSTALL, translate

# -P keeps a keras.py in the user's folder from being imported in place of Keras.
_PYTHON = [sys.executable, "-P", "-m"]
_DOING = {"describe": "read", "predict": "run", "export_tflite": "converted", "export_onnx": "converted"}
_HDF5_S = 60.0
_DESCRIBE_S = 300.0
_CONVERT_S = 3600.0
_LOG_BYTES = 8000


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


class _Child:
    """The running process: its pipes, its log and the folder through which arrays travel."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="edgekit-tensorflow-"))
        self._log = self.folder / "log.txt"
        with self._log.open("wb") as log:
            # A session of its own keeps ctrl-C for the parent, which then ends the child.
            self._process = subprocess.Popen(
                [*_PYTHON, "edgekit.tensorflow_child", str(self.folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment(),
                start_new_session=True,
            )
        self._requests = cast(IO[bytes], self._process.stdin)
        self._replies = cast(IO[bytes], self._process.stdout)

    def ask(self, path: Path, request: Mapping[str, Any], deadline_s: float) -> Any:
        """One request and its reply.

        Raises:
            ModelError: The child refused the model, crashed on it, or took longer than the deadline.
            DependencyError: A package is missing.
        """
        with contextlib.suppress(BrokenPipeError):
            self._requests.write(json.dumps(request).encode() + b"\n")
            self._requests.flush()
        line = self._read_line(time.monotonic() + deadline_s)
        if line is None:
            raise ModelError(
                "EK124",
                f"TensorFlow did not finish with {path} within {deadline_s:.0f} seconds.",
                "Set EDGEKIT_TENSORFLOW_DEADLINE_S to a longer time, or use fewer calibration samples.",
                detail=self._tail(),
            )
        if not line:
            raise self._crashed(path)
        reply = json.loads(line)
        if "error" in reply:
            detail = f"{reply['trace']}\n{self._tail()}"
            raise translate(path, reply["error"], reply["message"], detail, doing=_DOING[request["do"]])
        return reply["result"]

    def _read_line(self, deadline: float) -> bytes | None:
        """A line of the child's output; empty when it is gone, None when the deadline has passed."""
        content = b""
        while not content.endswith(b"\n"):
            ready, _, _ = select.select([self._replies], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return None
            chunk = os.read(self._replies.fileno(), 1 << 16)
            if not chunk:
                return b""
            content += chunk
        return content

    def _crashed(self, path: Path) -> EdgekitError:
        code = self._process.wait()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return ModelError(
            "EK123",
            f"TensorFlow crashed on {path} ({how}).",
            "Try another engine or recipe; run with -v for TensorFlow's own words.",
            detail=self._tail(),
        )

    def _tail(self) -> str:
        with self._log.open("rb") as log:
            log.seek(max(0, self._log.stat().st_size - _LOG_BYTES))
            return log.read().decode(errors="replace")

    def end(self) -> None:
        """Kill the process and remove what it used."""
        self._process.kill()
        self._process.wait()
        self.abandon()
        shutil.rmtree(self.folder, ignore_errors=True)

    def abandon(self) -> None:
        """Close this side of the pipes. In a forked process the child goes on serving the parent."""
        with contextlib.suppress(BrokenPipeError):
            self._requests.close()
        self._replies.close()
        self._process.returncode = self._process.returncode or 0


_lock = threading.RLock()
_child: _Child | None = None
_descriptions: dict[tuple[Path, int, int], _Description] = {}


def start() -> None:
    """Begin to import TensorFlow in the background; does nothing where it is not installed."""
    if _installed("tensorflow"):
        _started()


def _started() -> _Child:
    global _child  # noqa: PLW0603 - one child per process is the point
    with _lock:
        if _child is None:
            _child = _Child()
        return _child


def stop() -> None:
    """End the child process; the next request starts another."""
    global _child
    with _lock:
        if _child is not None:
            child, _child = _child, None
            child.end()


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
    if not _installed("h5py"):
        raise DependencyError("EK610", f"{path} needs TensorFlow and h5py, which are not installed.", INSTALL)
    command = [*_PYTHON, "edgekit.tensorflow_child.hdf5", str(path.absolute())]
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
    with _exchange(path) as folder:
        given, wanted = folder / "inputs.npz", folder / "outputs.npz"
        np.savez(given, allow_pickle=False, **inputs)
        _ask(path, {"do": "predict", "inputs": str(given), "outputs": str(wanted)}, _CONVERT_S)
        with np.load(wanted, allow_pickle=False) as arrays:
            return dict(arrays)


def export_tflite(path: Path, output: Path, options: TFLiteExport) -> tuple[Finding, ...]:
    """Convert a Keras file or a SavedModel with TensorFlow's converter; the result has run once on zeros.

    Returns:
        What was changed on the way.

    Raises:
        ModelError: The converter refuses the model or crashes, or its result does not run.
    """
    with _exchange(path) as folder:
        document = asdict(options) | {"calibration": None}
        if options.calibration:
            document["calibration"] = str(folder / "calibration.npz")
            np.savez(document["calibration"], allow_pickle=False, **options.calibration)
        made = folder / "model.tflite"
        reply = _ask(path, {"do": "export_tflite", "output": str(made), "options": document}, _CONVERT_S)
        files.copy_file(made, output)
    if not reply["unrolled"]:
        return ()
    message = f"Recurrent layers were written out step by step: {reply['unrolled']}."
    return (Finding("EK132", message, level=Level.NOTE),)


def export_onnx(path: Path, output: Path, *, batch: int | None = 1) -> None:
    """Convert a Keras file, a SavedModel or a .tflite file with tf2onnx to opset 17.

    Raises:
        ModelError: tf2onnx refuses the model, or ONNX Runtime refuses what it made.
    """
    with _exchange(path) as folder:
        made = folder / "model.onnx"
        tflite = path.is_file() and path.read_bytes()[4:8] == b"TFL3"
        request = {"do": "export_onnx", "output": str(made), "batch": batch, "tflite": tflite}
        _ask(path, request, _CONVERT_S)
        _check_onnx(path, made)
        files.copy_file(made, output)


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
        reply = _ask(path, {"do": "describe"}, _DESCRIBE_S)
        inputs, outputs = (
            tuple(TensorSpec(name, tuple(shape), dtype) for name, shape, dtype in reply[side])
            for side in ("inputs", "outputs")
        )
        _descriptions[key] = _Description(inputs, outputs, tuple(reply["notes"]))
    return _descriptions[key]


def _ask(path: Path, request: Mapping[str, Any], deadline_s: float) -> Any:
    longer = os.environ.get("EDGEKIT_TENSORFLOW_DEADLINE_S")
    with _lock:
        require(path)
        child = _started()
        try:
            return child.ask(path, {**request, "path": str(path.absolute())}, float(longer or deadline_s))
        except BaseException as error:
            # After a refusal the child can go on. After anything else, ctrl-C included, it may be anywhere.
            if not isinstance(error, EdgekitError) or error.code in ("EK123", "EK124"):
                stop()
            raise


def environment() -> dict[str, str]:
    """The environment of a child process that runs TensorFlow."""
    root = str(Path(__file__).parent.parent)
    # Where this is set, `keras` would be Keras 2.
    kept = {key: value for key, value in os.environ.items() if key != "TF_USE_LEGACY_KERAS"}
    return kept | {
        "TF_CPP_MIN_LOG_LEVEL": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "KERAS_BACKEND": "tensorflow",
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
        "PYTHONWARNINGS": "ignore",
    }


@contextlib.contextmanager
def _exchange(path: Path) -> Iterator[Path]:
    """A folder for the arrays of one request, inside of the child's: it goes when the child does."""
    require(path)
    with tempfile.TemporaryDirectory(dir=_started().folder, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def require(path: Path) -> None:
    """Refuse to go on where TensorFlow is not installed.

    Raises:
        DependencyError: It is not.
    """
    if not _installed("tensorflow"):
        raise DependencyError("EK610", f"{path} needs TensorFlow, which is not installed.", INSTALL)


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:
        return False


def _forget() -> None:
    """In a forked process: the child belongs to the parent, and must see its pipe closed when that dies."""
    global _child, _lock
    if _child is not None:
        _child.abandon()
    _child, _lock = None, threading.RLock()


atexit.register(stop)
os.register_at_fork(after_in_child=_forget)
