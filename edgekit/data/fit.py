"""Samples made fit for a model: decoded, preprocessed, checked against its inputs, cast."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from edgekit.artifact import TensorSpec
from edgekit.data.images import decode
from edgekit.data.sources import Batch
from edgekit.errors import DataError
from edgekit.preprocessing import Preprocessing
from edgekit.tensor import Array


@dataclass(frozen=True)
class Preparation:
    """What turns a raw batch into one that a model takes. It holds no data, so it travels to workers.

    Without ``inputs`` nothing is checked or cast.
    """

    preprocessing: Preprocessing | None = None
    inputs: tuple[TensorSpec, ...] = ()

    def __call__(self, raw: Batch) -> Batch:
        """Prepare one batch.

        Raises:
            DataError: A name is missing, a shape is wrong, or a value is NaN, infinite or out of range.
        """
        arrays = {name: self._values(array, raw.first) for name, array in raw.inputs.items()}
        if not self.inputs:
            return Batch(arrays, raw.labels, raw.first)
        names = match_names(self.inputs, arrays)
        fitted = {spec.name: _fit(arrays[names[spec.name]], spec, raw.first) for spec in self.inputs}
        return Batch(fitted, raw.labels, raw.first)

    def _values(self, array: Array, first: int) -> Array:
        if array.dtype.kind != "U":
            return self.preprocessing.apply(array) if self.preprocessing else array
        images = [self._image(image) for image in decode(array)]
        shapes = sorted({image.shape for image in images})
        if len(shapes) > 1:
            raise DataError(
                "EK206",
                f"Images differ in size from sample {first} on: {list(shapes[0])}, {list(shapes[1])}.",
                "Give a contract with resize = [height, width]: --preprocess SPEC.",
            )
        return np.stack(images)

    def _image(self, image: Array) -> Array:
        if self.preprocessing is None:
            return image
        return np.asarray(self.preprocessing.apply(image[None])[0])


def match_names(inputs: tuple[TensorSpec, ...], known: Iterable[str]) -> dict[str, str]:
    """Which array feeds which input: the one of its name, or the only array for the only input.

    Raises:
        DataError: An input has no array.
    """
    arrays = list(known)
    if len(inputs) == 1 and inputs[0].name not in arrays and "x" in arrays:
        return {inputs[0].name: "x"}
    missing = [spec.name for spec in inputs if spec.name not in arrays]
    if missing:
        example = (
            "x=..." if len(inputs) == 1 else f"**{{{', '.join(f'{spec.name!r}: ...' for spec in inputs)}}}"
        )
        raise DataError(
            "EK209",
            f"The data have no array for the model's input {missing[0]!r}; they have {', '.join(arrays)}.",
            f"Save one array per input: np.savez(path, {example}).",
        )
    return {spec.name: spec.name for spec in inputs}


def check_shape(shape: tuple[int, ...], spec: TensorSpec) -> None:
    """Compare the shape of one sample, (32, 32, 3), with an input, (1, 32, 32, 3); the batch axis is free.

    Raises:
        DataError: They differ. The hint says when another layout or a missing axis explains it.
    """
    wanted = spec.shape[1:]
    if _fits(shape, wanted):
        return
    shown = ", ".join("any" if side is None else str(side) for side in wanted)
    raise DataError(
        "EK206",
        f"Input {spec.name!r} takes samples of shape [{shown}], but the data's have shape {list(shape)}.",
        _shape_hint(shape, wanted),
    )


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(b is None or a == b for a, b in zip(shape, wanted, strict=True))


def _shape_hint(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> str:
    if len(shape) == 3 and _fits((shape[2], *shape[:2]), wanted):
        return 'The model takes channels first: give a contract with layout = "nchw" (--preprocess SPEC).'
    if len(shape) == 3 and _fits((*shape[1:], shape[0]), wanted):
        return (
            "The model takes channels last: give a contract with "
            'data_layout = "nchw" and layout = "nhwc" (--preprocess SPEC).'
        )
    if _fits((*shape, 1), wanted):
        return 'A channel axis is missing: save x[..., None], or give a contract with layout = "nhwc".'
    if _fits((1, *shape), wanted):
        return 'A channel axis is missing: save x[:, None], or give a contract with layout = "nchw".'
    if shape[:1] == (1,) and _fits(shape[1:], wanted):
        return "Each sample has a batch axis of its own: save x[:, 0]."
    if len(shape) == len(wanted) + 1 and _fits(shape[1:], wanted):
        return "A function yields sample by sample; a tf.data pipeline of batches does so with .unbatch()."
    if len(shape) == len(wanted) - 1 and _fits(shape, wanted[1:]):
        return "An axis is missing: perhaps the batch axis of a single sample; save x[None]."
    if len(shape) == len(wanted) == 3:
        return "Images of another size need a contract with resize = [height, width] (--preprocess SPEC)."
    return "Samples lie on the first axis of the array."


def _fit(array: Array, spec: TensorSpec, first: int) -> Array:
    check_shape(array.shape[1:], spec)
    if array.dtype.kind == "f":
        # The sum is finite when all values are: one pass without a temporary array.
        if not np.isfinite(array.sum()) and not np.isfinite(array).all():
            raise _not_finite(array, spec, first)
        array = array.astype(np.float32, copy=False)
    elif array.dtype.kind == "b":
        array = array.astype(np.uint8)
    if spec.quantization is not None:
        return array  # the runtime quantizes: small integers are cheaper to send than floats
    if spec.dtype.startswith("float"):
        return array.astype(np.float32, copy=False)
    return _as_integers(array, spec, first)


def _as_integers(array: Array, spec: TensorSpec, first: int) -> Array:
    if spec.dtype == "bool":
        return array.astype(np.bool_)
    if not spec.dtype.startswith(("int", "uint")):
        raise DataError("EK212", f"Input {spec.name!r} takes {spec.dtype}, which edgekit cannot feed.")
    cast = array.astype(spec.dtype)
    if not np.array_equal(cast, array):
        sample = first + int(np.argmax((cast != array).reshape(len(array), -1).any(axis=1)))
        raise DataError(
            "EK212",
            f"Input {spec.name!r} takes {spec.dtype}, but sample {sample} holds values that are none.",
            "Save the array with the model's type.",
        )
    return cast


def _not_finite(array: Array, spec: TensorSpec, first: int) -> DataError:
    bad = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
    sample = int(np.argmax(bad))
    kind = "NaN" if np.isnan(array[sample]).any() else "infinite"
    return DataError(
        "EK207",
        f"Sample {first + sample} of {spec.name!r} holds {kind} values.",
        "Remove or repair such samples: one of them spoils calibration and every average.",
    )
