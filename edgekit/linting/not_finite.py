"""NaN and infinity, which spoil every range that they take part in."""

from edgekit.evidence import Evidence
from edgekit.linting import Judgement, clean, mistake

CODE = "EK249"
LOOKS_FOR = "NaN and infinity"


def judge(evidence: Evidence) -> Judgement:
    """None is allowed."""
    bad = evidence.samples.count - int(evidence.samples.finite.sum())
    if bad:
        first = int((~evidence.samples.finite).argmax())
        text = f"{bad} of {evidence.samples.count} samples hold NaN or infinity, the first of them is sample {first}."
        return mistake(
            text,
            "Repair or remove them: look for divisions by zero, logarithms of zero and missing readings.",
        )
    return clean(f"All values of {evidence.samples.count} samples are finite.")
