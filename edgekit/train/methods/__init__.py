"""The methods of compression by training, one file each; the file's name is what a ``Job`` calls it.

Each has ``prepare(model, context) -> Prepared``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekit.data import Dataset
    from edgekit.findings import Finding
    from edgekit.tensor import Array
    from edgekit.train.job import Job


@dataclass(frozen=True)
class Context:
    """What a method may use while it prepares: the job, its data, and a folder that outlives an interruption.

    ``loss`` is that of ``objective.Objective``.
    """

    job: "Job"
    train: "Dataset"
    validation: "Dataset | None"
    cache: Path
    say: Callable[[str], None]
    loss: Any = None


@dataclass
class Prepared:
    """What a method makes of a model.

    ``model`` is what is fitted; its weights are what a checkpoint keeps. ``callbacks`` are Keras's. ``targets`` are
    arrays with one row for each training sample which the loss sees beside its label: a teacher's outputs,
    ``{"teacher": (20000, 10)}``; ``views`` are the same for each further view of the samples. ``compile_with``
    replaces arguments of ``model.compile``. ``finish`` makes of the fitted model the one that is saved, ``report``
    the method's part of the JSON document. ``export`` is how the ``.tflite`` is made: ``"trained"`` for scales that
    were trained, ``"none"`` for a float file, ``"sparse"`` for one with sparse tensors. ``judged_from`` is the
    first epoch, counted from 1, that may be the best one: those before are of a model that is not yet as small as
    it shall be.
    """

    model: Any
    callbacks: Sequence[Any] = ()
    targets: Mapping[str, "Array"] = field(default_factory=dict)
    views: Sequence[Mapping[str, "Array"]] = ()
    compile_with: Mapping[str, Any] = field(default_factory=dict)
    finish: Callable[[Any], Any] = lambda model: model
    report: Callable[[Any], dict[str, Any]] = lambda _model: {}
    findings: list["Finding"] = field(default_factory=list)
    export: str = "none"
    judged_from: int = 1
