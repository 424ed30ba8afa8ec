"""Does edgekit's median latency agree with a bare loop around the runtime? Wanted: within 3%.

    python benchmarks/latency_agreement.py [--pairs 8] [--rounds 20]

The bare loops know nothing of edgekit: for LiteRT a Python loop around ``invoke``, for ONNX Runtime a loop
around ``OrtRun`` of its C library, called through ctypes. A bare process and a worker of edgekit measure
in turn, many rounds, in shuffled order; and because two processes with the same code differ by some percent
through where their memory happens to lie, several fresh pairs are started. The ratio is the median over
pairs, with a bootstrap interval over pairs.

The models: about 0.1 ms and about 1 ms. Two ONNX models are made here; the LiteRT ones are taken from the
public models in EDGEKIT_ASSETS and left out, with a note, where that folder is missing.
"""

import argparse
import ctypes
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

LIMIT = 0.03
_BLOCK_S = 0.03
_SETTLE_S = 0.002


@dataclass(frozen=True)
class Case:
    """A model in a runtime."""

    name: str
    runtime: str
    model: Path
    xnnpack: bool = True


def cases(folder: Path) -> list[Case]:
    """The models to compare on."""
    assets = Path(os.environ.get("EDGEKIT_ASSETS", Path(__file__).parents[2] / "shared" / "assets"))
    kws = assets / "mlperf-tiny-kws" / "kws_ref_model_float32.tflite"
    vww = assets / "mlperf-tiny-vww" / "vww_96_float.tflite"
    found = [
        Case("ONNX Runtime, about 0.1 ms", "onnxruntime", _dense(folder / "small.onnx", width=512, layers=3)),
        Case("ONNX Runtime, about 1 ms", "onnxruntime", _dense(folder / "large.onnx", width=1024, layers=3)),
    ]
    if not kws.is_file():
        print(f"LiteRT is left out: {kws} is missing, set EDGEKIT_ASSETS.", file=sys.stderr)
        return found
    return [
        Case("LiteRT, about 0.1 ms", "litert", kws),
        Case("LiteRT without XNNPACK, about 1 ms", "litert", vww, xnnpack=False),
        *found,
    ]


def _dense(path: Path, *, width: int, layers: int) -> Path:
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    draws = np.random.default_rng(0)
    names = [f"t{i}" for i in range(layers + 1)]
    weights = [draws.normal(0, width**-0.5, (width, width)).astype(np.float32) for _ in range(layers)]
    graph = helper.make_graph(
        [helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]]) for i in range(layers)],
        "dense",
        [helper.make_tensor_value_info(names[0], TensorProto.FLOAT, [1, width])],
        [helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, [1, width])],
        [numpy_helper.from_array(weight, f"w{i}") for i, weight in enumerate(weights)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
    return path


def bare(runtime: str, model: str, xnnpack: bool) -> None:
    """The bare loop: reads numbers of runs, answers with the median in ns."""
    invoke = _bare_litert(model, xnnpack) if runtime == "litert" else _bare_onnxruntime(model)
    clock = time.perf_counter_ns
    for line in sys.stdin:
        settled = time.perf_counter() + _SETTLE_S
        while time.perf_counter() < settled:
            invoke()
        times = []
        for _ in range(int(line)):
            start = clock()
            invoke()
            times.append(clock() - start)
        print(json.dumps(statistics.median(times)), flush=True)


def _bare_litert(model: str, xnnpack: bool) -> Any:
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.AUTO if xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model, num_threads=1, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(
            detail["index"], np.random.default_rng(1).random(detail["shape"], detail["dtype"])
        )
    return interpreter.invoke


def _bare_onnxruntime(model: str) -> Any:
    """``OrtRun`` with one float input and one output; the numbers are places in the table ``OrtApi``."""
    import numpy as np
    import onnxruntime

    library = next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*"))
    native = ctypes.CDLL(str(library))
    native.OrtGetApiBase.restype = ctypes.POINTER(ctypes.c_void_p)
    get_api = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint32)(native.OrtGetApiBase()[0])
    table = ctypes.cast(get_api(16), ctypes.POINTER(ctypes.c_void_p))

    def call(place: int, *arguments: Any) -> None:
        function = ctypes.CFUNCTYPE(ctypes.c_void_p, *[type(a) for a in arguments])(table[place])
        if function(*arguments):
            raise RuntimeError(f"function {place} of the C library failed")

    def made(place: int, *arguments: Any) -> ctypes.c_void_p:
        handle = ctypes.c_void_p()
        slot = ctypes.cast(ctypes.pointer(handle), ctypes.c_void_p)
        call(place, *arguments, slot)
        return handle

    session_inputs = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    first, last = session_inputs.get_inputs()[0], session_inputs.get_outputs()[0]
    environment = made(3, ctypes.c_int(3), ctypes.c_char_p(b"bare"))
    options = made(10)
    call(24, options, ctypes.c_int(1))
    session = made(7, environment, ctypes.c_char_p(model.encode()), options)
    memory = made(69, ctypes.c_int(1), ctypes.c_int(0))
    values = np.random.default_rng(1).random(first.shape, np.float32)
    shape = (ctypes.c_int64 * values.ndim)(*values.shape)
    size, rank = ctypes.c_size_t(values.nbytes), ctypes.c_size_t(values.ndim)
    pointer = ctypes.c_void_p(values.ctypes.data)
    given = made(49, memory, pointer, size, ctypes.cast(shape, ctypes.c_void_p), rank, ctypes.c_int(1))
    result = np.empty(last.shape, np.float32)
    out_shape = (ctypes.c_int64 * result.ndim)(*result.shape)
    size, rank = ctypes.c_size_t(result.nbytes), ctypes.c_size_t(result.ndim)
    pointer = ctypes.c_void_p(result.ctypes.data)
    taken = made(49, memory, pointer, size, ctypes.cast(out_shape, ctypes.c_void_p), rank, ctypes.c_int(1))
    names_in, names_out = (
        (ctypes.c_char_p * 1)(first.name.encode()),
        (ctypes.c_char_p * 1)(last.name.encode()),
    )
    inputs, outputs = (ctypes.c_void_p * 1)(given.value), (ctypes.c_void_p * 1)(taken.value)
    arguments = (session, None, names_in, inputs, 1, names_out, 1, outputs)
    pointer_type, size_type = ctypes.c_void_p, ctypes.c_size_t
    types = [pointer_type] * 4 + [size_type, pointer_type, size_type, pointer_type]
    run = ctypes.CFUNCTYPE(ctypes.c_void_p, *types)(table[9])

    def invoke() -> None:
        if run(*arguments):
            raise RuntimeError("OrtRun failed")

    invoke()
    expected = session_inputs.run(None, {first.name: values})[0]
    if not np.allclose(result, expected, atol=1e-4):
        raise RuntimeError("the C library and the Python interface disagree")
    del session_inputs  # one model in memory, as on the other side
    # What the arguments point to must live as long as they do.
    invoke.keep = (environment, options, values, shape, result, out_shape)  # type: ignore[attr-defined]
    return invoke


def compare(case: Case, pairs: int, rounds: int) -> list[float]:
    """The ratio of edgekit's median to the bare one, for each pair of processes."""
    from edgekit.formats import open_artifact
    from edgekit.interleaved import BenchmarkOptions, Runner, Subject
    from edgekit.worker_process import WorkerProcess

    options = BenchmarkOptions(xnnpack=case.xnnpack)
    command = [sys.executable, __file__, "--bare", case.runtime, str(case.model), str(int(case.xnnpack))]
    order = random.Random(0)  # noqa: S311 - nothing secret
    ratios = []
    for _ in range(pairs):
        with (
            WorkerProcess(case.name) as process,
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as loop,
        ):
            runner = Runner(Subject(open_artifact(case.model), case.runtime), options, process, None)
            runs = max(5, int(_BLOCK_S * 1e9 / runner.typical_ns))
            _ask(loop, runs)  # its own warm-up
            found = []
            for _ in range(rounds):
                if order.random() < 0.5:
                    runner.block(runs, 60.0)
                    found.append(_ask(loop, runs))
                else:
                    found.append(_ask(loop, runs))
                    runner.block(runs, 60.0)
            process.close()
            loop.communicate()
        medians = runner.latency().block_medians
        ratios.append(statistics.median(mine / bare_ns for mine, bare_ns in zip(medians, found, strict=True)))
        print(
            f"  pair {len(ratios)}: {statistics.median(found) / 1e6:.4f} ms bare, ratio {ratios[-1]:.4f}",
            flush=True,
        )
    return ratios


def _ask(loop: "subprocess.Popen[str]", runs: int) -> float:
    requests, answers = cast(IO[str], loop.stdin), cast(IO[str], loop.stdout)
    requests.write(f"{runs}\n")
    requests.flush()
    return float(answers.readline())


def main() -> int:
    """Print the ratios; the exit status is 1 where one is outside the limit."""
    if sys.argv[1:2] == ["--bare"]:
        bare(sys.argv[2], sys.argv[3], sys.argv[4] == "1")
        return 0
    import numpy as np

    from edgekit.statistics import bootstrap_interval

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=20)
    chosen = parser.parse_args()
    outside = 0
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(Path(folder)):
            print(case.name)
            ratios = np.array(compare(case, chosen.pairs, chosen.rounds))
            low, high = bootstrap_interval(ratios, np.median)
            ratio = float(np.median(ratios))
            verdict = "within 3%" if abs(ratio - 1) <= LIMIT else "OUTSIDE 3%"
            outside += abs(ratio - 1) > LIMIT
            print(f"  edgekit / bare: {ratio:.4f} (95%: {low:.4f} to {high:.4f}), {verdict}")
    return int(outside > 0)


if __name__ == "__main__":
    sys.exit(main())
