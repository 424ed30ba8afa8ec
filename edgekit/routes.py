"""Which conversion leads from one format to another, and whose it is."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from edgekit.artifact import Format
from edgekit.errors import UsageError


@dataclass(frozen=True)
class Route:
    """A conversion: the program whose work it is, and the steps of ``pipeline`` that it takes."""

    converter: str
    steps: tuple[str, ...]


_TENSORFLOW = Route("tensorflow", ("export_tflite",))
_TF2ONNX = Route("tf2onnx", ("export_onnx",))

ROUTES = {
    (Format.KERAS, Format.TFLITE): _TENSORFLOW,
    (Format.SAVED_MODEL, Format.TFLITE): _TENSORFLOW,
    (Format.KERAS, Format.ONNX): _TF2ONNX,
    (Format.SAVED_MODEL, Format.ONNX): _TF2ONNX,
    (Format.PYTORCH, Format.TFLITE): Route("litert_torch", ("torch_to_tflite",)),
    (Format.PYTORCH, Format.ONNX): Route("torch_onnx", ("torch_to_onnx",)),
    (Format.ONNX, Format.TFLITE): Route("onnx2tf", ("onnx_to_tflite",)),
    # tf2onnx takes the batch size that the file has, and needs what is left out.
    (Format.TFLITE, Format.ONNX): Route("tf2onnx", ("fix_batch", "spell_out", "export_onnx")),
}


def way_to(source: Format, accepted: Collection[Format]) -> tuple[str, ...] | None:
    """The steps that bring a format to one of those accepted: none where it is one, None where nothing leads there.

    >>> way_to(Format.KERAS, [Format.TFLITE])
    ('export_tflite',)
    """
    if source in accepted:
        return ()
    # A .tflite first: what reads both does its best work there.
    for wanted in sorted(accepted, reverse=True):
        if (source, wanted) in ROUTES:
            return ROUTES[source, wanted].steps
    return None


def output_format(path: Path, name: str | None) -> Format:
    """The format to write: the one named, ``"onnx"``, or what the suffix of the file says.

    Raises:
        UsageError: Neither says it.
    """
    named = {"tflite": Format.TFLITE, "onnx": Format.ONNX}
    found = named.get(name or path.suffix.lstrip(".").lower())
    if found is None:
        raise UsageError(
            "EK906",
            f"{path.name} does not say which format to write.",
            "End its name with .tflite or .onnx, or add --format.",
        )
    return found
