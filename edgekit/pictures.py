"""Small pictures of samples, for pages that show which of them a model gets wrong."""

import base64
import io

import numpy as np

from edgekit.preprocessing import pillow
from edgekit.tensor import Array

_MOST_PIXELS = 96
_FEWEST_PIXELS = 4
_LONGEST_SHAPE = 4  # 49 by 10 features of a sound are no picture


def data_url(sample: Array) -> str | None:
    """A PNG of at most 96 by 96 pixels as ``data:image/png;base64,...``, None where the sample is no picture.

    Args:
        sample: Shape (h, w), (h, w, 1), (h, w, 3), (1, h, w) or (3, h, w); uint8 as it is, other numbers scaled
            from their own lowest to their highest.

    Raises:
        DependencyError: Pillow is not installed.
    """
    pixels = _channels_last(sample)
    if pixels is None:
        return None
    image = pillow().fromarray(_as_bytes(pixels))
    image.thumbnail((_MOST_PIXELS, _MOST_PIXELS))
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _channels_last(sample: Array) -> Array | None:
    """Shape (h, w) or (h, w, 3), None for what is no picture."""
    if sample.ndim == 3 and sample.shape[2] not in {1, 3} and sample.shape[0] in {1, 3}:
        sample = np.moveaxis(sample, 0, 2)
    if sample.ndim == 3 and sample.shape[2] == 1:
        sample = sample[:, :, 0]
    is_colored = sample.ndim == 3 and sample.shape[2] == 3
    if not (sample.ndim == 2 or is_colored) or sample.dtype.kind not in "buif":
        return None
    short, long = sorted(sample.shape[:2])
    return sample if short >= _FEWEST_PIXELS and long <= _LONGEST_SHAPE * short else None


def _as_bytes(pixels: Array) -> Array:
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    values = np.nan_to_num(pixels.astype(np.float64))
    low, high = values.min(), values.max()
    scaled = np.full(values.shape, 128.0) if low == high else (values - low) * (255 / (high - low))
    return np.ascontiguousarray(scaled.round().astype(np.uint8))
