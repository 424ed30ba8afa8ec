"""How many values a kernel of the candidate's file has, at most ``max_clusters``."""

from edgekit.artifact import Format
from edgekit.gates import Gate, Trial
from edgekit.noninferiority import Verdict
from edgekit.weight_structure import kernels, listed

LIMIT = "max_clusters"


def decide(trial: Trial, limit: float) -> Gate:
    """Pass where no kernel has more; inconclusive where the file's weights cannot be read."""
    if trial.candidate.format is not Format.TFLITE:
        reason = f"The weights of a {trial.candidate.format} file are not read; give the .tflite file."
        return Gate(LIMIT, Verdict.INCONCLUSIVE, limit, "", reason)
    found = kernels(trial.candidate.path)
    if not found:
        return Gate(LIMIT, Verdict.INCONCLUSIVE, limit, "", "The file has no weights that can be read.")
    most = max(kernel.values for kernel in found)
    richer = tuple(kernel for kernel in found if kernel.values > limit)
    reason = f"No kernel has more than {most} values, {limit:g} are allowed."
    if richer:
        reason = f"{len(richer)} of {len(found)} kernels have more than {limit:g} values, up to {most}: "
        reason += f"{listed(richer)}."
    return Gate(LIMIT, Verdict.FAIL if richer else Verdict.PASS, limit, "", reason, candidate=most)
