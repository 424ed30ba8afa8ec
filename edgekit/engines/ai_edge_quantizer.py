"""Google's AI Edge Quantizer, on float ``.tflite`` files; needs no TensorFlow.

Its own calibration keeps a moving average of each tensor's minimum and maximum, which shrinks ranges: on a
public depthwise-separable network the largest logits saturate, and that alone costs 10 points of accuracy. So
the true extremes are collected here, by its fast native calibrator, and passed in.
"""

import contextlib
import io
import warnings
from collections.abc import Iterator, MutableMapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit import flatbuffer
from edgekit.artifact import Format
from edgekit.engines import Job
from edgekit.errors import ModelError
from edgekit.findings import Finding, Level
from edgekit.operators import operators
from edgekit.recipe import PRECISIONS, Mode, Precision, Recipe
from edgekit.sampling import batch_size, in_batches
from edgekit.tensor import Array

if TYPE_CHECKING:
    from ai_edge_quantizer.recipe_manager import RecipeManager

SOURCE_FORMATS = frozenset({Format.TFLITE})
OUTPUT_FORMAT = Format.TFLITE

_ANY_LAYER = ".*"
_Ranges = dict[str, MutableMapping[str, Any]]


def refuses(recipe: Recipe) -> str:
    """Why it cannot follow the recipe: it can follow them all."""
    del recipe
    return ""


def quantize(job: Job) -> list[Finding]:
    """Quantize a float ``.tflite`` that has a signature.

    Raises:
        ModelError: The quantizer fails on this model.
    """
    # The quantizer takes every operator of an old file for an ADD: it reads the newer of two fields alone.
    content = flatbuffer.write(flatbuffer.read(job.source.path.read_bytes()))
    try:
        with _silence():
            job.output.write_bytes(_quantized(content, job))
    except OSError:
        raise
    except Exception as error:
        # Its errors are plain ValueError, IndexError, struct.error: none of them speaks to a user.
        hint = "Try another --engine or recipe, or keep the layer that -v names in float with --keep-float."
        if any(one.kind == "WHILE" for one in operators(job.source.path, Format.TFLITE)):
            hint = "It does not look into loops: fix at most 64 steps of the recurrent layers in the source model."
        raise ModelError(
            "EK310",
            f"ai-edge-quantizer cannot quantize {job.source.path.name} by {job.recipe.name}.",
            hint,
            detail=f"{type(error).__name__}: {error}",
        ) from error
    return _substitutions(content, job.recipe)


def _quantized(content: bytes, job: Job) -> bytes:
    from ai_edge_quantizer.calibrator import CalibrationMode
    from ai_edge_quantizer.quantizer import Quantizer

    recipe = _engine_recipe(job.recipe)
    if not job.recipe.needs_calibration:
        return bytes(Quantizer(content, recipe).quantize(enable_progress_report=False).quantized_model)
    if job.ranges:
        given = {
            name: {"min": np.array([low]), "max": np.array([high])}
            for name, (low, high) in job.ranges.items()
        }
        return bytes(Quantizer(content, recipe).quantize(given, enable_progress_report=False).quantized_model)
    calibration = list(in_batches(job.calibration, batch_size(job.source)))

    def calibrated_by(mode: CalibrationMode) -> bytes:
        ranges = _true_ranges(content, calibration, recipe, mode)
        quantized = Quantizer(content, recipe).quantize(ranges, enable_progress_report=False)
        return bytes(quantized.quantized_model)

    try:
        return calibrated_by(CalibrationMode.CALIBRATION_PROFILER_BASED)
    except (ValueError, RuntimeError):
        # The native calibrator misses tensors that a delegate fused away; this one keeps every tensor,
        # at ten times the time.
        return calibrated_by(CalibrationMode.CALIBRATION_PRESERVE_ALL_TENSORS)


def _true_ranges(
    content: bytes, calibration: list[dict[str, Array]], recipe: list[dict[str, Any]], mode: Any
) -> _Ranges:
    """The smallest and largest value of every tensor over all calibration samples."""
    from ai_edge_quantizer.calibrator import Calibrator
    from ai_edge_quantizer.recipe_manager import RecipeManager
    from ai_edge_quantizer.utils.qsv_utils import min_max_update

    manager = RecipeManager()
    manager.load_quantization_recipe(recipe)
    calibrator = Calibrator(content, num_threads=1, mode=mode, qsv_update_func=min_max_update)
    signature = next(iter(calibrator.get_signature_list()))
    calibrator.calibrate({signature: calibration}, manager)
    ranges: _Ranges = calibrator.get_model_qsvs()
    return ranges


def _engine_recipe(recipe: Recipe) -> list[dict[str, Any]]:
    """The recipe in ai-edge-quantizer's own words."""
    from ai_edge_quantizer.qtyping import TFLOperationName
    from ai_edge_quantizer.recipe_manager import RecipeManager

    manager = RecipeManager()
    anything = TFLOperationName.ALL_SUPPORTED
    known = {name.value: name for name in TFLOperationName}
    add = partial(_add, manager, is_per_tensor=recipe.is_per_tensor)
    add(_ANY_LAYER, anything, recipe.default)
    for index, rule in enumerate(recipe.rules):
        # Rules with an equal pattern would be merged into the place of the first: a comment keeps them apart.
        pattern = f"{rule.layers or _ANY_LAYER}(?#{index})"
        operators = [known[name.upper()] for name in rule.operators if name.upper() in known]
        for operator in operators or ([] if rule.operators else [anything]):
            add(pattern, operator, rule.precision)
    rules: list[dict[str, Any]] = manager.get_quantization_recipe()
    return rules


def _add(
    manager: "RecipeManager", pattern: str, operator: Any, precision: Precision, *, is_per_tensor: bool
) -> None:
    from ai_edge_quantizer.algorithm_manager import AlgorithmName
    from ai_edge_quantizer.qtyping import QuantGranularity, TFLOperationName

    granularity = QuantGranularity.TENSORWISE if is_per_tensor else QuantGranularity.CHANNELWISE
    match precision.mode:
        case Mode.FLOAT32:
            manager.add_quantization_config(pattern, operator, algorithm_key=AlgorithmName.NO_QUANTIZE)
        case Mode.FLOAT16:
            manager.add_weight_only_config(pattern, operator, 16, algorithm_key=AlgorithmName.FLOAT_CASTING)
        case Mode.WEIGHT_ONLY:
            manager.add_weight_only_config(pattern, operator, precision.weight_bits, granularity)
        case Mode.DYNAMIC:
            manager.add_dynamic_config(pattern, operator, precision.weight_bits, granularity)
        case Mode.STATIC:
            bits = precision.activation_bits, precision.weight_bits
            manager.add_static_config(pattern, operator, *bits, granularity)
    if operator == TFLOperationName.ALL_SUPPORTED and precision in _DEPTHWISE:
        depthwise = TFLOperationName.DEPTHWISE_CONV_2D
        instead = _DEPTHWISE[precision]
        _add(manager, f"{pattern}(?#depthwise)", depthwise, instead, is_per_tensor=is_per_tensor)


# XNNPACK has no hybrid depthwise kernel: a dynamic one runs outside it, three times slower than in float.
# No kernel at all takes 4-bit depthwise weights, and the quantizer would leave them in float without a word.
_DEPTHWISE = {
    PRECISIONS["dynamic_wi8_afp32"]: PRECISIONS["weight_only_wi8_afp32"],
    PRECISIONS["dynamic_wi4_afp32"]: PRECISIONS["weight_only_wi8_afp32"],
    PRECISIONS["weight_only_wi4_afp32"]: PRECISIONS["weight_only_wi8_afp32"],
    PRECISIONS["static_wi4_ai8"]: PRECISIONS["static_wi8_ai8"],
}


def _substitutions(content: bytes, recipe: Recipe) -> list[Finding]:
    """Say that depthwise convolutions got another precision, where there are any."""
    instead = _DEPTHWISE.get(recipe.default)
    if instead is None or not _has_depthwise(content):
        return []
    return [
        Finding(
            "EK311",
            f"Depthwise convolutions are {instead.name}: {recipe.default.name} has no fast kernel for them.",
            level=Level.NOTE,
        )
    ]


def _has_depthwise(content: bytes) -> bool:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAsModel(content, 0)
    codes = (model.OperatorCodes(index) for index in range(model.OperatorCodesLength()))
    return any(code.BuiltinCode() == schema.BuiltinOperator.DEPTHWISE_CONV_2D for code in codes)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep its progress bars and its warning about kept tensors off the terminal."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
