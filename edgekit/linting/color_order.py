"""Pictures whose color channels are in the other order: BGR where the model learned RGB, or the other way round."""

from edgekit.evidence import Evidence
from edgekit.evidence.comparing import CERTAIN, reference_score
from edgekit.evidence.readings import COLORS, Picture
from edgekit.linting import Judgement, clean, mistake, not_run

CODE = "EK241"
LOOKS_FOR = "red and blue exchanged"

_FIX = 'Prepare them in the order that the model learned: a contract with color = "rgb" or "bgr" (--preprocess SPEC).'


def judge(evidence: Evidence) -> Judgement:
    """By labels, and by how colors are spread over the pictures of a reference."""
    picture = Picture.of(evidence.artifact.inputs)
    if picture is None or picture.channels != 3:
        return not_run("the model takes no pictures of three channels and a fixed size.")
    best = evidence.by_labels
    if best is not None and best.kind == "colors":
        text = f"Labels are {best.ratio:.2g} times as likely to the model where red and blue are exchanged."
        return mistake(text, _FIX)
    score = reference_score(evidence.samples, evidence.reference, COLORS)
    if score is not None and score < -CERTAIN:
        text = (
            f"Red and blue exchanged, the samples fit the reference better, by {-score:.1f} standard errors."
        )
        return mistake(text, _FIX)
    asked = ["labels"] if best is not None and COLORS in best.worse else []
    asked += ["the reference"] if score is not None else []
    if not asked:
        given = "the reference does not either" if evidence.reference else "--reference was not given"
        return not_run(f"labels of classes do not tell the two orders apart, and {given}.")
    return clean(f"The order fits {' and '.join(asked)}.")
