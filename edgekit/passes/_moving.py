"""Operators of ``.tflite`` and ``.onnx`` files that only move values about: rounding before or after is the same."""

# What comes out of these lies on the grid of the one tensor that went in, value by value.
KEEPING_GRID = frozenset({
    "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "SLICE", "STRIDED_SLICE", "SPLIT", "PAD", "MAX_POOL_2D",
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Pad", "MaxPool", "Identity",
})  # fmt: skip
# Not all of the others do: some read several tensors, which an engine may have to bring to one grid first
# (CONCATENATION, SELECT), and ONNX Runtime gives the results of some a grid of their own (Expand, Tile).
MOVING = KEEPING_GRID | {
    "SPLIT_V", "GATHER", "GATHER_ND", "PADV2", "MIRROR_PAD", "SPACE_TO_DEPTH", "DEPTH_TO_SPACE", "CONCATENATION",
    "PACK", "UNPACK", "BROADCAST_TO", "TILE", "SELECT", "SELECT_V2", "DYNAMIC_UPDATE_SLICE",
    "RESIZE_NEAREST_NEIGHBOR", "MAXIMUM", "MINIMUM", "REDUCE_MAX", "REDUCE_MIN",
    "Split", "Gather", "GatherND", "DepthToSpace", "SpaceToDepth", "Expand", "Tile", "GlobalMaxPool",
}  # fmt: skip
