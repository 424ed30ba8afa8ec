"""Samples that the evaluation uses too: accuracy measured on what was calibrated with is too good."""

from edgekit.evidence import Evidence
from edgekit.linting import Judgement, clean, mistake, not_run, percent

CODE = "EK248"
LOOKS_FOR = "samples of the evaluation data"

# Silence and blank pictures are equal everywhere.
_MOST = 0.05


def judge(evidence: Evidence) -> Judgement:
    """By digest of the values that the model would be given."""
    if evidence.against is None:
        return not_run("--against was not given.")
    known = {digest.tobytes() for digest in evidence.against.digests}
    count = evidence.samples.count
    shared = sum(digest.tobytes() in known for digest in evidence.samples.digests)
    among = f"among the {evidence.against.count} of {evidence.against.spec}"
    text = f"{shared} of {count} samples ({percent(shared, count)}) are {among}."
    if shared > _MOST * count:
        return mistake(
            text, "Calibrate on training data, and evaluate on what neither training nor calibration saw."
        )
    return clean(text)
