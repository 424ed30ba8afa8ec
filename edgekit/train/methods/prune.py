"""Pruning: single weights, patterns of them, or whole channels."""

import importlib
from typing import Any

from edgekit.train.methods import Context, Prepared


def prepare(model: Any, context: Context) -> Prepared:
    """Whole channels with ``structured``, else zeros among the weights."""
    if context.job.options["structured"]:
        from edgekit.train.structured import prepare_structured

        return prepare_structured(model, context)
    prepared: Prepared = importlib.import_module("edgekit.train.magnitude").prepare_magnitude(model, context)
    return prepared
