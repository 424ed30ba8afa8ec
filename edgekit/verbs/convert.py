"""Convert a model to another format, and prove that it computes the same."""

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgekit import files, pipeline, torch_process
from edgekit.artifact import Artifact, Format, Lineage, align, lineage_path, read_lineage
from edgekit.bisection import Bisection
from edgekit.calibration import random_samples
from edgekit.contract import under_contract
from edgekit.data import Dataset, open_dataset
from edgekit.errors import EdgekitError, ModelError, UsageError
from edgekit.fidelity import Fidelity, measure
from edgekit.findings import Finding, Level
from edgekit.formats import find_format, open_artifact
from edgekit.passes.set_layout import set_layout
from edgekit.passes.set_layout_onnx import set_layout_onnx
from edgekit.plan import Candidate
from edgekit.reference import Reference
from edgekit.routes import ROUTES, Route, output_format
from edgekit.tensor import Array
from edgekit.versions import installed_versions

Progress = Callable[[int, int], None]

DEFAULT_SAMPLES = 32
_SUFFIXES = {Format.TFLITE: ".tflite", Format.ONNX: ".onnx"}


@dataclass(frozen=True)
class Twin:
    """The same model in the other format, with its distance from the source and from the file beside it."""

    artifact: Artifact
    converter: str
    fidelity: Fidelity
    between: Fidelity

    def describe(self) -> dict[str, Any]:
        """The twin as it stands in the JSON document."""
        return {
            "artifact": self.artifact.describe(),
            "converter": self.converter,
            "fidelity": self.fidelity.describe(),
            "between": self.between.describe(),
        }


@dataclass(frozen=True)
class Converted:
    """The result: the file, what it was made from and by which converter, and how near it is to its source."""

    artifact: Artifact
    source: Artifact
    converter: str
    fidelity: Fidelity
    findings: tuple[Finding, ...]
    seconds: float
    twin: Twin | None = None

    def describe(self) -> dict[str, Any]:
        """The result as it stands in the JSON document."""
        return {
            "artifact": self.artifact.describe(),
            "source": self.source.describe(),
            "converter": self.converter,
            "fidelity": self.fidelity.describe(),
            "lineage": str(lineage_path(self.artifact.path)),
            "seconds": self.seconds,
            "twin": None if self.twin is None else self.twin.describe(),
        }


@dataclass(frozen=True)
class _Work:
    """What is asked of every file that is made: like the source on these samples, and in this form."""

    reference: Reference
    batch: int | None
    layout: Literal["keep", "nhwc", "nchw"]
    seed: int
    compared_on: Mapping[str, Any] | None


def convert(
    model: str | Path,
    output: str | Path,
    *,
    format: str | None = None,  # noqa: A002 - the option's name
    data: str | Path | Dataset | None = None,
    preprocess: str | None = None,
    check_samples: int = DEFAULT_SAMPLES,
    batch: int | None = 1,
    layout: Literal["keep", "nhwc", "nchw"] = "keep",
    check_both: bool = False,
    bisect: str | Path | None = None,
    overwrite: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Converted:
    """Convert a model file, and compare the outputs of both in float.

    Args:
        model: A Keras, SavedModel, TFLite, ONNX or PyTorch model; or ``FILE.py:function``, which is run and gives a
            PyTorch module with its example inputs: its program is then written beside the output, as ``.pt2``.
        output: The file to write; its suffix says the format where ``format`` does not.
        format: ``"tflite"`` or ``"onnx"``.
        data: Samples on which the outputs are compared; None for random ones.
        preprocess: The preprocessing contract of the samples.
        check_samples: How many samples are compared.
        batch: Size of the batch axis in the file, None for a free one.
        layout: How images lie in the inputs and outputs of the file.
        check_both: Write the other format too, beside ``output``, and compare the two with each other.
        bisect: A folder: where the conversion fails, the smallest part of the model that fails alike is written there.
        overwrite: Replace what exists.
        seed: Chooses random samples.
        progress: Called with the number of stages done and of all stages.

    Returns:
        What was written, and how near it is to its source.

    Raises:
        UsageError: No conversion leads to this format, or the output does not fit.
        ModelError: The model cannot be read or converted, or the result computes something else.
        DataError: The samples cannot be used.
        DependencyError: The converter is not installed.
    """
    started, path = time.perf_counter(), Path(output)
    route = find_route(model, path, format)
    beside = _beside(path, output_format(path, format))
    for written in (path, beside)[: 1 + check_both]:
        files.check_output(written, overwrite=overwrite)
        files.check_output(lineage_path(written), overwrite=overwrite)
    source, findings = _open(Path(model), path, overwrite=overwrite)
    search = None if bisect is None else Bisection(source, Path(bisect), overwrite=overwrite)
    report, stages = progress or (lambda _done, _total: None), 3 if check_both else 2
    samples, compared_on, noticed = _samples(source, data, preprocess, check_samples, seed)
    report(0, stages)
    work = _Work(Reference.of(source, samples), batch, layout, seed, compared_on)
    report(1, stages)
    try:
        artifact, fidelity, said = _make(work, route, path)
    except ModelError as error:
        if search is not None:
            _explain(error, search, route, batch=batch, output=path.suffix, progress=progress)
        raise
    findings = [*noticed, *findings, *said]
    twin = None
    if check_both:
        report(2, stages)
        other = find_route(model, beside)
        made, distance, said = _make(work, other, beside)
        inputs = align(source.inputs, artifact.inputs)
        first = Reference.of(artifact, {inputs[name]: values for name, values in samples.items()})
        twin = Twin(made, other.converter, distance, measure(first, made))
        findings += [*said, *twin.between.findings()]
    return Converted(
        artifact=artifact,
        source=source,
        converter=route.converter,
        fidelity=fidelity,
        findings=tuple(dict.fromkeys(findings)),
        seconds=time.perf_counter() - started,
        twin=twin,
    )


def _beside(path: Path, written: Format) -> Path:
    """Where the file of the other format goes."""
    return path.with_suffix(_SUFFIXES[Format.ONNX if written is Format.TFLITE else Format.TFLITE])


def _make(work: _Work, route: Route, path: Path) -> tuple[Artifact, Fidelity, list[Finding]]:
    """Convert the source, compare, and write the file and its lineage."""
    reference = work.reference
    settings = pipeline.float_settings(work.batch)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        produced = pipeline.run(
            Candidate(route.converter, route.steps), reference.source, settings, Path(folder)
        )
        # Images of the source fit before they are laid otherwise; that this changes nothing else, the pass checks.
        fidelity = measure(reference, produced.artifact)
        laid, said = _lay(produced.artifact, work.layout)
        files.copy_file(laid.path, path)
    artifact = replace(laid, path=path)
    lineage = _lineage(work, route)
    files.write_bytes(lineage_path(path), json.dumps(lineage.describe(), indent=2).encode())
    findings = [*said, *produced.findings, *_sizes(artifact, work.batch), *fidelity.findings()]
    return artifact, fidelity, findings


def _explain(error: ModelError, search: Bisection, route: Route, **options: Any) -> None:
    """Say which part of the model it is; what stands in the way of the search does not hide the failure."""
    try:
        part = search.run(route, error, **options)
    except EdgekitError as other:
        error.message += f" The part that fails was not found: {other.message}"
        return
    if part is None:
        error.message += " Cut out of itself the model does not fail so, and no smaller part was looked for."
        return
    error.message += f" {part.sentence}."
    error.hint = f"Reproduce it with the command in {part.path.with_suffix('.json')}."


def find_route(model: str | Path, output: Path, format: str | None = None) -> Route:  # noqa: A002 - option's name
    """How ``convert`` would make this output from this model; does nothing.

    Raises:
        UsageError: It is of that format already, or nothing leads there.
        ModelError: The model is missing, or nothing that edgekit reads.
    """
    source = Format.PYTORCH if _function(Path(model)) else find_format(Path(model))
    wanted = output_format(output, format)
    if (source, wanted) in ROUTES:
        return ROUTES[source, wanted]
    reachable = sorted(end.value for start, end in ROUTES if start is source)
    what = (
        f"The model is {source} already." if source is wanted else f"Nothing converts {source} to {wanted}."
    )
    hint = (
        f"From {source} edgekit makes {' and '.join(reachable)}."
        if reachable
        else "Convert its source instead."
    )
    raise UsageError("EK346", what, hint)


def _function(model: Path) -> tuple[Path, str] | None:
    """The file and the function of ``FILE.py:function``."""
    file, _, function = str(model).rpartition(":")
    return (Path(file), function) if file.endswith(".py") else None


def _open(model: Path, output: Path, *, overwrite: bool) -> tuple[Artifact, list[Finding]]:
    """The source as a file; what a function gives becomes one beside the output."""
    named = _function(model)
    if named is None:
        return open_artifact(model), []
    file, function = named
    if not file.is_file():
        raise ModelError("EK101", f"{file} does not exist.")
    program = output.with_suffix(".pt2")
    files.check_output(program, overwrite=overwrite)
    torch_process.export_program(file, function, program)
    message = f"The module of {model} was exported to {program.name}, which other commands read in its place."
    return open_artifact(program), [Finding("EK349", message, level=Level.NOTE)]


def _samples(
    source: Artifact, data: str | Path | Dataset | None, preprocess: str | None, count: int, seed: int
) -> tuple[dict[str, Array], dict[str, Any] | None, list[Finding]]:
    """Samples by input name, where they are from, and what to say about them."""
    if data is None:
        message = f"Outputs were compared on {count} random inputs, because no data was given."
        hint = "Add --data DATA to compare them on real samples."
        samples = random_samples(source.inputs, seed=seed, count=count)
        return dict(samples.held_back), None, [Finding("EK344", message, hint, Level.NOTE)]
    dataset, noticed = under_contract(open_dataset(data, preprocess=preprocess), source, preprocess)
    findings = list(noticed)
    if dataset.count < count:
        message = f"Outputs were compared on {dataset.count} samples, {count} were asked for."
        findings.append(Finding("EK342", message, "Give more data, or ask for fewer with --check-samples."))
    used = min(count, dataset.count)
    # Spread over the whole of a set that may be ordered by class.
    chosen = np.linspace(0, dataset.count - 1, used).round().astype(int)
    arrays = dataset.bind(source.inputs).take([int(index) for index in chosen]).inputs
    return dict(arrays), {"data": dataset.spec, "count": used}, findings


def _sizes(artifact: Artifact, batch: int | None) -> Iterator[Finding]:
    """Sizes that are not what was asked for."""
    free = [spec.name for spec in artifact.inputs if None in spec.shape]
    if batch is not None and free:
        message = f"The inputs {', '.join(free)} have sizes that are still free."
        yield Finding("EK347", message, "Give the source model fixed sizes: GPUs and NPUs need them.")
    written = {spec.shape[0] for spec in artifact.inputs if spec.shape} - {None, batch}
    if written:
        asked = "a free one was" if batch is None else f"{batch} was"
        message = f"The batch size in the file is {min(filter(None, written))}, though {asked} asked for."
        yield Finding("EK348", message, "The source fixes it, or the converter writes no other.")


def _lay(artifact: Artifact, layout: Literal["keep", "nhwc", "nchw"]) -> tuple[Artifact, list[Finding]]:
    """Let images lie as asked for."""
    if layout == "keep":
        return artifact, []
    change = (set_layout if artifact.format is Format.TFLITE else set_layout_onnx)(
        artifact.path.read_bytes(), layout
    )
    findings = []
    if change.unknown:
        message = f"No operator tells how images lie in {', '.join(change.unknown)}: they stay as they are."
        findings.append(Finding("EK387", message, "Transpose them in the source model."))
    output = artifact.path.with_name(f"{artifact.path.name}-{layout}")
    output.write_bytes(change.model)
    return open_artifact(output), findings


def _lineage(work: _Work, route: Route) -> Lineage:
    source = work.reference.source
    # What the source expects of its samples, the converted model expects too, but for the layout.
    inherited = (read_lineage(source.path) or {}).get("preprocessing")
    if inherited and work.layout != "keep":
        inherited = {**inherited, "layout": work.layout}
    return Lineage(
        source_path=source.path.name,
        source_sha256=source.sha256,
        recipe="float32",
        engine=route.converter,
        seed=work.seed,
        versions=installed_versions(),
        preprocessing=inherited,
        options={
            "batch": work.batch,
            "layout": work.layout,
            "steps": list(route.steps),
            "compared_on": work.compared_on,
        },
    )
