"""Every public model for every target: quantized as the profile says, looked at, compiled where that can be done here.

    python benchmarks/every_target.py [--case ic ...] [--target ethos-u55-128 ...] [--work FOLDER] [--json FILE]
    python benchmarks/every_target.py --model model.pt2 --calibration samples.npz

A cell has the SNR of the quantized file against the float model on held back samples, the share of its operators that
the target would accelerate, and what its compiler made of it; or the code of the error that stood in the way. Targets
that ask for the same file share it. Compilers and converters run where `edgekit toolchain install` was done. On
linux-gpu the file is run too, where Vulkan has a GPU or VK_ICD_FILENAMES names SwiftShader: the share that the GPU
took, and the SNR of its outputs against the CPU's.
"""

import argparse
import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from _cases import CASES, UNLABELLED, Case
from rich.console import Console
from rich.table import Table

import edgekit
from edgekit.accelerators import Place
from edgekit.artifact import Format
from edgekit.catalog import names
from edgekit.devices.device import Device
from edgekit.devices.session import DeviceSession
from edgekit.devices.shell import Shell
from edgekit.errors import EdgekitError
from edgekit.interleaved import Delegate
from edgekit.runtimes import open_session
from edgekit.target import Target
from edgekit.targeting import choose
from edgekit.tensor import difference
from edgekit.verbs.quantize import Quantized

ALL = (*CASES, *UNLABELLED)
_GPU_SAMPLES = 8

# What a compiler writes, where that is not the model's own format.
_SUFFIXES = {
    "tflm": ".c",
    "rknn": ".rknn",
    "openvino": {"CPU": ".xml", "NPU": ".blob"},
    "coremltools": ".mlpackage",
}
# These read the model that the file was quantized from.
_OF_SOURCE = {"coremltools"}


@dataclass(frozen=True)
class Cell:
    """A model on a target. ``problem`` is the code and the sentence of the first error, if there was one."""

    case: str
    target: str
    recipe: str = ""
    size_bytes: int = 0
    snr_db: float = math.nan
    placed_pct: float = math.nan
    unsupported: int = 0
    compiled: str = ""
    problem: str = ""
    findings: tuple[str, ...] = ()

    def text(self) -> str:
        """The cell as it stands in the table."""
        if not self.recipe:
            return self.problem.partition(" ")[0]
        placed = "unsupported" if self.unsupported else f"{self.placed_pct:.0f}%"
        compiled = f", {self.compiled}" if self.compiled else ""
        return f"{self.snr_db:.0f} dB, {placed}{compiled}"


def main() -> None:
    """Fill the table, and print what stood in the way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--case", nargs="*", default=[case.name for case in ALL])
    parser.add_argument("--model", type=Path, help="a model of your own in place of the public ones")
    parser.add_argument("--calibration", type=Path, help="samples for it, .npz")
    targets = [target.name for target in edgekit.target_list()]
    parser.add_argument("--target", nargs="*", default=targets)
    parser.add_argument("--work", type=Path, help="keep the files in this folder")
    parser.add_argument("--json", type=Path, help="write every cell here")
    options = parser.parse_args()
    cases = [case for case in ALL if case.name in options.case]
    if options.model:
        samples = dict(np.load(options.calibration))
        cases = [
            Case(options.model.stem, str(options.model.absolute()), lambda _model: (samples, samples), "")
        ]
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        cells = list(_cells(cases, [Target.load(name) for name in options.target], work))
    if options.json:
        options.json.write_text(json.dumps([asdict(cell) for cell in cells], indent=2))
    Console(width=200).print(_table(cells))
    for cell in cells:
        if cell.problem:
            print(f"{cell.case} on {cell.target}: {cell.problem}")
    silent = [cell for cell in cells if not cell.recipe and not cell.problem]
    print(
        f"{len(cells)} cells, {sum(bool(cell.problem) for cell in cells)} with an error, {len(silent)} silent"
    )


def _cells(cases: Sequence[Case], targets: Sequence[Target], work: Path) -> Iterator[Cell]:
    for case in cases:
        made: dict[str, Quantized] = {}
        for target in targets:
            cell = _cell(case, target, work, made)
            print(f"{cell.case:12} {cell.target:24} {cell.text()}", flush=True)
            yield cell


def _cell(case: Case, target: Target, work: Path, made: dict[str, Quantized]) -> Cell:
    try:
        found, path = _quantized(case, target, work, made)
    except EdgekitError as error:
        return Cell(case.name, target.name, problem=f"{error.code} {error.message}")
    compat = edgekit.compat(path, target=target)
    runs = target.name == "linux-gpu"
    compiled, problem = _on_gpu(case, path, work) if runs else _compiled(case, path, target, work)
    codes = sorted({finding.code for finding in (*found.findings, *compat.findings)})
    return Cell(
        case=case.name,
        target=target.name,
        recipe=found.recipe.name,
        size_bytes=path.stat().st_size,
        snr_db=found.read_back.snr_db,
        placed_pct=compat.placed_pct,
        unsupported=sum(one.verdict.place is Place.UNSUPPORTED for one in compat.placed),
        compiled=compiled,
        problem=problem,
        findings=tuple(codes),
    )


def _quantized(case: Case, target: Target, work: Path, made: dict[str, Quantized]) -> tuple[Quantized, Path]:
    suffix = case.suffix if case.suffix.lstrip(".") in target.formats.values else ""
    suffix = suffix or f".{target.formats.values[0]}"
    choice = choose(target, None, None, Format(suffix.lstrip(".")))
    path = work / f"{case.name}-{choice.recipe.name}-{choice.io}-{choice.needs_names}{suffix}"
    if path.name not in made:
        calibration, _test = case.data(work)
        made[path.name] = edgekit.quantize(
            case.path, path, target=target, calibration=calibration, overwrite=True
        )
    return made[path.name], path


def _compiled(case: Case, path: Path, target: Target, work: Path) -> tuple[str, str]:
    """What the target's compiler did, and the error where it did nothing."""
    name = target.compiler.get("name", "")
    if not name:
        return "", ""
    if name not in names("compilers"):
        return "not compiled", f"edgekit does not drive {name} yet"
    suffix = _SUFFIXES.get(name, path.suffix)
    if isinstance(suffix, dict):
        suffix = suffix[target.compiler["device"]]
    try:
        model = case.path if name in _OF_SOURCE else path
        edgekit.compile(model, work / f"{path.stem}-{target.name}{suffix}", target=target, overwrite=True)
    except EdgekitError as error:
        return error.code, f"{error.code} {error.message}"
    return "compiled", ""


def _on_gpu(case: Case, path: Path, work: Path) -> tuple[str, str]:
    """What share the GPU took, and the SNR of its outputs against the CPU's."""
    artifact = edgekit.open_artifact(path)
    _calibration, test = case.data(work)
    chosen = list(range(_GPU_SAMPLES))
    samples = edgekit.open_dataset(test).bind(artifact.inputs).take(chosen).inputs
    try:
        with (
            Shell(Device("local", "local")) as shell,
            DeviceSession(shell, artifact, delegate=Delegate("gpu")) as gpu,
        ):
            there, taken = gpu.run(samples), gpu.opened["placement"]["accelerated_pct"]
    except EdgekitError as error:
        return error.code, f"{error.code} {error.message}"
    cpu = open_session(artifact)
    here = cpu.run(samples)
    cpu.close()
    snr_db = min(difference(exact, there[name]).snr_db for name, exact in here.items())
    return f"GPU took {taken:.0f}%, {snr_db:.0f} dB", ""


def _table(cells: Sequence[Cell]) -> Table:
    table = Table(title="SNR against float, operators accelerated, compiled")
    cases = list(dict.fromkeys(cell.case for cell in cells))
    for heading in ("target", *cases):
        table.add_column(heading, overflow="fold")
    by_place = {(cell.target, cell.case): cell for cell in cells}
    for target in dict.fromkeys(cell.target for cell in cells):
        table.add_row(target, *(by_place[target, case].text() for case in cases))
    return table


if __name__ == "__main__":
    main()
