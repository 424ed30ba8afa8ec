"""Operators of ``.tflite`` and ``.onnx`` files that only move values about: rounding before or after is the same."""

# What comes out of these lies on the grid of the one tensor that went in, value by value.
KEEPING_GRID = frozenset({
    "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "SLICE", "STRIDED_SLICE", "SPLIT", "PAD", "MAX_POOL_2D",
    "GATHER", "GATHER_ND", "MIRROR_PAD", "SPACE_TO_DEPTH", "UNPACK", "BROADCAST_TO", "RESIZE_NEAREST_NEIGHBOR",
    "REDUCE_MIN",
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Pad", "MaxPool", "Gather", "Identity",
})  # fmt: skip
# Not all of the others do: some read several tensors, which an engine may have to bring to one grid first
# (CONCATENATION, SELECT), and ONNX Runtime gives the results of some a grid of their own (Expand, Tile).
MOVING = KEEPING_GRID | {
    "SPLIT_V", "PADV2", "DEPTH_TO_SPACE", "CONCATENATION", "PACK", "TILE", "SELECT", "SELECT_V2",
    "DYNAMIC_UPDATE_SLICE", "MAXIMUM", "MINIMUM", "REDUCE_MAX",
    "Split", "GatherND", "DepthToSpace", "SpaceToDepth", "Expand", "Tile", "GlobalMaxPool",
}  # fmt: skip
