"""Compile a model for an accelerator, and read what the compiler wrote instead of believing its exit code."""

import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekit import files
from edgekit.artifact import Artifact, Lineage, lineage_path, read_lineage
from edgekit.catalog import load, names, unknown
from edgekit.compilation import Compilation
from edgekit.errors import TargetError, UsageError
from edgekit.findings import Finding
from edgekit.formats import open_artifact
from edgekit.operators import operators
from edgekit.target import Target
from edgekit.versions import installed_versions

_NAMED = 5


@dataclass(frozen=True)
class Compiled:
    """The compiled file, where its operators run, and what the compiler estimates.

    ``placed_pct`` is the share of the model's operators that the accelerator takes, in percent.
    """

    path: Path
    source: Artifact
    target: Target
    compilation: Compilation
    placed_pct: float
    findings: tuple[Finding, ...]
    seconds: float

    def describe(self) -> dict[str, Any]:
        """The result as it stands in the JSON document."""
        return {
            "path": str(self.path),
            "size_bytes": files.size_bytes(self.path),
            "sha256": files.sha256(self.path),
            "source": self.source.describe(),
            "target": self.target.name,
            "compiler": self.compilation.compiler,
            "version": self.compilation.version,
            "configuration": dict(self.compilation.configuration),
            "placed_pct": self.placed_pct,
            "estimates": dict(self.compilation.estimates),
            "basis": self.compilation.basis,
            "ops": [operator.describe() for operator in self.compilation.operators],
            "lineage": str(lineage_path(self.path)),
            "seconds": self.seconds,
        }


def compile(  # noqa: A001 - the command's name
    model: str | Path,
    output: str | Path,
    *,
    target: str | Target,
    settings: Mapping[str, str] | None = None,
    min_placement: float | None = None,
    overwrite: bool = False,
) -> Compiled:
    """Compile a model file for the accelerator of a target.

    Args:
        model: A quantized model in a format that the target takes, or the source model where its compiler reads that.
        output: The file to write, a folder where the compiler makes one.
        target: A target's name or profile, ``"ethos-u55-128"``.
        settings: What the compiler is told in place of what the profile says, ``{"memory_mode": "Sram_Only"}``.
        min_placement: Fail where fewer percent of the operators run on the accelerator.
        overwrite: Replace ``output`` where it exists.

    Returns:
        What was written, and where its operators run.

    Raises:
        UsageError: The target has no compiler, its profile has no such setting, or the output does not fit.
        TargetError: Nothing, or less than was asked for, runs on the accelerator.
        ModelError: The compiler crashes on the model or refuses it.
        DependencyError: The compiler is not installed.
    """
    started, path = time.perf_counter(), Path(output)
    profile = _set(Target.load(target) if isinstance(target, str) else target, settings or {})
    compiler = load("compilers", _compiler(profile))
    beside = [path.with_suffix(suffix) for suffix in compiler.beside(profile)]
    mark = getattr(compiler, "MARK", "")
    if mark:
        files.check_output_folder(path, mark, overwrite=overwrite)
    for written in (*([] if mark else [path]), *beside, lineage_path(path)):
        files.check_output(written, overwrite=overwrite)
    source = open_artifact(model)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        compilation: Compilation = compiler.compile(source, profile, Path(folder), path)
        placed = _placed_pct(source, compilation)
        _check_placement(source, profile, compilation, placed, min_placement or 0.0)
        for made, wanted in zip((compilation.path, *compilation.beside), (path, *beside), strict=True):
            (files.copy_folder if made.is_dir() else files.copy_file)(made, wanted)
    lineage = _lineage(source, profile, compilation)
    files.write_bytes(lineage_path(path), json.dumps(lineage.describe(), indent=2).encode())
    seconds = time.perf_counter() - started
    return Compiled(
        path, source, profile, compilation, placed, tuple(_findings(profile, compilation, placed)), seconds
    )


def _set(target: Target, settings: Mapping[str, str]) -> Target:
    """The target with other options for its compiler."""
    known = [key for key in target.compiler if key != "name"]
    for key in settings:
        if key not in known:
            raise unknown(f"setting of {target.name}'s compiler", key, known)
    return replace(target, compiler={**target.compiler, **settings})


def _compiler(target: Target) -> str:
    name = target.compiler.get("name", "")
    if not name:
        message = f"{target.name} needs no compiler: it runs the model as it is."
        raise UsageError("EK394", message, "Measure it there: `edgekit benchmark --device`.")
    if name not in names("compilers"):
        message = f"edgekit does not drive the compiler of {target.name}, {name}, yet."
        raise UsageError("EK394", message, f"It drives {', '.join(names('compilers'))}.")
    return name


def _placed_pct(source: Artifact, compilation: Compilation) -> float:
    """The share of the source's operators that the accelerator takes: each of the others stands alone in the table."""
    left = len(compilation.left_on_cpu())
    if not left:
        return 100.0 if compilation.operators else 0.0
    count = len(operators(source.path, source.format))
    return 100 * (1 - left / count) if count else 0.0


def _check_placement(
    source: Artifact, target: Target, compilation: Compilation, placed: float, least: float
) -> None:
    if placed == 0:
        raise TargetError(
            "EK392",
            f"Nothing of {source.path} would run on {target.name}: the compiler left every operator to the CPU.",
            f"Quantize the float model for it: edgekit quantize MODEL -o OUT.tflite -t {target.name}",
            detail=compilation.log,
        )
    if placed < least:
        raise TargetError(
            "EK392",
            f"{placed:.1f}% of the operators of {source.path} run on {target.name}; {least:g}% were asked for.",
            f"On the CPU stay {_listed(compilation)}.",
            detail=compilation.log,
        )


def _findings(target: Target, compilation: Compilation, placed: float) -> Iterator[Finding]:
    yield from compilation.findings
    if placed < 100:
        yield Finding(
            "EK393",
            f"{len(compilation.left_on_cpu())} operators stay on the CPU beside {target.name}: {_listed(compilation)}.",
            "They need kernels in the program there; `edgekit inspect --ops` shows their types.",
        )


def _listed(compilation: Compilation) -> str:
    kinds = list(dict.fromkeys(operator.kind for operator in compilation.left_on_cpu()))
    more = f" and {len(kinds) - _NAMED} kinds more" if len(kinds) > _NAMED else ""
    return ", ".join(kinds[:_NAMED]) + more


def _lineage(source: Artifact, target: Target, compilation: Compilation) -> Lineage:
    inherited = read_lineage(source.path) or {}
    return Lineage(
        source_path=source.path.name,
        source_sha256=source.sha256,
        recipe=str(inherited.get("recipe", "")),
        engine=f"{compilation.compiler} {compilation.version}",
        seed=0,
        versions=installed_versions(),
        preprocessing=inherited.get("preprocessing"),
        options={"target": target.name, **compilation.configuration},
    )
