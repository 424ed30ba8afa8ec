"""TensorFlow's own TFLiteConverter, for Keras models and SavedModels. It runs in a child process."""

from typing import TYPE_CHECKING, Literal

from edgekit import tensorflow_process
from edgekit.artifact import Format
from edgekit.engines import Job
from edgekit.recipe import Recipe

if TYPE_CHECKING:
    from edgekit.findings import Finding

SOURCE_FORMATS = frozenset({Format.KERAS, Format.SAVED_MODEL})
OUTPUT_FORMAT = Format.TFLITE

_Optimization = Literal["none", "float16", "dynamic", "int8", "int16x8"]

_OPTIMIZATIONS: dict[str, _Optimization] = {
    "float16": "float16",
    "dynamic_wi8_afp32": "dynamic",
    "static_wi8_ai8": "int8",
    "static_wi8_ai16": "int16x8",
}


def refuses(recipe: Recipe) -> str:
    """Why the converter cannot follow the recipe."""
    if recipe.rules:
        return "TFLiteConverter has one precision for the whole model"
    if recipe.is_per_tensor:
        return "TFLiteConverter gives each channel of the weights a scale"
    if recipe.default.name not in _OPTIMIZATIONS:
        return f"TFLiteConverter has no {recipe.default.name}"
    return ""


def quantize(job: Job) -> "list[Finding]":
    """Convert and quantize in one go."""
    options = tensorflow_process.TFLiteExport(
        batch=job.batch,
        optimize=_OPTIMIZATIONS[job.recipe.default.name],
        calibration=job.calibration or None,
    )
    return list(tensorflow_process.export_tflite(job.source.path, job.output, options))
