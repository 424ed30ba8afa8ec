"""Pruning: single weights, patterns of them, or whole channels."""

import importlib
from dataclasses import replace
from typing import Any

from edgekit.train.exports import calibration, export_both
from edgekit.train.methods import Context, Prepared


def prepare(model: Any, context: Context) -> Prepared:
    """Whole channels with ``structured``, else zeros among the weights; both exported before and after."""
    if context.job.options.get("candidates"):
        from edgekit.train.structured import prepare_candidates

        return prepare_candidates(model, context)
    samples = calibration(context.train)
    findings = export_both(model, context.job, "before", samples)
    prepared = _prepared(model, context)

    def finish(fitted: Any) -> Any:
        finished = prepared.finish(fitted)
        findings.extend(export_both(finished, context.job, "after", samples))
        return finished

    findings.extend(prepared.findings)
    return replace(prepared, finish=finish, findings=findings)


def _prepared(model: Any, context: Context) -> Prepared:
    if context.job.options["structured"]:
        from edgekit.train.structured import prepare_structured

        return prepare_structured(model, context)
    prepared: Prepared = importlib.import_module("edgekit.train.magnitude").prepare_magnitude(model, context)
    return prepared
