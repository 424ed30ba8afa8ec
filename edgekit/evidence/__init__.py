"""What calibration data are judged by: what one pass over them saw, and what the model makes of some of them."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekit.artifact import Artifact, TensorSpec
from edgekit.contract import lineage_contract
from edgekit.data import Dataset
from edgekit.data.fit import check_shape
from edgekit.errors import DataError, DependencyError, ModelError
from edgekit.evidence.behaviour import Behaviour, Subject, run
from edgekit.evidence.labels import Better, best_by_labels
from edgekit.evidence.readings import Picture, range_readings
from edgekit.evidence.seen import Seen, main_input, see, takes_reals
from edgekit.preprocessing import Preprocessing

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What checks judge by.

    ``samples`` is what one pass over the data saw, ``against`` the same of evaluation data and ``reference`` of
    samples that are known to be right, both None where they were not given. ``behaviour`` is what the model made of
    some of the samples, None for the reason that ``unseen`` gives. ``contract`` is what the model's lineage says of its
    inputs.
    """

    artifact: Artifact
    samples: Seen
    against: Seen | None = None
    reference: Seen | None = None
    behaviour: Behaviour | None = None
    contract: Preprocessing | None = None
    unseen: str = ""

    @cached_property
    def by_labels(self) -> Better | None:
        """Which reading of the samples their labels speak for; None where they cannot tell."""
        return best_by_labels(self.samples.labels, self.behaviour)

    @property
    def count_run(self) -> int:
        """How many samples went through the model."""
        return 0 if self.behaviour is None else len(self.behaviour.extremes)


def gather(
    artifact: Artifact,
    data: Dataset,
    *,
    against: Dataset | None = None,
    reference: Dataset | None = None,
    samples: int = 256,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evidence:
    """Read every sample once, and run some of them.

    Args:
        artifact: The model that the samples are for.
        data: The samples, not bound to the model, so that broken ones get this far.
        against: Evaluation data.
        reference: Samples that are known to be prepared rightly.
        samples: At most so many go through the model.
        seed: Chooses them.
        progress: Called with the numbers of samples done and of all.

    Raises:
        ModelError: The model fails.
        DataError: Data cannot be read, or have another shape than the model takes.
    """
    given = {"data": data, "against": against, "reference": reference}
    seen = {
        name: see(dataset, artifact.inputs, progress=progress if name == "data" else None)
        for name, dataset in given.items()
        if dataset is not None
    }
    _check_shapes(seen, artifact.inputs)
    # At random and in their order, without those that hold NaN.
    whole = np.flatnonzero(seen["data"].finite)
    rows = np.sort(np.random.default_rng(seed).permutation(whole)[:samples])
    found = _behaviour(artifact, data, seen["data"], rows, progress)
    behaviour, unseen = (None, found) if isinstance(found, str) else (found, "")
    others = seen.get("against"), seen.get("reference")
    return Evidence(artifact, seen["data"], *others, behaviour, lineage_contract(artifact), unseen)


def _check_shapes(seen: dict[str, Seen], inputs: tuple[TensorSpec, ...]) -> None:
    """Refuse what cannot be judged: other shapes than the model's, but for pictures whose axes are in another order."""
    picture = Picture.of(inputs)
    for name, one in seen.items():
        for spec in inputs:
            shape = one.shapes[spec.name]
            is_turned = (
                picture is not None and picture.name == spec.name and sorted(shape) == sorted(picture.shape)
            )
            if name != "data" or not is_turned:
                check_shape(shape, spec)


def _behaviour(
    artifact: Artifact, dataset: Dataset, seen: Seen, rows: NDArray[np.intp], progress: Progress | None
) -> Behaviour | str:
    """What the model makes of the samples; or why that cannot be seen."""
    if not len(rows):
        return "all samples hold NaN or infinity."
    try:
        for spec in artifact.inputs:
            check_shape(seen.shapes[spec.name], spec)
    except DataError:
        return "the samples do not fit the model."
    main = main_input(artifact.inputs)
    picture = Picture.of(artifact.inputs)
    readings = [
        *(range_readings(*seen.ends(main.name)) if takes_reals(main) else ()),
        *(picture.readings() if picture is not None and picture.name == main.name else ()),
    ]
    with tempfile.TemporaryDirectory(prefix="edgekit-") as temporary:
        try:
            subject = Subject(artifact, Path(temporary))
        except (ModelError, DependencyError) as error:
            return f"the model's inner tensors cannot be seen: {error.message}"
        return run(subject, dataset, rows, readings, progress=progress)
