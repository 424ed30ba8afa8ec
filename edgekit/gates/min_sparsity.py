"""The share of zeros among the weights of the candidate's file, at least ``min_sparsity``."""

from edgekit.artifact import Format
from edgekit.gates import Gate, Trial
from edgekit.noninferiority import Verdict
from edgekit.tflite_kernels import sparsity, stored_kernels

LIMIT = "min_sparsity"


def decide(trial: Trial, limit: float) -> Gate:
    """Pass from the limit up; inconclusive where the file's weights cannot be read."""
    if trial.candidate.format is not Format.TFLITE:
        reason = f"The weights of a {trial.candidate.format} file are not read; give the .tflite file."
        return Gate(LIMIT, Verdict.INCONCLUSIVE, limit, "fraction", reason)
    found = stored_kernels(trial.candidate.path)
    if not found:
        return Gate(
            LIMIT, Verdict.INCONCLUSIVE, limit, "fraction", "The file has no weights that can be read."
        )
    share = sparsity(found)
    verdict = Verdict.PASS if share >= limit else Verdict.FAIL
    reason = f"{100 * share:.2f}% of the weights are zero, {100 * limit:g}% are asked for."
    return Gate(LIMIT, verdict, limit, "fraction", reason, candidate=share)
