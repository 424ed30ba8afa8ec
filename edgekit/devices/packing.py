"""A release made ready on this computer: the model, its lineage, its preprocessing contract and the manifest."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import edgekit
from edgekit import files
from edgekit.artifact import Artifact, Format, lineage_path, read_lineage
from edgekit.devices.release import MANIFEST, PREPROCESSING, Release, ReleaseFile, check_model_name
from edgekit.errors import TargetError
from edgekit.findings import Finding
from edgekit.preprocessing import from_document, load_preprocessing

_FORMATS = (Format.TFLITE, Format.ONNX)


@dataclass(frozen=True)
class Packed:
    """A release on this computer: what it is, and where its files and its manifest lie, by their names."""

    release: Release
    sources: Mapping[str, Path]
    findings: tuple[Finding, ...]


def check_deployable(artifact: Artifact) -> None:
    """Refuse what no device runs, or what does not fit into one file.

    Raises:
        TargetError: The format is not one for devices.
        ModelError: The model's name would not survive the way.
    """
    if artifact.format not in _FORMATS:
        raise TargetError(
            "EK843",
            f"{artifact.path.name} is a {artifact.format} model, and devices run .tflite and .onnx files.",
            f"Convert it first: edgekit quantize {artifact.path.name} -o model.tflite --recipe dynamic",
        )
    if artifact.format is Format.ONNX and has_external_data(artifact.path):
        raise TargetError(
            "EK843",
            f"{artifact.path.name} keeps its weights in other files, and a release has one model file.",
            "Save it as one file: onnx.save(onnx.load(path), path, save_as_external_data=False).",
        )
    check_model_name(artifact.path.name)


@contextmanager
def packed(artifact: Artifact, preprocess: str | None) -> Iterator[Packed]:
    """A release of a model, for as long as the context lasts.

    Args:
        artifact: The model.
        preprocess: The contract that goes along; that of the lineage when None, "none" for none.

    Raises:
        UsageError: There is no such contract.
    """
    with tempfile.TemporaryDirectory(prefix="edgekit-release-") as folder:
        name = artifact.path.name
        sources: dict[str, Path] = {}
        lineage, findings = _lineage(artifact)
        if lineage is not None:
            sources[lineage_path(Path(name)).name] = lineage_path(artifact.path)
        contract = _contract(artifact, preprocess)
        if contract is not None:
            sources[PREPROCESSING] = Path(folder, PREPROCESSING)
            sources[PREPROCESSING].write_text(json.dumps(contract, indent=2) + "\n", encoding="utf-8")
        sources[name] = artifact.path
        listed = tuple(
            ReleaseFile(key, path.stat().st_size, files.sha256(path)) for key, path in sources.items()
        )
        release = Release(name, artifact.format.value, listed)
        # Sent last: what has a manifest has all the rest.
        sources[MANIFEST] = Path(folder, MANIFEST)
        sources[MANIFEST].write_bytes(release.manifest(edgekit.__version__))
        yield Packed(release, sources, findings)


def _lineage(artifact: Artifact) -> tuple[dict[str, Any] | None, tuple[Finding, ...]]:
    path = lineage_path(artifact.path)
    if not path.exists():
        return None, ()
    lineage = read_lineage(artifact.path)
    if lineage is None:
        text = f"{path.name} beside the model is no lineage that can be read; the release goes without it."
        return None, (Finding("EK852", text, "Remove the file, or make the model again."),)
    return lineage, ()


def _contract(artifact: Artifact, preprocess: str | None) -> dict[str, Any] | None:
    if preprocess == "none":
        return None
    if preprocess is not None:
        return load_preprocessing(preprocess).describe()
    document = (read_lineage(artifact.path) or {}).get("preprocessing")
    if not isinstance(document, dict):
        return None
    return from_document(document, str(lineage_path(artifact.path))).describe()


def has_external_data(path: Path) -> bool:
    """Whether an ``.onnx`` file keeps tensors elsewhere."""
    from onnx import load
    from onnx.external_data_helper import uses_external_data

    model = load(str(path), load_external_data=False)
    return any(uses_external_data(tensor) for tensor in model.graph.initializer)
