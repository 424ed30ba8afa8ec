"""Compiles a model with RKNN-Toolkit2, by the Python of its toolchain: ``MODEL PLATFORM LEVEL OUTPUT SAMPLES``.

LEVEL is that of its optimizations. What it made is run in its simulator on SAMPLES, an .npz file with ``input_0``,
``input_1``, ... in the order of the model, one row for each run, and the outputs are written beside them as
``outputs.npz``. The last line of standard output is JSON: the rules of optimization that had to be left out, and why
the simulator did not run, where it did not.
"""

import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

_MOST_RULES = 12


def main() -> None:
    """Read, compile, write, run; print what is to be known as JSON."""
    model, platform, level, output, samples = sys.argv[1:]
    _stand_in_for_torch()
    off: list[str] = []
    toolkit = _built(model, platform, int(level), off)
    _done("export_rknn", toolkit.export_rknn(output))
    try:
        simulator = _run(toolkit, Path(model).suffix, Path(samples))
    except Exception as error:  # noqa: BLE001 - whatever fails there, the file is written
        simulator = str(error).strip().splitlines()[-1] if str(error).strip() else repr(error)
    print()
    print(json.dumps({"rules_off": off, "simulator": simulator}), flush=True)


def _stand_in_for_torch() -> None:
    """PyTorch, 5 GB with its libraries, is not installed: the toolkit imports it for quantizers of its own.

    What else asks for it fails: a few rules of optimization do.
    """
    torch, layers = ModuleType("torch"), ModuleType("torch.nn")
    standing: dict[str, Any] = {"nn": layers, "no_grad": lambda: lambda function: function}
    vars(torch).update(standing)
    vars(layers)["Module"] = object
    sys.modules.update({"torch": torch, "torch.nn": layers})


def _built(model: str, platform: str, level: int, off: list[str]) -> Any:
    """The toolkit with the model built. Rules that fail are added to ``off``, as its log advises, and left out."""
    from rknn.api import RKNN

    log = Path(model).with_name("toolkit.log")
    while True:
        log.unlink(missing_ok=True)
        toolkit = RKNN(verbose=True, verbose_file=str(log))
        rules = {"disable_rules": off} if off else {}
        _done("config", toolkit.config(target_platform=platform, optimization_level=level, **rules))
        load = toolkit.load_onnx if model.endswith(".onnx") else toolkit.load_tflite
        _done(load.__name__, load(model=model))
        try:
            _done("build", toolkit.build(do_quantization=False))
            return toolkit
        except ValueError:
            found = re.findall(r"disable_rules=\['(\w+)'\]", log.read_text(errors="replace"))
            if not found or found[-1] in off or len(off) == _MOST_RULES:
                raise
            off.append(found[-1])
            toolkit.release()


def _done(step: str, code: int) -> None:
    if code:
        sys.exit(f"{step} ended with {code}")


def _run(toolkit: Any, suffix: str, samples: Path) -> str:
    with np.load(samples, allow_pickle=False) as stored:
        inputs = [stored[f"input_{number}"] for number in range(len(stored.files))]
    _done("init_runtime", toolkit.init_runtime())
    # Said of every input, it counts for those of four axes.
    layout = ["nchw" if suffix == ".onnx" else "nhwc"] * len(inputs)
    rows = []
    for row in zip(*inputs, strict=True):
        found = toolkit.inference(inputs=list(row), data_format=layout)
        if found is None:
            return "it gave no outputs"
        rows.append(found)
    columns = {f"output_{number}": np.stack(column) for number, column in enumerate(zip(*rows, strict=True))}
    np.savez(samples.with_name("outputs.npz"), **columns)  # type: ignore[arg-type]
    return ""


if __name__ == "__main__":
    main()
