"""Compiles a model with OpenVINO, by the Python of its toolchain: ``MODEL DEVICE OUTPUT SAMPLES``.

For the CPU it is run on SAMPLES, an .npz file with ``input_0``, ``input_1``, ... in the order of the model, one row for
each run, and the outputs are written beside them as ``outputs.npz``. What is written is OpenVINO's own format for the
CPU, and the program of any other device.
"""

import json
import sys
from pathlib import Path

import numpy as np
import openvino


def main() -> None:
    """Read, compile, write; print what is to be known as JSON."""
    model, device, output, samples = sys.argv[1:]
    core = openvino.Core()
    if device not in core.available_devices:
        print(json.dumps({"devices": core.available_devices}))
        return
    read = core.read_model(model)
    taken = core.query_model(read, device)
    operators = [
        {
            "kind": node.get_type_name(),
            "name": node.get_friendly_name(),
            "taken": node.get_friendly_name() in taken,
        }
        for node in read.get_ordered_ops()
    ]
    # Some processors would compute in bfloat16, and what is asked is whether the file holds the same model.
    precision = {"INFERENCE_PRECISION_HINT": "f32"} if device == "CPU" else {}
    compiled = core.compile_model(read, device, precision)
    if device == "CPU":
        openvino.save_model(read, output, compress_to_fp16=False)
        _run(compiled, Path(samples))
    else:
        Path(output).write_bytes(compiled.export_model())
    print(json.dumps({"devices": core.available_devices, "operators": operators}))


def _run(compiled: openvino.CompiledModel, samples: Path) -> None:
    with np.load(samples, allow_pickle=False) as stored:
        inputs = [stored[f"input_{number}"] for number in range(len(stored.files))]
    request = compiled.create_infer_request()
    rows = []
    for row in zip(*inputs, strict=True):
        found = request.infer(list(row))
        rows.append([np.array(found[port]) for port in compiled.outputs])
    columns = {f"output_{number}": np.stack(column) for number, column in enumerate(zip(*rows, strict=True))}
    np.savez(samples.with_name("outputs.npz"), **columns)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
