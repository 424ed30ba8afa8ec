"""Cuts a part out of a model's graph: one file per format, with the functions of ``Cutter``."""

from pathlib import Path
from typing import Protocol, cast

from edgekit.artifact import Format
from edgekit.catalog import load, names


class Cutter(Protocol):
    """What a module of this package has. ``SUFFIX`` is that of its files, ``".onnx"``."""

    SUFFIX: str

    def operators(self, path: Path) -> list[str]:
        """Kind and name of what the graph computes, in an order in which it can: ``["Conv first", "Relu second"]``."""

    def cut(self, path: Path, first: int, last: int, output: Path) -> None:
        """Write a model with the operators from ``first`` to ``last``.

        Its inputs are the tensors that these read and others write, its outputs those that they write and others
        read.

        Raises:
            ModelError: What goes in or out there cannot be an input or output of a model.
        """


def cutter(model_format: Format) -> Cutter | None:
    """The cutter of a format, None where edgekit has none."""
    if model_format.value not in names("cutting"):
        return None
    return cast(Cutter, load("cutting", model_format.value))
