"""The share of operators that run in fast kernels, at least ``placement_pct``."""

from edgekit.gates import Gate, Trial
from edgekit.latency_evidence import LatencyEvidence
from edgekit.noninferiority import Verdict

LIMIT = "placement_pct"


def decide(trial: Trial, limit: float) -> Gate:
    """Pass from the limit up; inconclusive where the runtime does not tell."""
    evidence = trial.latency or LatencyEvidence()
    placement = None if evidence.candidate is None else evidence.candidate.opened["placement"]
    if placement is None:
        reason = evidence.reason or "The runtime does not tell which operators run in fast kernels."
        return Gate("placement_pct", Verdict.INCONCLUSIVE, limit, "percent", reason)
    share = placement["accelerated_pct"]
    slow = sorted({entry["op"] for entry in placement["ops"] if not entry["accelerated"]})
    verdict = Verdict.PASS if share >= limit else Verdict.FAIL
    reason = f"{share:g}% of the operators are accelerated, {limit:g}% are asked for."
    if verdict is Verdict.FAIL:
        reason = f"{reason} Outside: {', '.join(slow)}."
    before = (evidence.baseline_facts.get("placement") or {}).get("accelerated_pct")
    return Gate(
        "placement_pct",
        verdict,
        limit,
        "percent",
        reason,
        before,
        share,
        None if before is None else share - before,
    )
