"""Inputs and outputs as people read them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgekit.artifact import TensorSpec


def shapes(specs: "Sequence[TensorSpec]") -> str:
    """Types and shapes on one line: ``"float32 [1, 32, 32, 3], int32 [?, 2]"``."""
    texts = (f"{spec.dtype} {[size if size is not None else '?' for size in spec.shape]}" for spec in specs)
    return ", ".join(texts).replace("'", "")
