"""What every training command shares: from a job to files, with what was there before left alone until the end."""

import atexit
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from edgekit import files, training_process
from edgekit.artifact import Artifact, Lineage, lineage_path
from edgekit.errors import UsageError
from edgekit.findings import Finding, Level
from edgekit.formats import open_artifact
from edgekit.preprocessing import load_preprocessing
from edgekit.teacher_pass import Teacher, teach
from edgekit.train.augmentation import Augmentation
from edgekit.train.job import Epoch, Job
from edgekit.train.tf_config import Cluster, cluster_of
from edgekit.versions import installed_versions

Report = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Trained:
    """The result: the model that was written, its ``.tflite`` where one was asked for, and each epoch.

    ``artifact`` is None on a worker that is not the chief: the chief alone writes files. ``report`` is what the method
    says of its own work. ``watched`` names the number that tells the best epoch.
    """

    job: Job
    artifact: Artifact | None
    source: Artifact
    tflite: Artifact | None
    epochs: tuple[Epoch, ...]
    watched: str
    report: Mapping[str, Any]
    findings: tuple[Finding, ...]
    seconds: float

    def describe(self) -> dict[str, Any]:
        """The result as it stands in the JSON document."""
        return {
            "method": self.job.method,
            "artifact": self.artifact.describe() if self.artifact else None,
            "source": self.source.describe(),
            "tflite": self.tflite.describe() if self.tflite else None,
            "epochs": [
                {"epoch": epoch.epoch, "numbers": dict(epoch.numbers), "seconds": epoch.seconds}
                for epoch in self.epochs
            ],
            "watched": self.watched,
            "options": dict(self.job.options),
            "report": dict(self.report),
            "seconds": self.seconds,
        }


def job_for(
    method: str,
    model: str | Path,
    output: str | Path,
    *,
    train_data: str | Path,
    epochs: int,
    options: Mapping[str, Any],
    **training: Any,
) -> Job:
    """The job of a verb's arguments; paths of files become absolute.

    Raises:
        UsageError: There is no epoch, nothing that augmentation is, or no cluster for the strategy.
    """
    unknown = set(training) - {field.name for field in fields(Job)}
    if unknown:
        raise TypeError(f"a training has no {', '.join(sorted(unknown))}")
    if epochs < 1:
        raise UsageError("EK736", f"{epochs} epochs do not train anything.", "Give --epochs 1 or more.")
    paths: dict[str, str | None] = {
        name: str(Path(training[name]).absolute())
        for name in ("tflite", "csv", "tensorboard")
        if training.get(name) is not None
    }
    if training.get("augment"):
        Augmentation.parse(training["augment"])
    places = {"model": str(Path(model).absolute()), "output": str(Path(output).absolute())}
    cluster = cluster_of(training.get("strategy"))
    if cluster and not cluster.is_chief:
        paths = dict.fromkeys(("tflite", "csv", "tensorboard"))
        places["output"] = str(_own_folder() / Path(output).name)
    given = {**training, **paths, **places}
    return Job(method=method, train=str(train_data), epochs=epochs, options=options, **given)


def train(
    job: Job,
    *,
    teacher: Teacher | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: Report | None = None,
) -> Trained:
    """Do a job and read back what it wrote.

    Args:
        job: What to train.
        teacher: Whose answers are learnt beside the labels.
        overwrite: Replace outputs that exist.
        resume: Go on after the last epoch of a run of the same job that was interrupted; else begin anew.
        progress: Told about each epoch and, twice a second, about the step in it.

    Raises:
        UsageError: An output exists, or its name says another format.
        ModelError: The model cannot be trained.
        DataError: The data does not fit it.
    """
    outputs = check_outputs(job, overwrite=overwrite, resume=resume)
    source = open_artifact(job.model)
    if not resume:
        _forget(job.checkpoints)
    findings: list[Finding] = []
    if job.validation is None:
        message = "There is no validation data: nothing says when training goes too far."
        findings.append(Finding("EK734", message, "Give --validation DATA, which no epoch trains on."))
    if teacher is not None:
        job, notes = teach(job, source, teacher, progress)
        findings += notes
    result = _run(job, progress)
    findings += [Finding(**{**found, "level": Level(found["level"])}) for found in result["findings"]]
    cluster = cluster_of(job.strategy)
    writes = cluster is None or cluster.is_chief
    if cluster:
        findings.append(_part_of(cluster))
    for output in outputs if writes else ():
        _write_lineage(output, source, job)
    return Trained(
        job=job,
        artifact=open_artifact(outputs[0]) if writes else None,
        source=source,
        tflite=open_artifact(outputs[1]) if job.tflite else None,
        epochs=tuple(Epoch(**epoch) for epoch in result["epochs"]),
        watched=result["watched"],
        report=result["report"],
        findings=tuple(findings),
        seconds=result["seconds"],
    )


def check_outputs(job: Job, *, overwrite: bool, resume: bool) -> list[Path]:
    """Refuse what a job would write before any work is done; the model's path, and that of its ``.tflite``.

    Raises:
        UsageError: The output's name says another format.
        OutputError: A file exists, or cannot be written.
    """
    outputs = [Path(job.output), *([Path(job.tflite)] if job.tflite else [])]
    if outputs[0].suffix != ".keras":
        hint = "Trained models are written as .keras; --tflite FILE exports them too."
        raise UsageError("EK733", f"{job.output} does not end in .keras.", hint)
    for output in outputs:
        files.check_output(output, overwrite=overwrite)
    if job.csv:
        # Lines of the steps and epochs before are there already.
        files.check_output(Path(job.csv), overwrite=overwrite or resume or job.epochs_before > 0)
    if job.tensorboard and not Path(job.tensorboard).is_dir():
        files.check_output(Path(job.tensorboard), overwrite=False)
    return outputs


def _own_folder() -> Path:
    """A folder that goes with this process, for what a worker beside the chief makes on its way."""
    folder = tempfile.mkdtemp(prefix="edgekit-worker-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _part_of(cluster: Cluster) -> Finding:
    message = f"This was {cluster.name}, which trained on its part of every batch"
    if not cluster.is_chief:
        message += f"; the chief, {cluster.addresses[0]}, has the same weights and writes the files"
    return Finding("EK789", f"{message}.", level=Level.NOTE)


def _run(job: Job, progress: Report | None) -> dict[str, Any]:
    try:
        return training_process.train(job, progress)
    except KeyboardInterrupt:
        if progress and job.checkpoints.is_dir():
            text = "The last whole epoch is kept: run the same command with --resume to go on after it."
            progress({"event": "say", "text": text})
        raise


def _forget(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _write_lineage(output: Path, source: Artifact, job: Job) -> None:
    import json

    contract = load_preprocessing(job.preprocess) if job.preprocess else None
    lineage = Lineage(
        source_path=str(source.path),
        source_sha256=source.sha256,
        recipe=job.method,
        engine="keras",
        seed=job.seed,
        versions=installed_versions(),
        preprocessing=contract.describe() if contract else None,
        options=json.loads(job.to_json()),
    )
    files.write_bytes(lineage_path(output), json.dumps(lineage.describe(), indent=2).encode())
