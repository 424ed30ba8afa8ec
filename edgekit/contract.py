"""The contract that a model was made with, met again when the model is used."""

import json
from dataclasses import replace
from typing import Any

import numpy as np

from edgekit.artifact import Artifact, TensorSpec, lineage_path
from edgekit.data import Dataset
from edgekit.findings import Finding, Level
from edgekit.preprocessing import Preprocessing, from_document

_PIXEL_MAX = 255


def under_contract(
    dataset: Dataset, artifact: Artifact, preprocess: str | None
) -> tuple[Dataset, tuple[Finding, ...]]:
    """The dataset under the contract of the model's lineage, where it has none of its own.

    Raw samples, which are integers or image files, get the lineage's contract. Real numbers are taken as
    preprocessed already, and a finding says so. ``preprocess="none"`` asks for no contract.
    """
    promised = None if preprocess == "none" else lineage_contract(artifact)
    own = dataset.preprocessing
    if promised is not None and own is None:
        if _is_raw(dataset):
            preparation = replace(dataset.preparation, preprocessing=promised)
            text = f"The contract {promised.name} of the model's lineage is applied to the samples."
            hint = "--preprocess none turns it off."
            return replace(dataset, preparation=preparation), (Finding("EK406", text, hint, Level.NOTE),)
        text = f"The model was made with the contract {promised.name}; the samples are taken as preprocessed."
        return dataset, (Finding("EK407", text, f"If they are raw: --preprocess {promised.name}."),)
    if promised is not None and own != promised:
        text = f"The model was made with another contract ({promised.name}) than the samples have."
        return dataset, (Finding("EK408", text, "The result holds for these samples alone."),)
    if own is None and preprocess is None and _is_raw(dataset):
        return dataset, _range_findings(artifact)
    return dataset, ()


def _range_findings(artifact: Artifact) -> tuple[Finding, ...]:
    """What to say about integers or images, 0 to 255, that no contract scales."""
    if not all(spec.dtype.startswith("float") or spec.quantization for spec in artifact.inputs):
        return ()
    hint = "If the model expects another range: --preprocess SPEC."
    highest = [_highest(spec) for spec in artifact.inputs]
    if None in highest:
        text = "The samples are integers or images, and no contract says how the model takes them: unscaled."
        return (Finding("EK409", text, hint, Level.NOTE),)
    small = [
        f"{spec.name!r} takes at most {top:.3g}"
        for spec, top in zip(artifact.inputs, highest, strict=True)
        if top is not None and top < _PIXEL_MAX / 2
    ]
    if small:
        text = f"The samples are raw, 0 to 255 and unscaled, but {', '.join(small)}: they saturate."
        return (Finding("EK409", text, hint),)
    return ()


def _highest(spec: TensorSpec) -> float | None:
    """The largest real number that a quantized input can hold."""
    if spec.quantization is None:
        return None
    return spec.quantization.scales[0] * (np.iinfo(spec.dtype).max - spec.quantization.zero_points[0])


def lineage_contract(artifact: Artifact) -> Preprocessing | None:
    """The contract that the lineage beside a model holds; None where there is none that can be read."""
    path = lineage_path(artifact.path)
    if not path.is_file():
        return None
    try:
        document: Any = json.loads(path.read_text("utf-8"))
    except (ValueError, OSError):
        return None
    contract = document.get("preprocessing") if isinstance(document, dict) else None
    return from_document(contract, str(path)) if isinstance(contract, dict) else None


def _is_raw(dataset: Dataset) -> bool:
    batch = next(iter(dataset.raw_batches(1)))
    return all(array.dtype.kind in "uiU" for array in batch.inputs.values())
