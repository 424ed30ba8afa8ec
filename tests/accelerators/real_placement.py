"""Where the operators of a file really run: what LiteRT's interpreter says once XNNPACK has taken its share."""

from edgekit.worker_process import WorkerProcess


def xnnpack_took(path):
    """For each operator its kind and whether XNNPACK took it, in order."""
    with WorkerProcess(str(path)) as worker:
        opened = worker.ask(
            "open",
            deadline_s=120,
            model=str(path),
            runtime="litert",
            threads=1,
            xnnpack=True,
            delegate=None,
            seed=0,
            cpu_affinity=[],
        )
    return [(entry["op"], entry["accelerated"]) for entry in opened["placement"]["ops"]]
