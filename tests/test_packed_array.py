import base64
import json
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from edgekit.packed_array import pack, unpack


@given(
    arrays(st.sampled_from(["<f8", "<f4", "<i8", "|u1"]), array_shapes(min_side=0, max_dims=3, max_side=6))
)
def test_arrays_come_back_as_they_were(array):
    found = unpack(json.loads(json.dumps(pack(array))))
    assert found.dtype == array.dtype
    assert found.tobytes() == array.tobytes()
    assert found.shape == array.shape


def test_a_bomb_is_not_unpacked():
    """A little text that would be 64 MiB of zeros: it stops at the size that it claims."""
    bomb = base64.b64encode(zlib.compress(bytes(64 << 20), 1)).decode()
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="another size"):
            unpack({"dtype": "|u1", "shape": [10], "zlib": bomb})
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    with pytest.raises(ValueError, match="more than 1 GiB"):
        unpack({"dtype": "<f8", "shape": [1 << 40], "zlib": bomb})


@pytest.mark.parametrize(
    "document",
    [
        None,
        {},
        {"dtype": "O", "shape": [1], "zlib": ""},
        {"dtype": "<f8", "shape": [-1], "zlib": ""},
        {"dtype": "<f8", "shape": [True], "zlib": ""},
        {"dtype": "<f8", "shape": 3, "zlib": ""},
        {"dtype": "<f8", "shape": [1], "zlib": "not base64!"},
        {"dtype": "<f8", "shape": [1], "zlib": base64.b64encode(b"not zlib").decode()},
        {"dtype": "<f8", "shape": [1], "zlib": base64.b64encode(zlib.compress(bytes(7))).decode()},
        {"dtype": "<f8", "shape": [1], "zlib": base64.b64encode(zlib.compress(bytes(8))[:-2]).decode()},
    ],
)
def test_what_is_no_packed_array_is_refused(document):
    with pytest.raises(ValueError, match=r"packed array|base64|padding|characters"):
        unpack(document)
