"""The memory that a process needs above the bare runtime to run the candidate."""

from edgekit.gates import Gate, Trial, at_most
from edgekit.latency_evidence import LatencyEvidence
from edgekit.noninferiority import Verdict

LIMIT = "peak_memory_bytes"


def decide(trial: Trial, limit: float) -> Gate:
    """Pass up to the limit; inconclusive where the machine does not tell."""
    evidence = trial.latency or LatencyEvidence()
    if evidence.candidate is None:
        return Gate("peak_memory_bytes", Verdict.INCONCLUSIVE, limit, "bytes", evidence.reason)
    peak = evidence.candidate.opened["peak_memory_bytes"]
    return at_most(
        "peak_memory_bytes", evidence.baseline_facts.get("peak_memory_bytes"), peak, limit, "bytes"
    )
