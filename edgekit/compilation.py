"""What a compiler made of a model, and what it says of it: estimates of the compiler, not measurements."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.findings import Finding


@dataclass(frozen=True)
class CompiledOperator:
    """An operator as the compiler placed it: ``CompiledOperator("Conv2D", "npu", 3344, 41472, "conv_1")``.

    One of the model becomes several where a compiler takes it apart. ``cycles`` and ``macs`` are the compiler's own.
    """

    kind: str
    place: str
    cycles: int
    macs: int
    name: str

    def describe(self) -> dict[str, Any]:
        """The operator as it stands in JSON documents."""
        return {
            "op": self.kind,
            "place": self.place,
            "cycles": self.cycles,
            "macs": self.macs,
            "name": self.name,
        }


@dataclass(frozen=True)
class Compilation:
    """A compiled file. ``estimates`` have units in their names: ``{"latency_ms": 1.87, "sram_bytes": 112230}``.

    ``basis`` says what they rest on, ``beside`` are files that belong to it, and ``findings`` what was noticed.
    """

    path: Path
    compiler: str
    version: str
    configuration: Mapping[str, str]
    operators: tuple[CompiledOperator, ...]
    estimates: Mapping[str, float]
    log: str
    basis: str = "estimates of the compiler"
    beside: tuple[Path, ...] = ()
    findings: tuple[Finding, ...] = ()

    def left_on_cpu(self) -> tuple[CompiledOperator, ...]:
        """The operators that the compiler left to the processor beside the accelerator."""
        return tuple(operator for operator in self.operators if operator.place == "cpu")
