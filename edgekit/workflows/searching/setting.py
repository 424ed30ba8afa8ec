"""What both searches do alike before the first trial: open what was given, keep data apart, start the workers."""

import contextlib
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from edgekit import files
from edgekit.artifact import Artifact
from edgekit.catalog import load
from edgekit.contract import under_contract
from edgekit.data import Dataset, open_dataset
from edgekit.errors import OutputError, UsageError
from edgekit.findings import Finding
from edgekit.formats import open_artifact
from edgekit.workflows.searching.evaluator import Evaluator, Runner
from edgekit.workflows.searching.local_runner import LocalRunner
from edgekit.workflows.searching.material import Asked, Material, identified
from edgekit.workflows.searching.ray_runner import RayRunner
from edgekit.workflows.searching.store import Store
from edgekit.workflows.searching.tried import Tried

Report = Callable[[Tried], None]


@dataclass(frozen=True)
class Setting:
    """How trials are run, apart from what is tried.

    ``workers`` None is one, or with ``ray``, the address of a cluster, as many as that takes. ``report`` is told of
    every trial as it is done.
    """

    folder: Path
    workers: int | None = None
    ray: str | None = None
    time_budget_s: float | None = None
    report: Report = field(default=lambda _tried: None)

    @contextlib.contextmanager
    def evaluator(
        self, asked: Asked, *, measures_latency: bool, uses_tensorflow: bool
    ) -> Iterator[tuple[Evaluator, Material]]:
        """Workers that are ready for trials of what was asked.

        Raises:
            OutputError: Another process searches in the same folder, or it cannot be made.
        """
        suffix = f".{asked.output_format.value}"
        store = Store(self.folder, suffix)
        store.prepare()
        until = math.inf if self.time_budget_s is None else time.monotonic() + self.time_budget_s
        with _alone(self.folder), tempfile.TemporaryDirectory(prefix="edgekit-") as name:
            material = Material.prepare(asked, Path(name))
            with self._runner(material, uses_tensorflow=uses_tensorflow) as runner:
                evaluator = Evaluator(
                    runner, store, asked.identity, until, self.report, measures_latency=measures_latency
                )
                yield evaluator, material

    @contextlib.contextmanager
    def _runner(self, material: Material, *, uses_tensorflow: bool) -> Iterator[Runner]:
        if self.ray is not None:
            with RayRunner(self.ray, material, most=self.workers, with_original=uses_tensorflow) as cluster:
                yield cluster
            return
        with LocalRunner(material.folder, self.workers or 1) as processes:
            yield processes


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    try:
        with files.locked_folder(folder, wait=False):
            yield
    except BlockingIOError as error:
        raise OutputError(
            "EK572", f"Another search is writing to {folder}.", "Wait for it, or name another place."
        ) from error


def opened(
    model: str | Path, *, calibration: str | Path | Dataset | None, preprocess: str | None
) -> tuple[Artifact, Dataset | None]:
    """The model and the calibration data.

    Raises:
        EdgekitError: One of them cannot be read.
    """
    source = open_artifact(Path(model))
    return source, None if calibration is None else open_dataset(calibration, preprocess=preprocess)


def data_of(
    data: str | Path | Dataset, preprocess: str | None, source: Artifact
) -> tuple[Dataset, list[Finding]]:
    """Labelled samples, under the contract of the model's lineage where they have none of their own."""
    ready, findings = under_contract(open_dataset(data, preprocess=preprocess), source, preprocess)
    return ready, list(findings)


def check_metric(metric: str | None) -> None:
    """Refuse metrics that compare with the float model: they know no drop.

    Raises:
        UsageError: It is one of those.
    """
    if metric is not None and load("metrics", metric).NEEDS == "reference":
        raise UsageError(
            "EK571",
            f"The metric {metric} knows no drop.",
            "Choose one that needs labels, such as top1 or auc.",
        )


def overlaps(calibration: Dataset | None, *labelled: Dataset) -> list[Finding]:
    """What is wrong where samples that calibrate are those that judge."""
    if calibration is None or all(identified(calibration)[0] != identified(data)[0] for data in labelled):
        return []
    text = f"{calibration.spec} calibrates and judges: a drop on samples that set the ranges says too little."
    return [Finding("EK580", text, "Calibrate on other samples than those of --evaluate or --data.")]


def cores() -> int:
    """How many processes can work side by side here."""
    return len(os.sched_getaffinity(0))
