"""How often the latency gate raises a false alarm: a model checked against itself, many times.

    python benchmarks/latency_false_alarms.py MODEL [--checks 200] [--seconds 0.3] [--json FILE]

Every check is what `edgekit check --limit latency_ratio=X` measures: two processes with the baseline's model, one
with the candidate's, in turn. As all three run the same file, every failure is a false alarm, at whatever limit
from 1.00 on. It also prints how wide the noise floor was, and what the same runs would have said without it.
"""

import argparse
import json
import math
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from edgekit.formats import open_artifact
from edgekit.gates import latency_ratio
from edgekit.interleaved import BenchmarkOptions
from edgekit.latency_evidence import LatencyEvidence, gather
from edgekit.statistics import wilson_interval

_ALPHA = 0.05
_LIMITS = (1.00, 1.02, 1.05, 1.10)


def verdict(evidence: LatencyEvidence, limit: float, *, with_floor: bool) -> str:
    """What the gate says of one measurement."""
    floor = evidence.noise_floor if with_floor else 1.0
    shown = SimpleNamespace(
        ratio=evidence.ratio, noise_floor=floor, how="", reason="", baseline_median_ms=None
    )
    return latency_ratio.decide(SimpleNamespace(latency=shown, alpha=_ALPHA), limit).verdict.value  # type: ignore[arg-type]


def main() -> int:
    """Measure, count, print; the exit status is 1 where false alarms are more frequent than claimed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--checks", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=0.3, help="timed runs of each process")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    artifact = open_artifact(arguments.model)
    baseline = SimpleNamespace(model=artifact.describe(), benchmark=None, created="")
    found = []
    for number in range(arguments.checks):
        options = BenchmarkOptions(max_seconds=arguments.seconds, seed=number)
        found.append(gather(baseline, artifact, options=options))  # type: ignore[arg-type]
        if (number + 1) % 20 == 0:
            print(f"{number + 1} checks", file=sys.stderr, flush=True)
    ratios = np.array([math.exp(evidence.ratio.estimate) for evidence in found if evidence.ratio])
    floors = np.array([evidence.noise_floor for evidence in found])
    print(f"{len(ratios)} checks of {artifact.path.name} against itself")
    for name, values in (("ratio", ratios), ("noise floor", floors)):
        low, middle, high = np.percentile(values, [5, 50, 95])
        print(f"{name}: median {middle:.4f}, 5% {low:.4f}, 95% {high:.4f}")
    print("| limit | noise floor | fail | pass | inconclusive | false alarms [95%] |")
    print("|---|---|---|---|---|---|")
    rows, held = [], True
    for limit in _LIMITS:
        for with_floor in (True, False):
            counts = Counter(verdict(evidence, limit, with_floor=with_floor) for evidence in found)
            low, high = wilson_interval(counts["fail"], len(found))
            share = counts["fail"] / len(found)
            print(
                f"| {limit:.2f} | {'yes' if with_floor else 'no'} | {counts['fail']} | {counts['pass']} | "
                f"{counts['inconclusive']} | {100 * share:.1f}% [{100 * low:.1f}, {100 * high:.1f}] |"
            )
            rows.append({"limit": limit, "noise_floor": with_floor, **counts})
            held &= not with_floor or share <= _ALPHA
    if arguments.json:
        document = {"rows": rows, "ratios": ratios.tolist(), "noise_floors": floors.tolist()}
        arguments.json.write_text(json.dumps(document, indent=1))
    print(f"false alarms {'at most' if held else 'ABOVE'} {100 * _ALPHA:.0f}%")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
