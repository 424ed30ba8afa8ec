"""Distillation: the student as it is given, or made narrower; the teacher is added to every method alike."""

from typing import Any

from edgekit.train.methods import Context, Prepared
from edgekit.train.width import thin


def prepare(model: Any, context: Context) -> Prepared:
    """The student: the job's model, or ``{"width": 0.5}`` of it with fresh weights."""
    width = context.job.options.get("width")
    student = model if width is None else thin(model, float(width))
    before, after = model.count_params(), student.count_params()
    return Prepared(
        student, report=lambda _made: {"parameters": {"given": int(before), "student": int(after)}}
    )
