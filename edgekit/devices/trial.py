"""A runtime on a device, tried on a tiny model before anybody relies on it: does it run, and is the answer right?"""

import contextlib
import secrets
from typing import Any

import numpy as np

from edgekit import flatbuffer
from edgekit.devices import installed_runtimes, remote_files
from edgekit.devices.installed_runtimes import InstalledRuntime
from edgekit.devices.shell import Shell
from edgekit.errors import DeviceError, EdgekitError
from edgekit.worker_process import WorkerProcess

# Importing a runtime for the first time compiles its Python files, which takes a Raspberry Pi Zero a minute.
_OPEN_S = 300.0
_RUN_S = 30.0
_WEIGHTS = np.arange(12, dtype=np.float32).reshape(3, 4) / 8 - 0.5
_INPUT = np.array([[1, -2, 3, 4]], np.float32)
# Sums of four products of eighths are exact in float32; some kernels compute in float16.
_TOLERANCE = 1e-2
_SAID_CHARS = 300
# What says that the link is gone, and nothing about the runtime.
_LOST = ("EK800", "EK804", "EK805")


def try_out(shell: Shell, runtime: InstalledRuntime) -> dict[str, Any]:
    """Start a runtime's worker on the device and let it load and run a tiny model.

    Returns:
        The worker's reply to "open".

    Raises:
        DeviceError: The runtime does not start, refuses the model, crashes, hangs or computes wrong numbers; or the
            link is lost.
    """
    content, suffix = (_onnx(), "onnx") if runtime.name == "onnxruntime" else (tflite(), "tflite")
    path = f"{installed_runtimes.folder_of(shell)}/.trial-{secrets.token_hex(4)}.{suffix}"
    remote_files.write(shell, content, path)
    try:
        return _run(shell, runtime, path)
    except EdgekitError as error:
        if error.code in _LOST:
            raise
        raise _failed(shell, runtime, error.message, error.detail) from error
    finally:
        with contextlib.suppress(DeviceError):
            shell.run("rm", "-f", path, check=False)


def _run(shell: Shell, runtime: InstalledRuntime, path: str) -> dict[str, Any]:
    place = f"on {shell.device.name}"
    with WorkerProcess(
        "a tiny model", installed_runtimes.start_worker(shell, runtime), place=place
    ) as worker:
        options: dict[str, Any] = {
            "model": path,
            "runtime": runtime.name,
            "threads": 1,
            "xnnpack": True,
            "seed": 0,
        }
        opened = worker.ask("open", deadline_s=_OPEN_S, delegate=None, **options)
        shapes = [list(_INPUT.shape)]
        _, answer = worker.exchange(
            "predict", deadline_s=_RUN_S, blob=_INPUT.tobytes(), feeds=1, shapes=shapes
        )
        worker.close()
    expected = _INPUT @ _WEIGHTS.T
    found = np.frombuffer(answer, np.float32) if len(answer) == expected.nbytes else np.zeros(0)
    if found.shape != (expected.size,) or not np.allclose(found, expected.ravel(), atol=_TOLERANCE):
        said = f"it answers {found.tolist()} where {expected.ravel().tolist()} is right"
        raise _failed(shell, runtime, said, "")
    return opened


def _failed(shell: Shell, runtime: InstalledRuntime, reason: str, said: str) -> DeviceError:
    last = said.strip().splitlines()[-1][-_SAID_CHARS:] if said.strip() else ""
    return DeviceError(
        "EK837",
        f"{runtime.name} {runtime.version} does not work on {shell.device.name}: {reason.rstrip('.')}"
        f"{f' ({last})' if last else ''}.",
        "What was set up before is untouched. Try another --runtime; -v shows all that it printed.",
        detail=said,
    )


def tflite(outputs: int = 3) -> bytes:
    """A model of one fully connected layer without a bias, from four numbers to so many."""
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
    graph.tensors = [tensor("x", [1, 4], 0), tensor("w", [outputs, 4], 1), tensor("y", [1, outputs], 0)]
    graph.inputs, graph.outputs, graph.operators = [0], [2], [layer]
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = [schema.BufferT(), schema.BufferT()]
    model.buffers[1].data = np.frombuffer(np.resize(_WEIGHTS, (outputs, 4)).tobytes(), np.uint8)
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
