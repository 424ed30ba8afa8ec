"""What `edgekit compat` predicts beside where operators really run, on public models in several precisions.

    python benchmarks/compat_agreement.py [--models FOLDER] [--operators] [--work FOLDER] [--json FILE]

Reality is LiteRT's interpreter after XNNPACK took its share, LiteRT's GPU accelerator where Vulkan finds a GPU (a
software one will do: VK_ICD_FILENAMES names it), what Vela, QNN and TensorFlow Lite Micro say where `edgekit toolchain
install` was done, and whether ONNX Runtime opens the file. Every model below FOLDER is tried in float, float16,
dynamic, int8 and 16x8. With --operators files of one operator each are tried too, made by TensorFlow: four hundred.

The accelerator of a GPU says how many operators it took, and Vela's table names those that it left; a prediction that
takes another number, or another kind, counts as wrong for each operator of the difference.
"""

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _cases import ASSETS
from rich.console import Console
from rich.table import Table

import edgekit
from edgekit.accelerators import Accelerator, Place
from edgekit.artifact import Artifact, Format
from edgekit.catalog import load
from edgekit.compilers import qnn, tflm, vela
from edgekit.errors import EdgekitError
from edgekit.formats import find_format, open_artifact
from edgekit.operators import Operator, operators
from edgekit.target import Target
from edgekit.toolchain import Toolchain
from edgekit.worker_process import WorkerProcess

_RECIPES = ("float16", "dynamic", "int8", "int16x8")
_SAMPLES = 8
# What Vela calls operators, where that is not the format's own name without underscores.
_VELA_NAMES = {
    "avgpool": "averagepool2d",
    "maxpool": "maxpool2d",
    "sigmoid": "logistic",
    "concat": "concatenation",
    "gatherv2": "gather",
    "reduceproduct": "reduceprod",
    "reducesum": "sum",
    "l2norm": "l2normalization",
    "lrn": "localresponsenormalization",
}


@dataclass(frozen=True)
class Row:
    """A file on an accelerator: ``Row("ic/resnet.h5", "int8", "xnnpack", 16, 0)`` has 16 operators, none wrong."""

    model: str
    precision: str
    accelerator: str
    operators: int
    wrong: int
    note: str = ""


def main() -> None:
    """Make the files, ask and predict, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", type=Path, default=ASSETS, help="folder of models")
    parser.add_argument("--operators", action="store_true", help="files of one operator each, too")
    parser.add_argument("--work", type=Path, help="keep the files in this folder")
    parser.add_argument("--json", type=Path, help="write every row here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        rows = list(_rows(_files(options.models, work, operators=options.operators)))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2))
    Console().print(_table(rows))
    for row in rows:
        if row.wrong or row.note:
            print(f"{row.model} {row.precision} {row.accelerator}: {row.wrong} of {row.operators} {row.note}")


def _files(folder: Path, work: Path, *, operators: bool) -> Iterator[tuple[str, str, Path]]:
    """Model, precision and file."""
    for path in sorted(folder.rglob("*")):
        try:
            if path.name.startswith("variables") or "saved_model.pb" in path.name:
                continue
            file_format = find_format(path)
        except EdgekitError:
            continue
        if file_format is not Format.PYTORCH:
            yield from _precisions(path, file_format, str(path.relative_to(folder)), work)
    if operators:
        from _operator_files import operator_files

        for precision, path in operator_files(work / "operators"):
            yield path.stem, precision, path


def _precisions(path: Path, file_format: Format, name: str, work: Path) -> Iterator[tuple[str, str, Path]]:
    suffix = ".onnx" if file_format is Format.ONNX else ".tflite"
    stem = name.replace("/", "__")
    if file_format in (Format.TFLITE, Format.ONNX):
        yield name, "as it is", path
    else:
        converted = work / f"{stem}-float{suffix}"
        if _made(converted, lambda: edgekit.convert(path, converted)):
            yield name, "float", converted
    try:
        data = _calibration(open_artifact(path), work / f"{stem}.npz")
    except EdgekitError:
        return
    for recipe in _RECIPES:
        output = work / f"{stem}-{recipe}{suffix}"
        given = None if recipe == "dynamic" else data

        def quantize(output: Path = output, recipe: str = recipe, given: Path | None = given) -> Any:
            return edgekit.quantize(path, output, recipe=recipe, calibration=given, keep_names=True)

        if _made(output, quantize):
            yield name, recipe, output


def _made(output: Path, make: Callable[[], Any]) -> bool:
    if not output.exists():
        try:
            make()
        except EdgekitError as error:
            print(f"{output.name}: {error}")
            return False
    return True


def _calibration(artifact: Artifact, file: Path) -> Path:
    """Random numbers: only the types and the shapes matter here."""
    generator = np.random.default_rng(0)
    if not file.exists():
        arrays = [
            generator.uniform(0, 1, (_SAMPLES, *(size or 1 for size in spec.shape[1:]))).astype(spec.dtype)
            for spec in artifact.inputs
        ]
        names = ["x"] if len(arrays) == 1 else [spec.name.replace("/", "|") for spec in artifact.inputs]
        np.savez(file, **dict(zip(names, arrays, strict=True)))  # type: ignore[arg-type]
    return file


def _rows(files: Iterator[tuple[str, str, Path]]) -> Iterator[Row]:
    for model, precision, path in files:
        file_format = find_format(path)
        found = [one for one in operators(path, file_format) if one.graph == 0]
        for accelerator, target, ask in _asked(file_format):
            verdicts = _judge(accelerator, target, found)
            try:
                wrong = ask(path, found, verdicts)
            except EdgekitError as error:
                refused = Place.UNSUPPORTED in verdicts
                yield Row(
                    model, precision, target.name, len(found), 0 if refused else len(found), str(error)[:120]
                )
                continue
            if wrong is not None:
                yield Row(model, precision, target.name, len(found), wrong)


def _asked(file_format: Format) -> Iterator[tuple[str, Target, Callable[..., int | None]]]:
    if file_format is Format.ONNX:
        yield "onnxruntime", Target.load("linux-x86-64"), _beside_onnx_runtime
        if Toolchain.load("qnn").is_installed:
            yield "htp", Target.load("qualcomm-htp"), _beside_qnn
        return
    yield "xnnpack", Target.load("linux-x86-64"), _beside_xnnpack
    yield "webgpu", Target.load("linux-gpu"), _beside_gpu
    if Toolchain.load("vela").is_installed:
        for name in ("ethos-u55-128", "ethos-u85-256"):
            yield "ethos_u", Target.load(name), _beside_vela(Target.load(name))
    if Toolchain.load("tflm").is_installed:
        yield "tflm", Target.load("microcontroller-tflm"), _beside_tflm


def _judge(name: str, target: Target, found: Sequence[Operator]) -> list[Place]:
    accelerator: Accelerator = load("accelerators", name)
    return [verdict.place for verdict in accelerator.judge(found, target)]


def _beside_xnnpack(path: Path, _found: Sequence[Operator], said: Sequence[Place]) -> int:
    took = _opened(path, xnnpack=True, delegate=None)["placement"]["ops"]
    return sum(
        entry["accelerated"] != (place is Place.ACCELERATED) for entry, place in zip(took, said, strict=True)
    )


def _beside_gpu(path: Path, found: Sequence[Operator], said: Sequence[Place]) -> int | None:
    try:
        opened = _opened(path, xnnpack=False, delegate={"library": "gpu", "options": {}})
    except EdgekitError as error:
        if "finds no GPU" in error.message or "passes no" in error.message:
            return None
        raise
    if Place.UNSUPPORTED in said:
        return len(found)
    share = opened["placement"]["accelerated_pct"]
    if share is None:
        return None
    return abs(round(share * len(found) / 100) - sum(place is Place.ACCELERATED for place in said))


def _opened(path: Path, *, xnnpack: bool, delegate: dict[str, Any] | None) -> dict[str, Any]:
    with WorkerProcess(str(path)) as worker:
        return worker.ask(
            "open",
            deadline_s=120,
            model=str(path),
            runtime="litert",
            threads=1,
            xnnpack=xnnpack,
            delegate=delegate,
            seed=0,
            cpu_affinity=[],
        )


def _beside_vela(target: Target) -> Callable[..., int]:
    def ask(path: Path, found: Sequence[Operator], said: Sequence[Place]) -> int:
        with tempfile.TemporaryDirectory() as folder:
            left = vela.compile(open_artifact(path), target, Path(folder), path).left_on_cpu()
        true = Counter(_vela_kind(operator.kind) for operator in left)
        guessed = Counter(
            _plain(operator.kind)
            for operator, place in zip(found, said, strict=True)
            if place is not Place.ACCELERATED
        )
        # Vela has no name for some operators that it leaves.
        unnamed = true.pop("none", 0)
        extra, missed = (guessed - true).total(), (true - guessed).total()
        return missed + abs(extra - unnamed)

    return ask


def _beside_qnn(path: Path, found: Sequence[Operator], said: Sequence[Place]) -> int:
    target = Target.load("qualcomm-htp")
    with tempfile.TemporaryDirectory() as folder:
        left = qnn.compile(open_artifact(path), target, Path(folder), path).left_on_cpu()
    true = Counter(operator.kind for operator in left)
    pairs = list(zip(found, said, strict=True))
    guessed = Counter(operator.kind for operator, place in pairs if place is Place.CPU)
    # What nothing is known of is no prediction, and counted as wrong.
    unknown = [operator.kind for operator, place in pairs if place is Place.UNKNOWN]
    for kind in set(unknown):
        true.pop(kind, None)
    return (guessed - true).total() + (true - guessed).total() + len(unknown)


def _beside_tflm(path: Path, found: Sequence[Operator], said: Sequence[Place]) -> int:
    """Its interpreter takes a whole file, or refuses it."""
    with tempfile.TemporaryDirectory() as folder:
        tflm.tried(open_artifact(path), Toolchain.load("tflm"), Path(folder))
    return len(found) if Place.UNSUPPORTED in said else 0


def _vela_kind(kind: str) -> str:
    return _VELA_NAMES.get(_plain(kind), _plain(kind))


def _plain(kind: str) -> str:
    return kind.replace("_", "").lower()


def _beside_onnx_runtime(path: Path, _found: Sequence[Operator], said: Sequence[Place]) -> int:
    """Its CPU provider gets every node of a file that it opens."""
    open_artifact(path)
    return sum(place is not Place.ACCELERATED for place in said)


def _table(rows: Sequence[Row]) -> Table:
    table = Table(title="operators predicted right")
    precisions = list(dict.fromkeys(row.precision for row in rows))
    for heading in ("target", *precisions, "all"):
        table.add_column(heading, justify="right" if heading != "target" else "left")
    for target in dict.fromkeys(row.accelerator for row in rows):
        own = [row for row in rows if row.accelerator == target]
        cells = [_share([row for row in own if row.precision == precision]) for precision in precisions]
        table.add_row(target, *cells, _share(own))
    table.add_row("all", *(_share([r for r in rows if r.precision == p]) for p in precisions), _share(rows))
    return table


def _share(rows: Sequence[Row]) -> str:
    count, wrong = sum(row.operators for row in rows), sum(row.wrong for row in rows)
    return f"{100 * (count - wrong) / count:.2f}% of {count:,}" if count else ""


if __name__ == "__main__":
    main()
