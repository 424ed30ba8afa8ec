"""What could mend a quantized model that lost too much: options of ``quantize``, the cheapest first."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np

from edgekit.artifact import Artifact
from edgekit.data import Dataset, open_dataset
from edgekit.layerwise.causes import Cause, short
from edgekit.layerwise.sensitivity import Sensitivity
from edgekit.plan import Effort
from edgekit.recipe import Mode
from edgekit.tensor import Array

# Extremes are looked for in so many samples.
_SAMPLES, _BATCH = 256, 64
# At most a quarter of the calibration samples are taken for outliers.
_MOST_OUTLIERS = 4
# A calibration sample that goes this many times beyond what the data hold is an outlier.
_OUTLIER = 2.0
# Seconds for searches of more effort, where nobody gave them another bound.
_EFFORT_S = 120.0
_LISTED = 3


@dataclass(frozen=True)
class Remedy:
    """Something to try, and what came of it.

    ``option`` says it in words, ``options`` are those of ``quantize``, and ``arguments`` are what a user types where
    that is all it takes.
    """

    option: str
    options: Mapping[str, Any] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    snr_db: float | None = None
    drop: float | None = None
    drop_ci95: tuple[float, float] | None = None
    size_bytes: int | None = None
    mends: bool = False
    error: str = ""

    def describe(self) -> dict[str, Any]:
        """The remedy as it stands in JSON documents."""
        return {
            "option": self.option,
            "arguments": list(self.arguments),
            "snr_db": self.snr_db,
            "drop": self.drop,
            "drop_ci95": None if self.drop_ci95 is None else list(self.drop_ci95),
            "size_bytes": self.size_bytes,
            "mends": self.mends,
            "error": self.error,
        }


def remedies_for(
    found: Sensitivity,
    reasons: Sequence[Cause],
    given: Mapping[str, Any],
    spare: Dataset | None,
    *,
    data: Dataset,
    source: Artifact,
) -> Iterator[Remedy]:
    """What to try, the cheapest first.

    Args:
        found: The layers of the float model and what their quantization costs.
        reasons: Why it costs that much.
        given: The options of ``quantize`` that the file was made with.
        spare: Labelled samples that may calibrate, where calibration may be at fault.
        data: Samples as the model will see them.
        source: The float model.
    """
    if any(reason.kind == "stretched" for reason in reasons):
        yield from _without_outliers(given, data, source)
    if spare is not None:
        text = f"calibration with {spare.count} samples of the data, judged by the others"
        yield Remedy(text, {"calibration": spare})
    mode = found.recipe.default.mode
    if mode is Mode.STATIC:
        if given.get("equalize") == "never":
            yield Remedy("--equalize auto", {"equalize": "auto"}, ("--equalize", "auto"))
        efforts = get_args(Effort)
        for effort in efforts[efforts.index(given.get("effort", "low")) + 1 :]:
            budget = given.get("time_budget_s") or _EFFORT_S
            yield Remedy(
                f"--effort {effort}", {"effort": effort, "time_budget_s": budget}, ("--effort", effort)
            )
    kept = found.spared.layers if found.spared is not None else ()
    if kept and all(layer.name for layer in kept):
        patterns = [rule.layers for rule in found.sparing(kept).rules[len(found.recipe.rules) :]]
        names = ", ".join(repr(short(layer.name)) for layer in kept[:_LISTED])
        more = f" and {len(kept) - _LISTED} more" if len(kept) > _LISTED else ""
        options = {"keep_float": [*given.get("keep_float", ()), *patterns]}
        words = tuple(word for pattern in patterns for word in ("--keep-float", pattern))
        yield Remedy(f"--keep-float for {names}{more}", options, words)
    wider = {"static_wi8_ai8": ("int16x8", "dynamic"), "static_wi4_ai8": ("int8", "dynamic")}
    for recipe in wider.get(found.recipe.default.name, ()):
        yield Remedy(f"-r {recipe}", {"recipe": recipe}, ("-r", recipe))


def _without_outliers(given: Mapping[str, Any], data: Dataset, source: Artifact) -> Iterator[Remedy]:
    """Calibration without the samples that go far beyond what the data hold."""
    calibration = open_dataset(given["calibration"], preprocess=given.get("preprocess"))
    some = data.spread(min(_SAMPLES, data.count))
    limit = _OUTLIER * float(np.max(_largest(some, source)))
    outliers = [int(index) for index in np.flatnonzero(_largest(calibration, source) > limit)]
    if not 0 < len(outliers) <= calibration.count // _MOST_OUTLIERS:
        return
    numbers = ", ".join(map(str, outliers[:_LISTED])) + (" ..." if len(outliers) > _LISTED else "")
    kept = [index for index in range(calibration.count) if index not in set(outliers)]
    noun = "sample" if len(outliers) == 1 else "samples"
    yield Remedy(
        f"calibration without {noun} {numbers} (counted from 0)", {"calibration": calibration.subset(kept)}
    )


def _largest(data: Dataset, source: Artifact) -> Array:
    """The largest value of each sample, in size."""
    batches = data.bind(source.inputs).batches(_BATCH)
    rows = [
        np.max([np.abs(v).reshape(len(v), -1).max(axis=1) for v in batch.inputs.values()], axis=0)
        for batch in batches
    ]
    return np.asarray(np.concatenate(rows))
