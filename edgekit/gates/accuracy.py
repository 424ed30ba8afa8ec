"""The drop of the metric on the same samples, tested against ``max_drop``."""

from edgekit.errors import UsageError
from edgekit.gates import Gate, Trial, drop_or_gain, points
from edgekit.metrics import Context, Drop
from edgekit.noninferiority import PValues, Verdict, mcnemar_p_value

LIMIT = "max_drop"


def decide(trial: Trial, limit: float) -> Gate:
    """Pass where a drop of the limit is excluded, fail where a drop within the limit is.

    Raises:
        UsageError: The limit of a fraction is 1 or more.
    """
    unit = trial.baseline.unit
    if unit == "fraction" and limit >= 1:
        raise UsageError(
            "EK476",
            f"max_drop is {limit:g}, which is {100 * limit:g} points.",
            f"A drop is given as a fraction: {limit / 100:g} is {limit:g} points.",
        )
    drop = trial.metric.drop(trial.before, trial.after)
    p_values = drop.p_values(limit)
    verdict = p_values.verdict(trial.alpha)
    before, after = (trial.metric.summarize(rows, _context(trial)) for rows in (trial.before, trial.after))
    needed = None
    if verdict is Verdict.INCONCLUSIVE:
        needed = drop.samples_needed(limit, alpha=trial.alpha, power=trial.budget.power)
    return Gate(
        "accuracy",
        verdict,
        limit,
        unit,
        _reason(trial, drop, p_values, limit, needed),
        before.value,
        after.value,
        drop.value,
        drop.ci95,
        drop.n,
        needed if needed is None or needed > drop.n else None,
        p_value=p_values.within if verdict is Verdict.FAIL else p_values.beyond,
        details=_details(drop, p_values),
    )


def _context(trial: Trial) -> Context:
    return Context(trial.class_names, tuple(spec.name for spec in trial.candidate.outputs))


def _details(drop: Drop, p_values: PValues) -> dict[str, float | int | str | None]:
    details: dict[str, float | int | str | None] = {
        "p_beyond_limit": p_values.beyond,
        "p_within_limit": p_values.within,
        "test": "BCa bootstrap",
    }
    if drop.broken is not None and drop.fixed is not None:
        details |= {
            "test": "exact score test",
            "broken": drop.broken,
            "fixed": drop.fixed,
            "discordance": (drop.broken + drop.fixed) / drop.n,
            "mcnemar_p": mcnemar_p_value(drop.broken, drop.fixed),
        }
    return details


def _reason(trial: Trial, drop: Drop, p_values: PValues, limit: float, needed: int | None) -> str:
    unit = trial.baseline.unit
    measured = f"{drop_or_gain(drop.value, unit)} on {drop.n:,} samples"
    verdict, allowed = p_values.verdict(trial.alpha), points(limit, unit)
    if verdict is Verdict.PASS:
        return f"With {measured}, a true one of {allowed} is excluded (p = {p_values.beyond:.2g})."
    if verdict is Verdict.FAIL:
        return f"With {measured}, a true one within {allowed} is excluded (p = {p_values.within:.2g})."
    start = f"With {measured}, the true one may be on either side of {allowed}"
    if needed is None:
        return f"{start}."
    if needed > drop.n:
        return f"{start}; about {needed:,} samples would tell, {needed - drop.n:,} more."
    return f"{start}: it is near the limit, which more samples alone do not settle."
