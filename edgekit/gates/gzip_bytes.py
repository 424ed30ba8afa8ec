"""The size of the candidate's file after gzip, which is what an update transfers."""

from edgekit import files
from edgekit.gates import Gate, Trial, at_most

LIMIT = "gzip_bytes"


def decide(trial: Trial, limit: float) -> Gate:
    """Pass up to the limit."""
    packed = files.gzip_bytes(trial.candidate.path)
    return at_most("gzip_bytes", trial.baseline.model["gzip_bytes"], packed, limit, "bytes")
