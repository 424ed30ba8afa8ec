"""A part of a Keras model: some calls of its layers, nested models opened up."""

from pathlib import Path

from edgekit import tensorflow_process

SUFFIX = ".keras"


def operators(path: Path) -> list[str]:
    """See ``Cutter.operators``."""
    return tensorflow_process.calls(path)


def cut(path: Path, first: int, last: int, output: Path) -> None:
    """See ``Cutter.cut``."""
    tensorflow_process.cut(path, first, last, output)
