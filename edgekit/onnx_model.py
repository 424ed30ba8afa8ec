"""An ONNX model in memory: all of it read, weights made constant, the batch fixed, written as one file."""

from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.errors import ModelError

if TYPE_CHECKING:
    from onnx import ModelProto

# Before IR version 4 every initializer had to be a graph input as well.
_IR_WITH_CONSTANTS = 4


def load(path: Path) -> "ModelProto":
    """A model with the data that it keeps in other files.

    ``formats.open_artifact`` has checked where those lie.
    """
    import onnx

    return onnx.load(str(path))


def save(model: "ModelProto", path: Path, *, named: Path) -> None:
    """Write a file that needs no other.

    Raises:
        ModelError: The model, which messages call ``named``, is larger than one file can be.
    """
    import onnx

    try:
        onnx.save(model, str(path))
    except OSError:
        raise
    except Exception as error:
        # Protocol buffers end at 2 GiB; their EncodeError and the ValueError of onnx have no common ancestor.
        message = (
            f"{named} is larger than one ONNX file can be, which is 2 GiB, and this step needs it as one."
        )
        raise ModelError("EK118", message, "Take a smaller model, or one with narrower weights.") from error


def make_constant(model: "ModelProto") -> None:
    """Old files list weights among the inputs too, where they count as changeable and nothing is folded."""
    constants = {tensor.name for tensor in model.graph.initializer}
    changeable = [value for value in model.graph.input if value.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(changeable)
    model.ir_version = max(model.ir_version, _IR_WITH_CONSTANTS)


def bind_batch(model: "ModelProto", batch: int | None) -> None:
    """Give a free first dimension of every input and output the size of the batch; None leaves it free."""
    if batch is None:
        return
    constants = {tensor.name for tensor in model.graph.initializer}
    for value in [*model.graph.input, *model.graph.output]:
        dimensions = value.type.tensor_type.shape.dim
        if value.name not in constants and dimensions and not dimensions[0].dim_value:
            dimensions[0].dim_value = batch
    # Shapes further in were inferred for a free batch.
    del model.graph.value_info[:]
