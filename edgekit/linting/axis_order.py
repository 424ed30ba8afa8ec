"""Pictures whose axes are in another order: NCHW where the model takes NHWC, or reshaped where they had to be moved."""

import numpy as np

from edgekit.evidence import Evidence
from edgekit.evidence.comparing import CERTAIN, reference_score, standard_score
from edgekit.evidence.readings import AS_GIVEN, LAYOUT, Picture
from edgekit.evidence.seen import Seen
from edgekit.linting import Judgement, clean, mistake, not_run

CODE = "EK242"
LOOKS_FOR = "axes in another order (NCHW, NHWC)"

# Neighbours differ by so much more than in the other order.
_ROUGHER = 1.2
_FIX = (
    "Move the axes, and do not reshape: np.moveaxis(x, 1, -1) makes NHWC of NCHW; or give a contract with data_layout "
    "and layout (--preprocess SPEC)."
)


def judge(evidence: Evidence) -> Judgement:
    """By the shape where it tells, by how smooth pictures are, by labels and by a reference."""
    picture = Picture.of(evidence.artifact.inputs)
    if picture is None:
        return not_run("the model takes no pictures of a fixed size.")
    shape = evidence.samples.shapes[picture.name]
    if shape != picture.shape:
        text = f"The samples have shape {list(shape)}, and {picture.name!r} takes {list(picture.shape)}."
        return mistake(text, _FIX)
    if LAYOUT not in evidence.samples.fields:
        return not_run("one channel and equal sides: no order of the axes shows.")
    return _by_content(evidence, has_colors=picture.channels > 1)


def _by_content(evidence: Evidence, *, has_colors: bool) -> Judgement:
    best = evidence.by_labels
    score = reference_score(evidence.samples, evidence.reference, LAYOUT)
    rougher = _rougher(evidence.samples) if has_colors else None
    if rougher is not None and rougher > _ROUGHER:
        return mistake(
            f"Neighbours differ {rougher:.2g} times as much as in the other order of the axes.", _FIX
        )
    if best is not None and best.kind == "layout":
        return mistake(
            f"Labels are {best.ratio:.2g} times as likely to the model in another order of the axes.", _FIX
        )
    if score is not None and score < -CERTAIN:
        text = f"In another order of the axes the samples fit the reference by {-score:.1f} standard errors better."
        return mistake(text, _FIX)
    asked = ["neighbouring pixels"] if rougher is not None else []
    asked += ["labels"] if best is not None and LAYOUT in best.worse else []
    asked += ["the reference"] if score is not None else []
    if not asked:
        return not_run("there is one channel, and neither labels of classes nor a reference tell.")
    return clean(f"The order fits {', '.join(asked)}.")


def _rougher(samples: Seen) -> float:
    """How many times as much neighbours differ as in the other order; 1 where that is not certain."""
    rough = (np.log(np.maximum(samples.roughness[name], 1e-12)) for name in (AS_GIVEN, LAYOUT))
    given, other = rough
    return float(np.exp((given - other).mean())) if abs(standard_score(given - other)) > CERTAIN else 1.0
