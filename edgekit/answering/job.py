"""What is done with every batch, the same in a worker and in edgekit's own process."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekit.artifact import Artifact
from edgekit.catalog import load
from edgekit.data import Batch
from edgekit.data.fit import Preparation
from edgekit.metrics import Answers, Rows
from edgekit.runtimes import Session, default_runtime, open_session
from edgekit.sample_digests import digest_samples
from edgekit.tensor import Array


@dataclass(frozen=True)
class Job:
    """Everything that a worker needs besides the samples. It is small, and travels to each.

    ``outputs`` says which of the reference's outputs stands for which of the model's.
    """

    model: Artifact
    preparation: Preparation
    metric: str
    runtime: str | None = None
    reference: Artifact | None = None
    reference_preparation: Preparation | None = None
    outputs: Mapping[str, str] | None = None
    keep_outputs: bool = False
    keep_digests: bool = False

    @property
    def runtimes(self) -> tuple[str, ...]:
        """The runtimes that it opens."""
        own = self.runtime or default_runtime(self.model.format)
        return (own,) if self.reference is None else (own, default_runtime(self.reference.format))


@dataclass(frozen=True)
class Result:
    """What came of a batch: the metric's rows and, where they are kept, outputs, digests and labels."""

    first: int
    rows: Rows
    outputs: Mapping[str, Array] | None = None
    digests: NDArray[np.str_] | None = None
    labels: Array | None = None

    @property
    def count(self) -> int:
        """Number of samples."""
        return len(self.rows)


class Answerer:
    """The opened sessions of a job; ``session`` takes the place of the model's own.

    Raises:
        ModelError: A runtime cannot load its model.
    """

    def __init__(self, job: Job, session: Session | None = None) -> None:
        self._job = job
        self._metric = load("metrics", job.metric)
        self._session = session or open_session(job.model, job.runtime)
        self._reference = open_session(job.reference) if job.reference else None

    def __call__(self, raw: Batch) -> Result:
        """Prepare a raw batch, run it, and measure it."""
        prepared = self._job.preparation(raw)
        outputs = self._session.run(prepared.inputs)
        answers = Answers(prepared.inputs, outputs, prepared.labels, raw.first, self._referred(raw))
        rows = self._metric.measure(answers)
        if not self._job.keep_outputs and not self._job.keep_digests:
            return Result(raw.first, rows)
        return Result(
            raw.first, rows, outputs if self._job.keep_outputs else None, digest_samples(raw), raw.labels
        )

    def close(self) -> None:
        """Free the runtimes."""
        self._session.close()
        if self._reference:
            self._reference.close()

    def _referred(self, raw: Batch) -> dict[str, Array] | None:
        """The reference's outputs under the model's names."""
        if self._reference is None or self._job.reference_preparation is None or self._job.outputs is None:
            return None
        found = self._reference.run(self._job.reference_preparation(raw).inputs)
        return {name: found[other] for name, other in self._job.outputs.items()}
