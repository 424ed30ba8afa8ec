"""A runtime on a device, tried on a tiny model before anybody relies on it."""

import contextlib
import json
import secrets
import signal
import time
from typing import Any

import numpy as np

from edgekit import device_files, device_runtime, flatbuffer
from edgekit.channel import Ended
from edgekit.device_runtime import InstalledRuntime
from edgekit.errors import DeviceError
from edgekit.shell import RunningCommand, Shell

# Importing a runtime for the first time compiles its Python files, which takes a Raspberry Pi Zero a minute.
_OPEN_S = 300.0
_CLOSE_S = 30.0
_GRACE_S = 5.0
# A shell gives 128 more than the signal's number for a program that a signal ended.
_SIGNALLED = 128
_WEIGHTS = np.arange(12, dtype=np.float32).reshape(3, 4) / 8 - 0.5


def try_out(shell: Shell, runtime: InstalledRuntime) -> dict[str, Any]:
    """Start a runtime's worker on the device and let it load and run a tiny model; returns its reply.

    Raises:
        DeviceError: The runtime does not start, refuses the model, crashes or hangs; or the link is lost.
    """
    content, suffix = (_onnx(), "onnx") if runtime.name == "onnxruntime" else (tflite(), "tflite")
    path = f"{device_runtime.folder_of(shell)}/.trial-{secrets.token_hex(4)}.{suffix}"
    device_files.write(shell, content, path)
    try:
        running = device_runtime.start_worker(shell, runtime)
        try:
            return _ask(running, shell, runtime, path)
        except Ended as error:
            if running.status is None:
                raise shell.lost(running.error_text()) from error
            raise _failed(shell, runtime, _end(running.status), running) from error
        except TimeoutError as error:
            raise _failed(shell, runtime, f"it does not answer within {_OPEN_S:g} s", running) from error
        finally:
            running.close()
    finally:
        with contextlib.suppress(DeviceError):
            shell.run("rm", "-f", path, check=False)


def _ask(running: RunningCommand, shell: Shell, runtime: InstalledRuntime, path: str) -> dict[str, Any]:
    """Open the model, then close the worker."""
    options = {"model": path, "runtime": runtime.name, "threads": 1, "xnnpack": True, "seed": 0}
    reply = _exchange(running, "open", _OPEN_S, **options)
    if "error" in reply:
        message = str(reply["error"].get("message", "it does not say why"))
        raise _failed(shell, runtime, message.rstrip("."), running)
    _exchange(running, "close", _CLOSE_S)
    with contextlib.suppress(Ended):
        running.read_line(time.monotonic() + _CLOSE_S)
    return reply


def _exchange(running: RunningCommand, verb: str, deadline_s: float, **options: Any) -> dict[str, Any]:
    nonce, until = secrets.token_hex(8), time.monotonic() + deadline_s
    request = {"verb": verb, "nonce": nonce, "deadline_s": deadline_s + _GRACE_S, **options}
    running.write(json.dumps(request).encode() + b"\n", until)
    while True:
        line = running.read_line(until)
        # What is no reply to this request was printed by something else.
        with contextlib.suppress(ValueError):
            reply = json.loads(line)
            if isinstance(reply, dict) and reply.get("nonce") == nonce:
                return reply


def _end(status: int) -> str:
    """How a worker ended that should not have."""
    with contextlib.suppress(ValueError):
        return f"it crashes with {signal.Signals(status - _SIGNALLED).name}"
    return f"it ends with exit status {status}"


def _failed(shell: Shell, runtime: InstalledRuntime, reason: str, running: RunningCommand) -> DeviceError:
    said = running.error_text()
    last = said.strip().splitlines()[-1][-300:] if said.strip() else ""
    more = f" after it printed {last!r}" if last and reason.startswith("it ") else ""
    return DeviceError(
        "EK837",
        f"{runtime.name} {runtime.version} does not work on {shell.device.name}: {reason}{more}.",
        "What was set up before is untouched. Try another --runtime; -v shows all that it printed.",
        detail=said,
    )


def tflite() -> bytes:
    """A model of one fully connected layer, from four numbers to three."""
    from ai_edge_litert import schema_py_generated as schema

    def tensor(name: str, shape: list[int], buffer: int) -> Any:
        made = schema.TensorT()
        made.name, made.shape, made.buffer, made.type = (
            name.encode(),
            shape,
            buffer,
            schema.TensorType.FLOAT32,
        )
        return made

    layer, code, graph = schema.OperatorT(), schema.OperatorCodeT(), schema.SubGraphT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = 1
    layer.inputs, layer.outputs = [0, 1, -1], [2]
    layer.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    layer.builtinOptions = schema.FullyConnectedOptionsT()
    graph.tensors = [tensor("x", [1, 4], 0), tensor("w", [3, 4], 1), tensor("y", [1, 3], 0)]
    graph.inputs, graph.outputs, graph.operators = [0], [2], [layer]
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = [schema.BufferT(), schema.BufferT()]
    model.buffers[1].data = np.frombuffer(_WEIGHTS.tobytes(), np.uint8)
    return flatbuffer.write(model)


def _onnx() -> bytes:
    """The same model as ``.onnx``, in a version of the format that old runtimes read."""
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "trial",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(_WEIGHTS.T.copy(), "w")],
    )
    content: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8
    ).SerializeToString()
    return content
