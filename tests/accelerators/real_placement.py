"""Where the operators of a file really run: what LiteRT says once a delegate has taken its share."""

from edgekit.worker_process import WorkerProcess


def opened(path, *, xnnpack=False, delegate=None):
    """The worker's account of opening a model."""
    with WorkerProcess(str(path)) as worker:
        return worker.ask(
            "open",
            deadline_s=120,
            model=str(path),
            runtime="litert",
            threads=1,
            xnnpack=xnnpack,
            delegate=delegate,
            seed=0,
            cpu_affinity=[],
        )


def xnnpack_took(path):
    """For each operator its kind and whether XNNPACK took it, in order."""
    return [(entry["op"], entry["accelerated"]) for entry in opened(path, xnnpack=True)["placement"]["ops"]]
