"""A trained model as a ``.tflite`` file whose scales are those that it was trained with."""

from pathlib import Path
from typing import Any, Literal

from edgekit import files
from edgekit.errors import EdgekitError, ModelError
from edgekit.findings import Finding

_HINT = "Train with 8 bits, or replace the layer: a hard-swish by a ReLU."


def export_qat(
    model: Any,
    output: str | Path,
    *,
    io: Literal["float32", "int8", "uint8"] = "int8",
    batch: int | None = 1,
    keep_names: bool = False,
) -> Any:
    """Write a model of ``apply_qat`` after training.

    While it is trained, a model computes with floats that are rounded. The file computes with integers, whose biases
    and sums are rounded too: the model that is returned does the same, so that its outputs are the file's. The model
    that was given is not changed, and can be trained on.

    Args:
        model: The trained model.
        output: The ``.tflite`` file to write; one that exists is replaced.
        io: Type of its inputs and outputs; integers are int16 where activations have 16 bits.
        batch: Size of the batch axis in the file, None for a free one.
        keep_names: Keep the names of inner tensors, which cost some bytes and are of no use to a runtime.

    Returns:
        The file's twin in Keras, not compiled: of float inputs it makes the outputs of the file in real numbers.

    Raises:
        OutputError: The file cannot be written.
        ModelError: Its activations have 16 bits, and TFLite has no kernel of 16 bits for one of its layers; or the
            converter changed a kernel so that its scales cannot be stored; or the model was never trained.
    """
    from edgekit.train.fake_quant import FakeQuantWeights
    from edgekit.train.rewriting import editing
    from edgekit.train.settle import settled

    twin = settled(model)
    layers = list(twin._flatten_layers())
    wide = any(getattr(layer, "bits", 8) == 16 for layer in layers)
    edit = editing([layer for layer in layers if isinstance(layer, FakeQuantWeights)], wide=wide)
    integer = "int16" if wide and io != "float32" else io
    options = {"batch": batch, "optimize": "trained", "io": integer, "wide": wide, "edit": edit}
    try:
        _export(twin, Path(output), options, keep_names)
    except Exception as error:
        if not wide or isinstance(error, EdgekitError):
            raise
        reason = next((line for line in str(error).splitlines() if "error:" in line), str(error))
        raise ModelError(
            "EK741", f"The converter makes no file of 16-bit activations: {reason[-200:]}", _HINT
        ) from error
    return twin


def export_float(model: Any, output: str | Path, *, batch: int | None = 1, keep_names: bool = False) -> None:
    """Write any Keras 3 model as a float ``.tflite`` file.

    Raises:
        OutputError: The file cannot be written.
    """
    _export(model, Path(output), {"batch": batch, "optimize": "none", "io": "float32"}, keep_names)


def export_sparse(
    model: Any, output: str | Path, *, batch: int | None = 1, keep_names: bool = False
) -> list[Finding]:
    """Write a pruned Keras 3 model as a float ``.tflite`` file that stores only the weights that are not zero.

    Where the result does not run in the default interpreter, or saves nothing, the file is dense and a finding
    says so.

    Raises:
        OutputError: The file cannot be written.
    """
    from edgekit.tensorflow_child.exporting import UnusableError

    output = Path(output)
    export_float(model, output, batch=batch, keep_names=keep_names)
    dense_bytes = output.stat().st_size
    sparse = output.with_name(f".{output.name}.sparse")
    try:
        _export(model, sparse, {"batch": batch, "optimize": "sparse", "io": "float32"}, keep_names)
        sparse_bytes = sparse.stat().st_size
        if sparse_bytes < dense_bytes:
            sparse.replace(output)
            return []
        reason = f"it has {sparse_bytes:,} bytes, and the dense one {dense_bytes:,}"
    except UnusableError as error:
        reason = f"the default interpreter refuses it: {str(error).strip().splitlines()[-1][:200]}"
    finally:
        sparse.unlink(missing_ok=True)
    message = f"{output.name} has dense tensors. A file with sparse ones is of no use: {reason}."
    return [Finding("EK756", message, "Compress the file where it is stored; zeros vanish there too.")]


def _export(model: Any, output: Path, options: dict[str, Any], keep_names: bool) -> None:
    from edgekit.passes.compact import compact
    from edgekit.passes.pointwise import pointwise
    from edgekit.tensorflow_child.exporting import export_tflite
    from edgekit.tensorflow_child.loading import from_keras

    with files.atomic_write(output) as partial:
        export_tflite(from_keras(model, "keras"), {**options, "unroll": True, "per_channel": True}, partial)
        partial.write_bytes(compact(pointwise(partial.read_bytes()), keep_names=keep_names))
