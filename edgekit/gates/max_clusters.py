"""How many values a kernel of the candidate's file has, at most ``max_clusters``."""

from edgekit.artifact import Format
from edgekit.gates import Gate, Trial
from edgekit.noninferiority import Verdict
from edgekit.tflite_kernels import counts, stored_kernels

LIMIT = "max_clusters"

_NAMED = 5


def decide(trial: Trial, limit: float) -> Gate:
    """Pass where no kernel has more; inconclusive where the file's weights cannot be read."""
    if trial.candidate.format is not Format.TFLITE:
        reason = f"The weights of a {trial.candidate.format} file are not read; give the .tflite file."
        return Gate(LIMIT, Verdict.INCONCLUSIVE, limit, "", reason)
    found = {
        name: counts(values)["distinct"] for name, values in stored_kernels(trial.candidate.path).items()
    }
    if not found:
        return Gate(LIMIT, Verdict.INCONCLUSIVE, limit, "", "The file has no weights that can be read.")
    most = max(found.values())
    richer = [name for name, distinct in found.items() if distinct > limit]
    reason = f"No kernel has more than {most} values, {limit:g} are allowed."
    if richer:
        reason = f"{len(richer)} of {len(found)} kernels have more than {limit:g} values, up to {most}: "
        more = f" and {len(richer) - _NAMED} more" if len(richer) > _NAMED else ""
        reason += f"{', '.join(richer[:_NAMED])}{more}."
    return Gate(LIMIT, Verdict.FAIL if richer else Verdict.PASS, limit, "", reason, candidate=most)
