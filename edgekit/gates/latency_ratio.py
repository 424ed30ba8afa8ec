"""The candidate's median latency over the baseline's, against ``latency_ratio``."""

import math

from edgekit.gates import Gate, Trial
from edgekit.latency_evidence import LatencyEvidence
from edgekit.noninferiority import PValues, Verdict
from edgekit.statistics import Interval

LIMIT = "latency_ratio"


def decide(trial: Trial, limit: float) -> Gate:
    """Fail where even the noise floor does not explain the ratio, pass where it stays within the limit for all of it.

    The floor is how far two runs of one and the same model were apart: two processes that do the same differ
    by where their memory lies, which no number of repetitions within a process shows.
    """
    evidence = trial.latency or LatencyEvidence()
    ratios = evidence.ratio
    if ratios is None:
        return Gate("latency_ratio", Verdict.INCONCLUSIVE, limit, "ratio", evidence.reason)
    floor = evidence.noise_floor
    p_values = PValues(
        beyond=1 - ratios.confidence_below(math.log(limit / floor)),
        within=ratios.confidence_below(math.log(limit * floor)),
    )
    verdict = p_values.verdict(trial.alpha)
    estimate, ends = math.exp(ratios.estimate), Interval(*map(math.exp, ratios.interval()))
    words = {
        Verdict.PASS: "is within",
        Verdict.FAIL: "is above",
        Verdict.INCONCLUSIVE: "may be on either side of",
    }
    reason = (
        f"The ratio of {estimate:.3f} (95% {ends.low:.3f} to {ends.high:.3f}; equal models differ by up to "
        f"{100 * (floor - 1):.1f}% here) {words[verdict]} the limit of {limit:g}; {evidence.how}."
    )
    return Gate(
        "latency_ratio",
        verdict,
        limit,
        "ratio",
        reason,
        1.0,
        estimate,
        estimate - 1.0,
        ends,
        p_value=p_values.within if verdict is Verdict.FAIL else p_values.beyond,
        details={"noise_floor": floor, "compared": evidence.how, "baseline_ms": evidence.baseline_median_ms},
    )
