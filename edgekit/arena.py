"""How much memory a model's inner tensors need while it runs, from when each is made and last read."""

import math
from collections.abc import Sequence

import numpy as np

from edgekit.operators import Operand, Operator

_PACKED_BITS = {"int4": 4, "uint4": 4, "int2": 2, "bfloat16": 16}


def activation_bytes(operators: Sequence[Operator]) -> int | None:
    """The most bytes that inner tensors of the main graph take at once: what any plan of the memory needs at least.

    While an operator runs, its inputs, its outputs and all that a later one reads are there. Runtimes add room for
    alignment and for what kernels note down, and some write an output over an input. None where a shape is not known.
    """
    main = [operator for operator in operators if operator.graph == 0]
    written = {_key(o) for operator in main for o in operator.outputs}
    lives: dict[tuple[int, str], tuple[int, int, int]] = {}
    for position, operator in enumerate(main):
        for operand in (*operator.inputs, *operator.outputs):
            if operand.is_constant:
                continue
            size = _bytes(operand)
            if size is None:
                return None
            # What no operator writes is an input of the model, and there from the start.
            first, _last, _size = lives.get(
                _key(operand), (position if _key(operand) in written else 0, 0, 0)
            )
            lives[_key(operand)] = first, position, size
    read = {_key(o) for operator in main for o in operator.inputs}
    last = len(main) - 1
    # What no operator reads is an output of the model, and there until the end.
    kept = [(first, end if key in read else last, size) for key, (first, end, size) in lives.items()]
    totals = (sum(size for first, end, size in kept if first <= step <= end) for step in range(len(main)))
    return max(totals, default=0)


def _key(operand: Operand) -> tuple[int, str]:
    return operand.index, operand.name


def _bytes(operand: Operand) -> int | None:
    if operand.dtype == "unknown" or None in operand.shape:
        return None
    count = math.prod(size for size in operand.shape if size is not None)
    if operand.dtype in _PACKED_BITS:
        return math.ceil(count * _PACKED_BITS[operand.dtype] / 8)
    try:
        return count * np.dtype(operand.dtype).itemsize
    except TypeError:
        # Texts and handles of resources.
        return None
