"""A model, and perhaps a reference, run over a dataset: in worker processes where the runtime allows it.

Runtimes execute one sample at a time on one thread, which is how devices do it, so more cores are used by
more processes. They also keep a runtime's crash away from edgekit.
"""

from edgekit.answering.job import Job, Result
from edgekit.answering.pool import Speed, answers

__all__ = ["Job", "Result", "Speed", "answers"]
