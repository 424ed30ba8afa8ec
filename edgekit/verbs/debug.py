"""``debug``: which tensor differs first, between two versions of a model or between two runtimes."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

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
from edgekit.findings import Finding
from edgekit.formats import open_artifact
from edgekit.runtimes import check_runtime, open_session
from edgekit.tensor import Array

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
        a: The reference, mostly the float model.
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
    sides, names, dataset, findings = _planned(
        a,
        b,
        data,
        runtime_a=runtime_a,
        runtime_b=runtime_b,
        open_b=open_b,
        samples=samples,
        preprocess=preprocess,
    )
    one, two = sides
    pairing = _paired(one, two)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        comparison = Comparison(one, two, pairing, folder=Path(folder), repeat=_repeat(one.artifact))
        for done, _ in enumerate(comparison.run(_samples(dataset, one.artifact, two.artifact)), 1):
            if progress:
                progress(done, dataset.count)
    return Debugging(
        one.artifact,
        two.artifact,
        names,
        dataset.count,
        judged(pairing, comparison.seen, comparison.alone, two.graph.hidden),
        pairing,
        (one.graph.hidden, two.graph.hidden),
        tuple(two.graph.outputs.values()),
        comparison.exposed_differs,
        findings,
    )


def planned(
    a: str | Path | Artifact, b: str | Path | Artifact | None, data: str | Path | Dataset, **options: Any
) -> tuple[dict[str, Any], tuple[Finding, ...]]:
    """What ``debug`` would do with these options, without running a model.

    Raises:
        EdgekitError: What ``debug`` would raise before it runs a model.
    """
    (one, two), names, dataset, findings = _planned(a, b, data, **options)
    plan = {
        "a": str(one.artifact.path),
        "b": str(two.artifact.path),
        "runtime_a": names[0],
        "runtime_b": names[1],
        "samples": dataset.count,
        "tensors": len(_paired(one, two).pairs),
    }
    return plan, findings


def _planned(
    a: str | Path | Artifact,
    b: str | Path | Artifact | None,
    data: str | Path | Dataset,
    *,
    runtime_a: str | None,
    runtime_b: str | None,
    samples: int,
    preprocess: str | None,
    open_b: Opener | None = None,
) -> tuple[tuple[Side, Side], tuple[str, str], Dataset, tuple[Finding, ...]]:
    """All that can be refused without running a model is refused here."""
    one = _opened(a)
    two = one if b is None else _opened(b)
    names = check_runtime(one, runtime_a), check_runtime(two, runtime_b)
    if b is None and open_b is None and names[0] == names[1]:
        hint = "Name a second model, or another runtime: --runtime-b litert_builtin."
        raise UsageError("EK700", f"{one.path.name} would be compared with itself in {names[0]}.", hint)
    sides = _side(one, _opener(names[0])), _side(two, open_b or _opener(names[1]))
    dataset, findings = under_contract(_dataset(data, preprocess), two, preprocess)
    dataset = dataset.spread(min(samples, dataset.count))
    for artifact in (one, two):
        dataset.bind(artifact.inputs)
    return sides, names, dataset, findings


def _opened(model: str | Path | Artifact) -> Artifact:
    return model if isinstance(model, Artifact) else open_artifact(Path(model))


def _opener(runtime: str) -> Opener:
    return lambda artifact: open_session(artifact, runtime)


def _dataset(data: str | Path | Dataset, preprocess: str | None) -> Dataset:
    if isinstance(data, Dataset):
        return data
    return open_dataset(data, preprocess=None if preprocess == "none" else preprocess)


def _side(artifact: Artifact, opener: Opener) -> Side:
    if artifact.format not in _GRAPHS:
        raise ModelError(
            "EK709",
            f"{artifact.path} is a {artifact.format} model, whose inner tensors cannot be shown.",
            f"Convert it first: edgekit quantize {artifact.path} -r float16 -o model.tflite",
        )
    return Side(artifact, _GRAPHS[artifact.format](artifact.path), opener)


def _repeat(artifact: Artifact) -> Opener | None:
    name = _OTHER_KERNELS.get(artifact.format)
    return None if name is None else _opener(name)


def _paired(a: Side, b: Side) -> Pairing:
    """Raises ModelError where the two have nothing in common but their border."""
    names = f"{a.artifact.path.name} and {b.artifact.path.name}"
    hint = "Compare versions that were made from the same model, in one format."
    if a.artifact.format is not b.artifact.format:
        formats = f"{a.artifact.format} and {b.artifact.format}"
        raise ModelError("EK701", f"{names} are of different formats: {formats}.", hint)
    try:
        inputs, outputs = (
            align(getattr(a.artifact, side), getattr(b.artifact, side)) for side in ("inputs", "outputs")
        )
    except ValueError as error:
        raise ModelError("EK701", f"{names} do not take and give the same tensors: {error}.", hint) from error
    pairing = pair(a.graph, b.graph, inputs=inputs, outputs=outputs)
    inner = [found for found in pairing.pairs if not found.a.is_input and found.how != "output"]
    if not inner and len(b.graph.values) > len(inputs) + len(outputs):
        raise ModelError("EK701", f"No inner tensor of {names} can be paired.", hint)
    return pairing


def _samples(
    dataset: Dataset, a: Artifact, b: Artifact
) -> Iterator[tuple[Mapping[str, Array], Mapping[str, Array]]]:
    for_a, for_b = (dataset.bind(artifact.inputs).preparation for artifact in (a, b))
    for raw in dataset.raw_batches(1):
        yield for_a(raw).inputs, for_b(raw).inputs
