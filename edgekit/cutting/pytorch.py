"""A part of an exported program of PyTorch: some nodes of its graph."""

from pathlib import Path

from edgekit import torch_process

SUFFIX = ".pt2"


def operators(path: Path) -> list[str]:
    """See ``Cutter.operators``."""
    return torch_process.calls(path)


def cut(path: Path, first: int, last: int, output: Path) -> None:
    """See ``Cutter.cut``."""
    torch_process.cut(path, first, last, output)
