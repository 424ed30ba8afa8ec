"""Writes a framework's model as a Core ML package, in the child that runs the framework.

coremltools reads a model out of the framework's memory, so it has to be there; its own packages lie in a toolchain,
behind those of edgekit's environment.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class CoreMLError(Exception):
    """coremltools refuses the model; the text has its reason."""


def write(
    model: Any, output: Path, options: Mapping[str, str], names: Mapping[str, str], **further: Any
) -> None:
    """Convert a model that coremltools knows, and save it as a folder.

    Args:
        model: A concrete function of TensorFlow in a list, or an exported program of PyTorch.
        output: The folder to make; its name ends with ``.mlpackage``.
        options: ``packages``, the folder of coremltools, and ``minimum_deployment_target`` and ``compute_precision``
            as coremltools names them: ``"iOS15"`` and ``"float16"``.
        names: What outputs are to be called, by what coremltools calls them: ``{"Identity": "classes"}``.
        further: More arguments for coremltools; ``outputs`` are names.

    Raises:
        CoreMLError: It refuses the model.
        ImportError: Its packages do not fit this environment.
    """
    if options["packages"] not in sys.path:
        sys.path.append(options["packages"])
    import coremltools

    if "outputs" in further:
        further["outputs"] = [coremltools.TensorType(name) for name in further["outputs"]]
    try:
        made = coremltools.convert(
            model,
            convert_to="mlprogram",
            minimum_deployment_target=coremltools.target[options["minimum_deployment_target"]],
            compute_precision=coremltools.precision(options["compute_precision"]),
            skip_model_load=True,
            **further,
        )
        _renamed(coremltools, made, names).save(str(output))
    except Exception as error:  # its kinds are many, assertions among them
        line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        raise CoreMLError(line or type(error).__name__) from error


def _renamed(coremltools: Any, made: Any, names: Mapping[str, str]) -> Any:
    spec = made.get_spec()
    [function] = spec.mlProgram.functions.values()
    [block] = function.block_specializations.values()
    taken = {value.name for operation in block.operations for value in operation.outputs}
    taken.update(value.name for value in function.inputs)
    for old, new in names.items():
        if new in taken and new != old:
            raise CoreMLError(f"a value inside of it is called {new}, as an output is")
        coremltools.utils.rename_feature(spec, old, new, rename_inputs=False)
    return coremltools.models.MLModel(spec, weights_dir=made.weights_dir, skip_model_load=True)
