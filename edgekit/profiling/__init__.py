"""How long each operator of a model takes, by the runtime's own clock, in a process of its own.

Reading a clock around every operator costs time too: the shares tell where the time goes, and how long a whole run
takes is measured without them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_NOBODY = -1


@dataclass(frozen=True)
class OperatorTime:
    """An operator's mean time over the runs: ``OperatorTime("CONV_2D", "conv1", ("Convolution ... IGEMM",), 11.0)``.

    ``kernels`` are what it ran as, in the runtime's words: one operator may be several, or a part of its neighbour's.
    """

    kind: str
    name: str
    kernels: tuple[str, ...]
    mean_us: float

    def describe(self, total_us: float) -> dict[str, Any]:
        """The operator as it stands in JSON documents."""
        share = 100 * self.mean_us / total_us if total_us else 0.0
        return {
            "op": self.kind,
            "name": self.name,
            "kernels": list(self.kernels),
            "mean_us": self.mean_us,
            "share_pct": share,
        }


@dataclass(frozen=True)
class Profile:
    """The operators in the order in which they ran. ``method`` says whose clock it was, and how fine."""

    method: str
    runs: int
    operators: tuple[OperatorTime, ...]

    @property
    def total_us(self) -> float:
        """What all operators take together; the runtime's work between them is not in it."""
        return sum(operator.mean_us for operator in self.operators)

    def by_kind(self) -> list[tuple[str, int, float]]:
        """Kind, count and time in microseconds, the longest first."""
        found: dict[str, tuple[int, float]] = {}
        for operator in self.operators:
            count, time_us = found.get(operator.kind, (0, 0.0))
            found[operator.kind] = count + 1, time_us + operator.mean_us
        return sorted(((kind, *entry) for kind, entry in found.items()), key=lambda row: -row[2])

    def describe(self) -> dict[str, Any]:
        """The profile as it stands in JSON documents."""
        return {
            "method": self.method,
            "runs": self.runs,
            "total_us": self.total_us,
            "ops": [operator.describe(self.total_us) for operator in self.operators],
            "kinds": [
                {"op": kind, "count": count, "mean_us": time_us} for kind, count, time_us in self.by_kind()
            ],
        }


@dataclass(frozen=True)
class Timed:
    """A kernel as the runtime timed it: ``Timed("Convolution (NHWC, QC8) IGEMM", 11.0, 0)``.

    ``place`` counts the kernels of a group that a delegate took; outside of them it is the operator's in the file.
    """

    kernel: str
    mean_us: float
    place: int
    is_delegated: bool = True


@dataclass(frozen=True)
class Node:
    """An operator of the file, and which group of a delegate took it, if one did."""

    kind: str
    name: str
    group: int | None = None


def named(
    timed: Sequence[Timed], nodes: Sequence[Node], families: Mapping[str, Sequence[str]]
) -> list[OperatorTime]:
    """Give the kernels of a delegate to the operators that they belong to.

    A delegate runs operators of one kind in the order of the file, some as several kernels, and some not at all,
    because another does their work. So each kernel goes to the first operator of its group that goes by such a name
    and has none yet, and one that fits none to the operator before it.

    Args:
        timed: The kernels in the order in which they ran.
        nodes: The operators of the file.
        families: Beginnings of kernels' names by the kind of operator, ``{"CONV_2D": ["Convolution"]}``.
    """
    groups, owners = _groups(nodes), list[int]()
    free: list[int] = []
    for kernel in timed:
        if not kernel.is_delegated:
            owners.append(kernel.place)
            continue
        if kernel.place == 0:
            free = groups.pop(0) if groups else []
        words = {index: tuple(families.get(nodes[index].kind, ())) for index in free}
        found = next((index for index in free if kernel.kernel.startswith(words[index])), None)
        if found is not None:
            free.remove(found)
            owners.append(found)
        else:
            owners.append(owners[-1] if owners and kernel.place else free[0] if free else _NOBODY)
    pairs = list(zip(timed, owners, strict=True))
    return [
        _operator(
            None if index == _NOBODY else nodes[index], [kernel for kernel, owner in pairs if owner == index]
        )
        for index in dict.fromkeys(owners)
    ]


def _groups(nodes: Sequence[Node]) -> list[list[int]]:
    numbers = dict.fromkeys(node.group for node in nodes if node.group is not None)
    return [[index for index, node in enumerate(nodes) if node.group == number] for number in numbers]


def _operator(node: Node | None, own: Sequence[Timed]) -> OperatorTime:
    kernels = tuple(kernel.kernel for kernel in own)
    kind, name = (node.kind, node.name) if node else (kernels[0], "")
    return OperatorTime(kind, name, kernels, sum(kernel.mean_us for kernel in own))
