"""Pruning: single weights, patterns of them, or whole channels."""

from dataclasses import replace
from typing import Any

from edgekit.train.exports import calibration, export_all
from edgekit.train.methods import Context, Prepared


def prepare(model: Any, context: Context) -> Prepared:
    """Whole channels with ``structured``, else zeros among the weights; both exported before and after."""
    if context.job.options.get("candidates"):
        from edgekit.train.structured import prepare_candidates

        return prepare_candidates(model, context)
    samples = calibration(context.train)
    found = export_all(model, context.job, "before", samples)
    prepared = _prepared(model, context)
    # The method's own list, to which it may add until the end.
    findings = prepared.findings
    findings.extend(found)

    def finish(fitted: Any) -> Any:
        finished = prepared.finish(fitted)
        findings.extend(export_all(finished, context.job, "after", samples))
        return finished

    return replace(prepared, finish=finish)


def _prepared(model: Any, context: Context) -> Prepared:
    if context.job.options["structured"]:
        from edgekit.train.structured import prepare_structured

        return prepare_structured(model, context)
    from edgekit.train.magnitude import prepare_magnitude

    return prepare_magnitude(model, context)
