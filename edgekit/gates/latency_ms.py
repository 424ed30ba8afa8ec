"""The candidate's median latency against ``latency_ms`` on this device."""

from edgekit.gates import Gate, Trial
from edgekit.latency_evidence import LatencyEvidence
from edgekit.measurement import latency_ms
from edgekit.noninferiority import Verdict
from edgekit.statistics import Interval

LIMIT = "latency_ms"


def decide(trial: Trial, limit: float) -> Gate:
    """Pass or fail where the whole interval of the median is on one side of the limit."""
    evidence = trial.latency or LatencyEvidence()
    if evidence.candidate is None:
        return Gate("latency_ms", Verdict.INCONCLUSIVE, limit, "ms", evidence.reason)
    measured = latency_ms(evidence.candidate.latency)
    ends = measured["ci95_median"]
    if ends is None or evidence.disturbance:
        reason = evidence.disturbance or "Too few blocks were measured for an interval; raise --max-seconds."
        return Gate("latency_ms", Verdict.INCONCLUSIVE, limit, "ms", reason, candidate=measured["median"])
    interval = Interval(*ends)
    verdict = Verdict.INCONCLUSIVE
    if interval.high <= limit:
        verdict = Verdict.PASS
    elif interval.low > limit:
        verdict = Verdict.FAIL
    words = {
        Verdict.PASS: "is within",
        Verdict.FAIL: "is above",
        Verdict.INCONCLUSIVE: "may be on either side of",
    }
    reason = (
        f"The median of {measured['median']:.3f} ms (95% {interval.low:.3f} to {interval.high:.3f}) "
        f"{words[verdict]} the limit of {limit:g} ms."
    )
    return Gate(
        "latency_ms",
        verdict,
        limit,
        "ms",
        reason,
        evidence.baseline_median_ms,
        measured["median"],
        None,
        interval,
    )
