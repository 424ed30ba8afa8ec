"""Which processes train together: the workers of ``TF_CONFIG``, and which of them this one is."""

import json
import os
from dataclasses import dataclass
from typing import Any

from edgekit.errors import UsageError

# TensorFlow's own names of tasks that train, in their order; the first of all is the chief.
_TRAINING = ("chief", "worker")
_MOST_WORKERS = 1024
_DEADLINE_S = 600.0
_EXAMPLE = (
    'Set TF_CONFIG=\'{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, '
    '"task": {"type": "worker", "index": 0}}\', with another index for each worker.'
)


@dataclass(frozen=True)
class Cluster:
    """The addresses of all workers, ``"10.0.0.1:2222"``, and the place of this process among them; 0 is the chief."""

    addresses: tuple[str, ...]
    index: int

    @classmethod
    def from_environment(cls) -> "Cluster":
        """The cluster that ``TF_CONFIG`` describes, as TensorFlow reads it.

        Raises:
            UsageError: It is not set, or describes no cluster of two workers or more.
        """
        text = os.environ.get("TF_CONFIG", "")
        if not text:
            raise _unfit("is not set")
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _unfit("is no JSON document") from error
        cluster, task = (_table(document, name) for name in ("cluster", "task"))
        tasks = [(kind, number) for kind in _TRAINING for number in range(len(_addresses(cluster, kind)))]
        if others := sorted(set(cluster) - set(_TRAINING)):
            raise _unfit(f"names tasks that do not train: {', '.join(others)[:100]}")
        if not 2 <= len(tasks) <= _MOST_WORKERS:
            raise _unfit(f"names {len(tasks)} workers, where 2 to {_MOST_WORKERS} can train together")
        own = (task.get("type"), task.get("index"))
        if own not in tasks or type(own[1]) is not int:
            raise _unfit(
                f"says that this is {_shown(own[0])} {_shown(own[1])}, which its cluster does not have"
            )
        addresses = tuple(address for kind in _TRAINING for address in _addresses(cluster, kind))
        return cls(addresses, tasks.index(own))

    @property
    def is_chief(self) -> bool:
        """Whether this process writes what is trained."""
        return self.index == 0

    @property
    def name(self) -> str:
        """This process in a sentence: ``"worker 0 of 2"``."""
        return f"worker {self.index} of {len(self.addresses)}"


def cluster_of(strategy: str | None) -> Cluster | None:
    """The cluster of a training with this strategy; None where it runs in one process.

    Raises:
        UsageError: The strategy needs a cluster, and ``TF_CONFIG`` describes none.
    """
    return Cluster.from_environment() if strategy == "multiworker" else None


def deadline_s() -> float:
    """How long workers wait for each other, in seconds: ``EDGEKIT_WORKERS_DEADLINE_S``, else ten minutes.

    Raises:
        UsageError: The variable holds no number above 0.
    """
    text = os.environ.get("EDGEKIT_WORKERS_DEADLINE_S", str(_DEADLINE_S))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        message = f"EDGEKIT_WORKERS_DEADLINE_S is {text[:40]!r}, which is no number of seconds."
        raise UsageError("EK787", message, "Set it to 600, for ten minutes.")
    return seconds


def _table(document: Any, name: str) -> dict[str, Any]:
    table = document.get(name) if isinstance(document, dict) else None
    if not isinstance(table, dict):
        raise _unfit(f"has no table {name!r}")
    return table


def _addresses(cluster: dict[str, Any], kind: str) -> list[str]:
    found = cluster.get(kind, [])
    if not isinstance(found, list) or not all(
        isinstance(entry, str) and _is_address(entry) for entry in found
    ):
        raise _unfit(f"has no list of addresses, each HOST:PORT, as its {kind!r}")
    return found


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 65536


def _shown(value: Any) -> str:
    return repr(value)[:40]


def _unfit(what: str) -> UsageError:
    return UsageError("EK787", f"TF_CONFIG {what}.", _EXAMPLE)
