"""PyTorch's exported programs: ``.pt2`` files, which hold a graph and its weights, and no code."""

from pathlib import Path

from edgekit import torch_process
from edgekit.artifact import TensorSpec


def read(path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """The inputs and outputs: inputs by the names of the module's arguments, outputs by number or key.

    Raises:
        ModelError: PyTorch cannot read it.
        DependencyError: PyTorch is not installed.
    """
    return torch_process.describe(path)
