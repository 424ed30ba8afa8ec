"""Post-training quantizers behind one interface, one file each.

An engine file has ``SOURCE_FORMATS`` (what it reads), ``OUTPUT_FORMAT`` (what it writes), ``refuses(recipe)``
(why it cannot follow a recipe; empty where it can) and ``quantize(job)``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from edgekit.artifact import Artifact, Format
from edgekit.catalog import load
from edgekit.ranges import Range
from edgekit.recipe import Recipe
from edgekit.tensor import Array

if TYPE_CHECKING:
    from edgekit.findings import Finding


@dataclass(frozen=True)
class Job:
    """What an engine is asked to do.

    ``calibration`` maps each input's name to real values with the samples on the first axis:
    ``{"x": (256, 32, 32, 3)}``; empty where the recipe needs none. ``batch`` is the size of the batch axis
    in the file, None for a free one. ``ranges`` are those of float tensors by their names, where others than what
    was seen are wanted.
    """

    source: Artifact
    recipe: Recipe
    output: Path
    calibration: Mapping[str, Array] = field(default_factory=dict)
    batch: int | None = 1
    ranges: Mapping[str, Range] = field(default_factory=dict)


class Engine(Protocol):
    """The face of an engine's module."""

    SOURCE_FORMATS: frozenset[Format]
    OUTPUT_FORMAT: Format

    def refuses(self, recipe: Recipe) -> str:
        """Why the engine cannot follow the recipe; empty where it can."""

    def quantize(self, job: Job) -> "list[Finding]":
        """Write ``job.output``; returns what was noticed on the way.

        Raises:
            ModelError: The engine failed on this model.
        """


def engine(name: str) -> Engine:
    """An engine by its name: ``ai_edge_quantizer``, ``tensorflow`` or ``onnxruntime``."""
    return cast(Engine, load("engines", name.replace("-", "_")))
