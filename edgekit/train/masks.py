"""Which weights of a kernel stay: single ones, N of M neighbours, or whole blocks, always those of large magnitude.

A mask has the kernel's shape, 1 where a weight stays and 0 where it is pruned.
"""

import re
from dataclasses import dataclass

import numpy as np

from edgekit.errors import UsageError
from edgekit.tensor import Array


@dataclass(frozen=True)
class NofM:
    """``NofM(2, 4)``: of 4 neighbours along the input channels at least 2 are zero, those of least magnitude."""

    n: int
    m: int

    def __str__(self) -> str:
        return f"{self.n}:{self.m}"


@dataclass(frozen=True)
class Block:
    """``Block(1, 16)``: weights of 1 output channel and 16 neighbouring input channels stay or go together."""

    outputs: int
    inputs: int

    def __str__(self) -> str:
        return f"block:{self.outputs}x{self.inputs}"


Pattern = NofM | Block


def parse_pattern(text: str) -> Pattern | None:
    """``"2:4"`` or ``"block:1x16"`` as a pattern, ``"unstructured"`` as None.

    Raises:
        UsageError: It is none of them.
    """
    if text == "unstructured":
        return None
    found = re.fullmatch(r"(\d{1,4}):(\d{1,4})", text)
    if found and 0 < int(found[1]) < int(found[2]):
        return NofM(int(found[1]), int(found[2]))
    found = re.fullmatch(r"block:(\d{1,4})x(\d{1,4})", text)
    if found and int(found[1]) and int(found[2]):
        return Block(int(found[1]), int(found[2]))
    raise UsageError(
        "EK750",
        f"{text!r} is no pattern of pruning.",
        "Give unstructured, zeros:group such as 2:4, or block:1x16 for outputs x inputs.",
    )


def fits(pattern: Pattern | None, shape: tuple[int, ...], axes: tuple[int, int] | None) -> bool:
    """Whether a kernel can have this pattern; ``axes`` are its output and its input axis, None for none."""
    if pattern is None:
        return True
    if axes is None:
        return False
    return not isinstance(pattern, NofM) or shape[axes[1]] % pattern.m == 0


def mask_for(
    kernel: Array, sparsity: float, pattern: Pattern | None = None, axes: tuple[int, int] = (-1, -2)
) -> Array:
    """The mask of a kernel.

    Args:
        kernel: Its weights, ``(3, 3, 16, 32)``.
        sparsity: Share of weights that go, 0 to 1; N of M has its own, and takes none at 0.
        pattern: None for single weights.
        axes: Output and input axis of the kernel.

    Returns:
        float32 of the kernel's shape: 1 for what stays.
    """
    if sparsity <= 0:
        return np.ones(kernel.shape, np.float32)
    magnitude = np.abs(kernel).astype(np.float64)
    if pattern is None:
        return _largest(magnitude, sparsity)
    # Rows are output channels at one position, columns their input channels.
    moved = np.moveaxis(magnitude, axes, (-2, -1))
    mask = _n_of_m(moved, pattern) if isinstance(pattern, NofM) else _blocks(moved, sparsity, pattern)
    return np.moveaxis(mask, (-2, -1), axes).copy()


def _largest(magnitude: Array, sparsity: float) -> Array:
    gone = round(sparsity * magnitude.size)
    mask = np.ones(magnitude.size, np.float32)
    # Sorted, not compared with a threshold: equal magnitudes would go together. A stable order takes up the
    # same weights again after an interruption.
    mask[np.argsort(magnitude, axis=None, kind="stable")[:gone]] = 0
    return mask.reshape(magnitude.shape)


def _n_of_m(rows: Array, pattern: NofM) -> Array:
    groups = rows.reshape(*rows.shape[:-1], -1, pattern.m)
    order = np.argsort(groups, axis=-1, kind="stable")
    mask = np.ones(groups.shape, np.float32)
    np.put_along_axis(mask, order[..., : pattern.n], 0, axis=-1)
    return mask.reshape(rows.shape)


def _blocks(rows: Array, sparsity: float, pattern: Block) -> Array:
    """Blocks at the edge are smaller: each is judged by the mean of the weights that it has."""
    outputs, inputs = rows.shape[-2:]
    starts = np.arange(0, outputs, pattern.outputs), np.arange(0, inputs, pattern.inputs)
    sums = np.add.reduceat(np.add.reduceat(rows, starts[0], axis=-2), starts[1], axis=-1)
    heights = np.diff([*starts[0], outputs])
    widths = np.diff([*starts[1], inputs])
    kept = _largest(sums / np.outer(heights, widths), sparsity)
    return np.repeat(np.repeat(kept, heights, axis=-2), widths, axis=-1)
