"""Numbers inside JSON documents: an array's bytes, compressed, as text."""

import base64
import math
import zlib
from typing import Any

import numpy as np

from edgekit.tensor import Array

# A million samples of a thousand numbers each have none; whoever claims more does not mean well.
_MOST_BYTES = 1 << 30
_DTYPES = ("<f8", "<f4", "<i8", "|u1")


def pack(array: Array) -> dict[str, Any]:
    """An array as JSON can hold it: ``{"dtype": "<f8", "shape": [5000, 3], "zlib": "eJz..."}``."""
    plain = np.ascontiguousarray(array)
    return {
        "dtype": plain.dtype.str,
        "shape": list(plain.shape),
        "zlib": base64.b64encode(zlib.compress(plain.tobytes(), 9)).decode("ascii"),
    }


def unpack(document: Any) -> Array:
    """The inverse of ``pack``; it never makes more bytes than the shape says.

    Raises:
        ValueError: It is no packed array, is damaged, or claims more than 1 GiB.
    """
    try:
        dtype, shape, text = document["dtype"], document["shape"], document["zlib"]
        if dtype not in _DTYPES or not all(type(side) is int and side >= 0 for side in shape):
            raise ValueError("no packed array")
        size = np.dtype(dtype).itemsize * math.prod(shape)
        if size > _MOST_BYTES:
            raise ValueError("a packed array of more than 1 GiB")
        unpacker = zlib.decompressobj()
        content = unpacker.decompress(base64.b64decode(text, validate=True), size + 1)
    except (KeyError, TypeError, AttributeError, zlib.error) as error:
        raise ValueError("no packed array") from error
    if len(content) != size or not unpacker.eof:
        raise ValueError("a packed array of another size than it says")
    return np.frombuffer(content, dtype).reshape(shape)
