"""``debug``: which tensor differs first, between two versions of a model or between two runtimes."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekit import tensorflow_process
from edgekit.artifact import Artifact, Format, align
from edgekit.contract import under_contract
from edgekit.data import Dataset, open_dataset
from edgekit.debugging.comparison import Comparison, Opener, Side
from edgekit.debugging.graph import Graph
from edgekit.debugging.onnx import OnnxGraph
from edgekit.debugging.pairing import Pairing, pair
from edgekit.debugging.result import Debugging
from edgekit.debugging.tflite import TfliteGraph
from edgekit.debugging.verdict import judged
from edgekit.errors import ModelError, UsageError
from edgekit.findings import Finding, Level
from edgekit.formats import open_artifact
from edgekit.runtimes import check_runtime, open_session
from edgekit.tensor import Array
from edgekit.tensorflow_process import TFLiteExport

_GRAPHS: Mapping[Format, Callable[[Path], Graph]] = {Format.TFLITE: TfliteGraph, Format.ONNX: OnnxGraph}
# The same model in other kernels shows how much kernels may differ.
_OTHER_KERNELS = {Format.TFLITE: "litert_builtin", Format.ONNX: "onnxruntime_unoptimized"}


def debug(
    a: str | Path | Artifact,
    b: str | Path | Artifact | None,
    data: str | Path | Dataset,
    *,
    runtime_a: str | None = None,
    runtime_b: str | None = None,
    open_b: Opener | None = None,
    samples: int = 32,
    preprocess: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Debugging:
    """Compare two versions of a model tensor by tensor, or one model in two runtimes.

    Both are edited so that every inner tensor is an output, and run on the same samples. How the differences are
    judged stands in ``edgekit.debugging.verdict``.

    Args:
        a: The reference, mostly the float model; Keras models and SavedModels are converted to B's format first.
        b: The version that is judged, mostly a quantized one; None for A itself, in another runtime.
        data: A data spec (see ``open_dataset``), or a dataset; labels play no part.
        runtime_a: The name of a file in ``runtimes/``; that of the format when None.
        runtime_b: The same for B.
        open_b: What loads B instead of a runtime here, such as one on a device.
        samples: So many samples at most, evenly spread.
        preprocess: A preprocessing contract; "none" ignores the one of the model's lineage.
        progress: Called with the numbers of samples done and of all.

    Raises:
        ModelError: A model is unreadable, fails, or the two have no tensors in common.
        DataError: The samples do not fit the models.
        UsageError: There is no such runtime or contract, or both sides are the same.
    """
    subjects = _subjects(a, b, runtime_a, runtime_b, is_elsewhere=open_b is not None)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as temporary:
        folder = Path(temporary)
        one = subjects[0].side(folder / "reference", None)
        two = subjects[1].side(folder / "judged", open_b)
        pairing = _paired(one, two)
        dataset, findings = _dataset(data, subjects, samples=samples, preprocess=preprocess)
        repeat = _opener(_OTHER_KERNELS[one.artifact.format])
        comparison = Comparison(one, two, pairing, folder=folder, repeat=repeat)
        for done, _ in enumerate(comparison.run(_samples(dataset, one.artifact, two.artifact)), 1):
            if progress:
                progress(done, dataset.count)
    return Debugging(
        subjects[0].artifact,
        subjects[1].artifact,
        (subjects[0].runtime, subjects[1].runtime),
        dataset.count,
        judged(pairing, comparison.seen, comparison.alone, two.graph.hidden),
        pairing,
        (one.graph.hidden, two.graph.hidden),
        tuple(two.graph.outputs.values()),
        comparison.exposed,
        (*findings, *(finding for subject in subjects for finding in subject.findings())),
    )


def planned(
    a: str | Path | Artifact,
    b: str | Path | Artifact | None,
    data: str | Path | Dataset,
    *,
    runtime_a: str | None = None,
    runtime_b: str | None = None,
    samples: int = 32,
    preprocess: str | None = None,
) -> tuple[dict[str, Any], tuple[Finding, ...]]:
    """What ``debug`` would do with these options, without running or converting a model.

    Raises:
        EdgekitError: What ``debug`` would raise before that.
    """
    subjects = _subjects(a, b, runtime_a, runtime_b)
    tensors = None
    if not any(subject.is_converted for subject in subjects):
        tensors = len(_paired(*(subject.side(Path(), None) for subject in subjects)).pairs)
    dataset, findings = _dataset(data, subjects, samples=samples, preprocess=preprocess)
    plan = {
        "a": str(subjects[0].artifact.path),
        "b": str(subjects[1].artifact.path),
        "runtime_a": subjects[0].runtime,
        "runtime_b": subjects[1].runtime,
        "samples": dataset.count,
        "tensors": tensors,
    }
    return plan, (*findings, *(finding for subject in subjects for finding in subject.findings()))


@dataclass(frozen=True)
class _Subject:
    """A model, the format in which its tensors are shown, and the runtime that it will have."""

    artifact: Artifact
    shown_as: Format
    runtime: str

    @property
    def is_converted(self) -> bool:
        return self.artifact.format is not self.shown_as

    def side(self, output: Path, opener: Opener | None) -> Side:
        """The model with its graph; Keras models and SavedModels are converted into ``output`` first."""
        artifact = self.artifact
        if self.is_converted:
            if self.shown_as is Format.TFLITE:
                tensorflow_process.export_tflite(artifact.path, output, TFLiteExport())
            else:
                tensorflow_process.export_onnx(artifact.path, output)
            artifact = open_artifact(output)
        return Side(artifact, _GRAPHS[self.shown_as](artifact.path), opener or _opener(self.runtime))

    def findings(self) -> tuple[Finding, ...]:
        if not self.is_converted:
            return ()
        text = f"{self.artifact.path.name} is converted to {self.shown_as}, in float, to show its tensors."
        return (Finding("EK703", text, "", Level.NOTE),)


def _subjects(
    a: str | Path | Artifact,
    b: str | Path | Artifact | None,
    runtime_a: str | None,
    runtime_b: str | None,
    *,
    is_elsewhere: bool = False,
) -> tuple[_Subject, _Subject]:
    one = _opened(a)
    two = one if b is None else _opened(b)
    formats = [artifact.format for artifact in (one, two) if artifact.format in _GRAPHS]
    shown_as = formats[0] if formats else Format.TFLITE
    if len(set(formats)) > 1:
        raise _strangers(one, two, f"are of different formats: {formats[0]} and {formats[-1]}")
    runtimes = [
        check_runtime(replace(artifact, format=shown_as), runtime)
        for artifact, runtime in ((one, runtime_a), (two, runtime_b))
    ]
    if b is None and not is_elsewhere and runtimes[0] == runtimes[1]:
        hint = f"Name a second model, or another runtime: --runtime-b {_OTHER_KERNELS[shown_as]}."
        raise UsageError("EK700", f"{one.path.name} would be compared with itself in {runtimes[0]}.", hint)
    return _Subject(one, shown_as, runtimes[0]), _Subject(two, shown_as, runtimes[1])


def _opened(model: str | Path | Artifact) -> Artifact:
    return model if isinstance(model, Artifact) else open_artifact(Path(model))


def _opener(runtime: str) -> Opener:
    return lambda artifact: open_session(artifact, runtime)


def _dataset(
    data: str | Path | Dataset, subjects: tuple[_Subject, _Subject], *, samples: int, preprocess: str | None
) -> tuple[Dataset, tuple[Finding, ...]]:
    opened = open_dataset(data, preprocess=preprocess)
    dataset, findings = under_contract(opened, subjects[1].artifact, preprocess)
    for subject in subjects:
        dataset.bind(subject.artifact.inputs)
    return dataset.spread(min(samples, dataset.count)), findings


def _paired(a: Side, b: Side) -> Pairing:
    """Raises ModelError where the two have nothing in common but their border."""
    try:
        inputs, outputs = (
            align(getattr(a.artifact, side), getattr(b.artifact, side)) for side in ("inputs", "outputs")
        )
    except ValueError as error:
        raise _strangers(a.artifact, b.artifact, f"do not take and give the same tensors: {error}") from error
    pairing = pair(a.graph, b.graph, inputs=inputs, outputs=outputs)
    ends = {*a.graph.outputs.values(), *b.graph.outputs.values()}
    inner = [
        found for found in pairing.pairs if not found.a.is_input and not {found.a.key, found.b.key} & ends
    ]
    written = [found for found in pairing.pairs if not found.a.is_input]
    if not written or (
        not inner and all(len(side.graph.values) > len(inputs) + len(outputs) for side in (a, b))
    ):
        raise _strangers(a.artifact, b.artifact, "have no inner tensor in common")
    return pairing


def _strangers(a: Artifact, b: Artifact, why: str) -> ModelError:
    hint = "Compare versions that were made from the same model, in one format."
    return ModelError("EK701", f"{a.path.name} and {b.path.name} {why}.", hint)


def _samples(
    dataset: Dataset, a: Artifact, b: Artifact
) -> Iterator[tuple[Mapping[str, Array], Mapping[str, Array]]]:
    for_a, for_b = (dataset.bind(artifact.inputs).preparation for artifact in (a, b))
    for raw in dataset.raw_batches(1):
        yield for_a(raw).inputs, for_b(raw).inputs
