"""The size of the candidate's file, exactly."""

from edgekit.gates import Gate, Trial, at_most

LIMIT = "size_bytes"


def decide(trial: Trial, limit: float) -> Gate:
    """Pass up to the limit."""
    return at_most(
        "size_bytes", trial.baseline.model["size_bytes"], trial.candidate.size_bytes, limit, "bytes"
    )
