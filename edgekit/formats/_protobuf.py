"""As much of protocol buffers' wire format as tells an ONNX file from other files.

https://protobuf.dev/programming-guides/encoding: a message is a row of fields, each a tag (number and wire
type in one variable-length integer) and a value. The numbers are those of ``ModelProto`` in onnx.proto.
"""

from pathlib import Path
from typing import BinaryIO

_VARINT, _BYTES = 0, 2
_IR_VERSION, _GRAPH = 1, 7
_WIRE_TYPES = {
    1: _VARINT,  # ir_version
    2: _BYTES,  # producer_name
    3: _BYTES,  # producer_version
    4: _BYTES,  # domain
    5: _VARINT,  # model_version
    6: _BYTES,  # doc_string
    7: _BYTES,  # graph
    8: _BYTES,  # opset_import
    14: _BYTES,  # metadata_props
    20: _BYTES,  # training_info
    25: _BYTES,  # functions
    26: _BYTES,  # configuration
}
_MOST_FIELDS = 100_000
_LONGEST_NAME = 10_000


def is_onnx(path: Path) -> bool:
    """Whether the file's outermost fields are those of an ONNX model.

    A file that was cut off counts too, so that it is called damaged and not unknown: what is needed is an
    ``ir_version`` and, before anything impossible, the beginning of a graph.
    """
    size = path.stat().st_size
    seen_version = False
    with path.open("rb") as stream:
        for _field in range(_MOST_FIELDS):
            tag = _read_varint(stream)
            if tag is None or _WIRE_TYPES.get(tag >> 3) != tag & 7:
                return False
            value = _read_varint(stream)
            if value is None:
                return False
            number = tag >> 3
            if number == _GRAPH:
                # Writers other than Google's may put the version behind the graph.
                return seen_version or stream.tell() + value <= size
            seen_version |= number == _IR_VERSION and value < 1000
            if tag & 7 == _BYTES:
                # In a saved_model.pb field 2 is the whole graph, where ONNX has the producer's name.
                if number < 6 and value > _LONGEST_NAME:
                    return False
                stream.seek(value, 1)
    return False


def _read_varint(stream: BinaryIO) -> int | None:
    """A variable-length integer, None at the file's end or where it is longer than 64 bits."""
    value = 0
    for shift in range(0, 70, 7):
        byte = stream.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    return None
