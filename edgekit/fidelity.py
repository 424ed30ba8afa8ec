"""Whether a conversion computes what its source computes: both in float, so little may differ."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.artifact import Artifact
from edgekit.errors import ModelError
from edgekit.findings import Finding
from edgekit.reference import Reference
from edgekit.tensor import Array, Difference, difference

# Another order of float32 sums leaves 100 dB and more; approximations of activations leave about 70.
_NOTICED_DB = 60.0
# A transposed input or lost weights leave less than nothing.
_REFUSED_DB = 20.0


@dataclass(frozen=True)
class Fidelity:
    """How near a converted model is to its source, by the names of the source's outputs.

    ``top1_agreement`` is the share of samples whose largest value stands in the same place, for outputs of one value
    per class: ``{"classes": 1.0}``.
    """

    samples: int
    differences: Mapping[str, Difference]
    top1_agreement: Mapping[str, float]

    @property
    def snr_db(self) -> float:
        """The SNR of the worst output in dB."""
        return min((d.snr_db for d in self.differences.values()), default=math.inf)

    def describe(self) -> dict[str, Any]:
        """The comparison as it stands in JSON documents."""
        outputs = [
            {
                "name": name,
                "snr_db": found.snr_db,
                "max_abs_difference": found.max_abs,
                "top1_agreement": self.top1_agreement.get(name),
            }
            for name, found in self.differences.items()
        ]
        return {"samples": self.samples, "snr_db": self.snr_db, "outputs": outputs}

    def findings(self) -> Iterator[Finding]:
        """What a user should know before the converted model is used."""
        for name, found in self.differences.items():
            if found.snr_db < _NOTICED_DB:
                yield Finding(
                    "EK340",
                    f"The output {name} is off by more than rounding: SNR {found.snr_db:.1f} dB, "
                    f"largest difference {found.max_abs:.3g}.",
                    "Measure the accuracy of both: `edgekit compare SOURCE OUT --data DATA`.",
                )
        for name, share in self.top1_agreement.items():
            if share < 1:
                yield Finding(
                    "EK345",
                    f"{round((1 - share) * self.samples)} of {self.samples} samples have another "
                    f"largest value in {name}.",
                    "Where classes are nearly tied that may be rounding; `edgekit evaluate` tells what it costs.",
                )


def measure(reference: Reference, converted: Artifact) -> Fidelity:
    """Run a converted model on the samples of the reference, and compare.

    Raises:
        ModelError: It does not run, or computes something else.
    """
    outputs = reference.outputs_of(converted)
    differences = {name: difference(exact, outputs[name]) for name, exact in reference.outputs.items()}
    agreement = {
        name: float(np.mean(exact.argmax(-1) == outputs[name].argmax(-1)))
        for name, exact in reference.outputs.items()
        if _has_classes(exact)
    }
    fidelity = Fidelity(reference.count, differences, agreement)
    if fidelity.snr_db < _REFUSED_DB:
        worst = min(differences, key=lambda name: differences[name].snr_db)
        raise ModelError(
            "EK341",
            f"The converted model computes something else: SNR {fidelity.snr_db:.1f} dB in its output {worst}.",
            "The converter lost weights or changed a layout; nothing was written. Please report the model.",
            detail=str(dict(differences)),
        )
    return fidelity


def _has_classes(values: Array) -> bool:
    return values.ndim == 2 and values.shape[1] > 1 and bool(np.issubdtype(values.dtype, np.floating))
