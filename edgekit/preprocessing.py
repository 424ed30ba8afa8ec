"""The preprocessing contract: what is done to a raw sample before a model sees it.

One contract serves calibration, evaluation and the device; it is written to the artifact's lineage.
"""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import catalog
from edgekit.errors import DataError, DependencyError, UsageError
from edgekit.tensor import Array

_CHOICES = {
    "data_layout": ("nhwc", "nchw"),
    "layout": ("keep", "nhwc", "nchw"),
    "data_color": ("rgb", "bgr"),
    "color": ("keep", "rgb", "bgr", "gray"),
    "dtype": ("float32", "uint8", "int8", "int32", "int64"),
}
# ITU-R BT.601 luma, the weights of Pillow's conversion to "L".
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Preprocessing:
    """Steps in the order in which they are applied; the defaults leave a sample as it is.

    Raw images are (N, H, W, 3) or, without a channel axis, (N, H, W). ``data_layout`` and ``data_color``
    say how raw arrays are stored, ``layout`` and ``color`` what the model takes; ``layout = "nhwc"`` turns
    (N, 28, 28) into (N, 28, 28, 1). ``resize`` stretches the image, unless ``center_crop`` takes that part
    of its largest central box first: 0.875 is 224 pixels cut out of 256. Values become
    ``(raw * scale - mean) / std``, mean and std being one number or one per channel. ``labels`` are the
    class names in the order of the model's outputs.
    """

    name: str = ""
    data_layout: str = "nhwc"
    data_color: str = "rgb"
    color: str = "keep"
    resize: tuple[int, ...] = ()
    center_crop: float = 0.0
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    layout: str = "keep"
    dtype: str = "float32"
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for key, known in _CHOICES.items():
            if getattr(self, key) not in known:
                raise UsageError("EK218", f"{key} is {getattr(self, key)!r}.", f"Known: {', '.join(known)}.")
        if len(self.resize) not in {0, 2} or any(side < 1 for side in self.resize):
            raise UsageError(
                "EK218", f"resize is {list(self.resize)}.", "Give height and width: resize = [96, 96]."
            )
        if not 0 <= self.center_crop <= 1:
            raise UsageError(
                "EK218", f"center_crop is {self.center_crop}.", "Give a part of the image: 0.875."
            )
        numbers = (self.scale, *self.mean, *self.std)
        if not all(math.isfinite(number) for number in numbers) or 0 in (self.scale, *self.std):
            raise UsageError("EK218", "scale and std must be finite and not 0, and mean must be finite.")

    def describe(self) -> dict[str, Any]:
        """The contract as it stands in JSON documents; ``from_document`` reads it back."""
        document = {field.name: getattr(self, field.name) for field in fields(self)}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in document.items()}

    def apply(self, raw: Array) -> Array:
        """Preprocess a batch: (8, 480, 640, 3) uint8 to, say, (8, 3, 224, 224) float32.

        Raises:
            DataError: The batch has no such axes, or too many channels for ``mean``.
        """
        values = self._images(raw)
        if (self.scale, self.mean, self.std) != (1.0, (), ()):
            values = values.astype(np.float32, copy=False) * np.float32(self.scale)
            if self.mean:
                values -= self._per_channel(self.mean, values)
            if self.std:
                values /= self._per_channel(self.std, values)
        if self.layout == "nchw":
            values = np.moveaxis(values, -1, 1)
        return np.ascontiguousarray(values.astype(self.dtype, copy=False))

    def _images(self, raw: Array) -> Array:
        """The steps that need axes: (N, H, W[, C]) as stored to (N, H, W, C) as the model takes it."""
        wants_images = self.layout != "keep" or self.color != "keep" or bool(self.resize)
        if not wants_images and self.data_layout == "nhwc":
            return raw
        if raw.ndim not in {3, 4}:
            raise DataError(
                "EK215",
                f"The contract {self.name} is for images, but samples have shape {list(raw.shape[1:])}.",
                "Images have shape [H, W] or [H, W, C].",
            )
        if self.data_layout == "nchw" and raw.ndim == 4:
            raw = np.moveaxis(raw, 1, -1)
        values = self._colors(raw)
        if self.resize:
            values = _resize(values, self.resize, crop=self.center_crop)
        gains_axis = values.ndim == 3 and self.layout != "keep"
        return values[..., None] if gains_axis else values

    def _colors(self, raw: Array) -> Array:
        if self.color == "keep" or raw.ndim == 3:
            return raw
        if raw.shape[-1] == 1 and self.color == "gray":
            return raw
        if raw.shape[-1] != 3:
            raise DataError(
                "EK215",
                f"color = {self.color!r} needs three channels on the last axis, but samples have shape "
                f"{list(raw.shape[1:])}.",
                'Samples stored channels first need data_layout = "nchw" in the contract.',
            )
        rgb = raw if self.data_color == "rgb" else raw[..., ::-1]
        if self.color == "gray":
            gray = rgb.astype(np.float32) @ _LUMA
            return (np.rint(gray).astype(raw.dtype) if raw.dtype.kind in "ui" else gray)[..., None]
        return rgb if self.color == "rgb" else rgb[..., ::-1]

    def _per_channel(self, numbers: tuple[float, ...], values: Array) -> Array:
        if len(numbers) > 1 and values.shape[-1] != len(numbers):
            raise DataError(
                "EK215",
                f"mean or std has {len(numbers)} numbers, but samples have {values.shape[-1]} channels.",
                "Give one number, or one per channel.",
            )
        return np.asarray(numbers, np.float32)


def _resize(values: Array, size: tuple[int, ...], *, crop: float) -> Array:
    """Bilinear, with the antialiasing that Pillow applies when it makes images smaller."""
    height, width = size
    if values.shape[1:3] == (height, width):
        return values
    if values.dtype != np.uint8:
        raise DataError(
            "EK215", f"Only uint8 images can be resized, not {values.dtype}.", "Resize before saving them."
        )
    image_module = pillow()
    box = _center_box(values.shape[1:3], size, crop) if crop else None
    squeezed = values[..., 0] if values.shape[-1] == 1 and values.ndim == 4 else values
    method = image_module.Resampling.BILINEAR
    resized = np.stack(
        [np.asarray(image_module.fromarray(image).resize((width, height), method, box)) for image in squeezed]
    )
    return resized.reshape(len(values), height, width, *values.shape[3:])


def _center_box(
    shape: tuple[int, ...], size: tuple[int, ...], crop: float
) -> tuple[float, float, float, float]:
    """A box of the target's aspect ratio round the middle: left, upper, right, lower."""
    height, width = shape
    factor = crop * min(height / size[0], width / size[1])
    box_height, box_width = size[0] * factor, size[1] * factor
    left, upper = (width - box_width) / 2, (height - box_height) / 2
    return (left, upper, left + box_width, upper + box_height)


def pillow() -> Any:
    """Pillow's Image module.

    Raises:
        DependencyError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise DependencyError(
            "EK615", "Images need Pillow.", 'Install it: pip install "edgekit[images]"'
        ) from error
    return Image


def from_document(document: Mapping[str, Any], where: str) -> Preprocessing:
    """A contract from a TOML table or from a lineage.

    Raises:
        UsageError: A key is unknown (the nearest one is named), or a value does not fit.
    """
    known = {field.name: field for field in fields(Preprocessing)}
    values = {}
    for key, value in document.items():
        if key not in known:
            nearest = get_close_matches(key, known, n=1)
            hint = f"Did you mean {nearest[0]}? " if nearest else ""
            raise UsageError(
                "EK217", f"{where} has an unknown key {key!r}.", f"{hint}Known: {', '.join(known)}."
            )
        values[key] = _fitting(key, value, known[key].default, where)
    return Preprocessing(**values)


def _fitting(key: str, value: Any, default: Any, where: str) -> Any:
    """The value with the type of its field; one number may stand for a list of one."""
    wrong = UsageError("EK218", f"{where}: {key} = {value!r} does not fit.", f"The default is {default!r}.")
    if isinstance(default, str):
        if not isinstance(value, str):
            raise wrong
        return value
    if isinstance(value, bool):
        raise wrong
    if isinstance(default, float):
        if not isinstance(value, (int, float)):
            raise wrong
        return float(value)
    items = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    wanted = {"labels": str, "resize": int}.get(key, (int, float))
    if not all(isinstance(item, wanted) and not isinstance(item, bool) for item in items):
        raise wrong
    return items


def read_spec(path: Path) -> tuple[str | None, Preprocessing]:
    """A file of ``calibration/``: where the samples are (None when it says nothing) and the contract.

    Besides the contract's keys it may hold ``schema = 1``, ``data`` (a path, relative to the file),
    ``description`` and ``source``.

    Raises:
        UsageError: It is no TOML, its schema is not 1, or a key or value does not fit.
    """
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError("EK216", f"{path} is no valid TOML: {error}.") from error
    if document.pop("schema", None) != 1:
        raise UsageError("EK216", f"{path} does not begin with schema = 1.", "This edgekit reads schema 1.")
    for text in ("description", "source"):
        document.pop(text, None)
    data = document.pop("data", None)
    if data is not None and not isinstance(data, str):
        raise UsageError("EK218", f"{path}: data = {data!r} is no path.")
    document.setdefault("name", path.stem)
    return data, from_document(document, str(path))


def load_preprocessing(name: str) -> Preprocessing:
    """The contract of a TOML file, by path or by its name in ``calibration/``."""
    return read_spec(catalog.data_file("calibration", name))[1]
