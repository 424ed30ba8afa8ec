"""What runs fast where: one file of rules for each accelerator that a target profile can name.

A file has ``judge``, and ``SOURCE`` and ``DATE`` of what it rests on; most have ``RULES`` by kind of operator. Rules
were measured where the accelerator, or its compiler, runs on a PC: ``benchmarks/compat_agreement.py`` puts them beside
what really happens.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from edgekit.operators import Operand, Operator
from edgekit.target import Target

_FLOATS = frozenset({"float32", "float16"})
_NARROW = {"int8": "wi8", "uint8": "wi8", "int4": "wi4", "int2": "wi2"}
_INTEGER_ENDS = "Let the inputs and outputs be integers: edgekit quantize --io int8."
_COMPUTED = frozenset({"float32", "float16", "float64", "int8", "uint8", "int16", "complex64"})


class Place(StrEnum):
    """Where an operator runs."""

    ACCELERATED = "accelerated"
    CPU = "cpu"
    UNSUPPORTED = "unsupported"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Verdict:
    """Where an operator runs, why not on the accelerator, and what to change."""

    place: Place
    reason: str = ""
    advice: str = ""


@dataclass(frozen=True)
class Objection:
    """Why an accelerator refuses an operator: ``Objection("its stride is larger than its window", "...")``."""

    reason: str
    advice: str = ""


class Surroundings:
    """What an operator alone does not tell: which of its inputs are stored in the file, perhaps in another type."""

    def __init__(self, operators: Sequence[Operator]) -> None:
        self._stored = {
            (operator.graph, output.index, output.name): operator.inputs[0]
            for operator in operators
            if operator.kind == "DEQUANTIZE" and operator.inputs and operator.inputs[0].is_constant
            for output in operator.outputs
        }

    def stored(self, operator: Operator, operand: Operand) -> Operand | None:
        """The constant that an input is, or that DEQUANTIZE makes it of; None where it is computed."""
        if operand.is_constant:
            return operand
        return self._stored.get((operator.graph, operand.index, operand.name))


Check = Callable[[Operator, Surroundings], Objection | None]


@dataclass(frozen=True)
class Rule:
    """What an accelerator takes of one kind of operator: types as ``precision`` names them, and further conditions.

    Without types it takes any.
    """

    precisions: Collection[str] = ()
    checks: tuple[Check, ...] = ()


class Accelerator(Protocol):
    """What a file of this folder has."""

    SOURCE: str
    DATE: str

    def judge(self, operators: Sequence[Operator], target: Target) -> list[Verdict]:
        """Where each operator runs."""


def by_rules(
    rules: Mapping[str, Rule],
    operators: Sequence[Operator],
    name: str,
    advice: Mapping[str, str] | None = None,
    *,
    otherwise: Place = Place.CPU,
) -> list[Verdict]:
    """Place each operator: accelerated where a rule takes it, else on the CPU with the reason.

    Args:
        rules: By the operator's kind.
        operators: All operators of a file.
        name: What reasons call the accelerator.
        advice: What to do about operators without a rule, by kind.
        otherwise: Where operators go that no rule takes.
    """
    surroundings = Surroundings(operators)
    return [
        _place(operator, surroundings, _Table(rules, name, advice or {}, otherwise)) for operator in operators
    ]


@dataclass(frozen=True)
class _Table:
    rules: Mapping[str, Rule]
    name: str
    advice: Mapping[str, str]
    otherwise: Place


def _place(operator: Operator, surroundings: Surroundings, table: _Table) -> Verdict:
    if operator.graph:
        return Verdict(Place.UNKNOWN, "it is inside of a loop or branch, which is not looked into")
    rule = table.rules.get(operator.kind)
    if rule is None:
        return Verdict(
            table.otherwise, f"{table.name} has no such operator", table.advice.get(operator.kind, "")
        )
    found = precision(operator)
    if rule.precisions and found not in rule.precisions:
        reason = f"it computes {found}, and {table.name} takes {', '.join(rule.precisions)}"
        advice = _INTEGER_ENDS if operator.is_conversion else _other_type(rule, found)
        return Verdict(table.otherwise, reason, advice)
    for check in rule.checks:
        objection = check(operator, surroundings)
        if objection is not None:
            return Verdict(table.otherwise, objection.reason, objection.advice)
    return Verdict(Place.ACCELERATED)


def precision(operator: Operator) -> str:
    """How an operator computes: ``"int8"``, ``"int16x8"``, ``"wi4_ai8"``, ``"dynamic_wi8"`` or ``"float32"``.

    Weights that DEQUANTIZE widens first count as floats, for that is what the operator computes with.
    """
    values = [
        o.dtype for o in (*operator.inputs, *operator.outputs) if o.dtype in _COMPUTED and not o.is_constant
    ]
    kinds = dict.fromkeys(values)
    weights = next((_NARROW[o.dtype] for o in operator.weights if o.dtype in _NARROW), "")
    if operator.is_conversion or len(kinds) > 1:
        return " to ".join([*_ends(operator)])
    if not kinds:
        return operator.outputs[0].dtype if operator.outputs else "nothing"
    [kind] = kinds
    if kind in _FLOATS:
        return f"dynamic_{weights}" if weights else kind
    if kind == "int16":
        return "int16x8"
    return f"{weights}_a{'i' if kind == 'int8' else 'u'}8" if weights in {"wi4", "wi2"} else kind


def _ends(operator: Operator) -> list[str]:
    sides = (operator.inputs[:1], operator.outputs[:1])
    return [operand.dtype for side in sides for operand in side]


def _other_type(rule: Rule, found: str) -> str:
    if "int8" in rule.precisions and found in {"float32", "int16x8", "dynamic_wi8", "wi4_ai8"}:
        return "Quantize it with -r int8."
    if "float32" in rule.precisions and found not in _FLOATS:
        return "Keep the layer in float: --keep-float."
    return ""


def groups(operators: Sequence[Operator], can: Sequence[bool]) -> list[set[int]]:
    """The positions of what a delegate of LiteRT gets at a time, without an operator of the CPU in between.

    Groups are made as LiteRT makes them: beginning from what is ready, all operators of one side that the inputs
    known so far allow, then those of the other side.

    Args:
        operators: All operators of a file.
        can: Which of them the delegate takes.
    """
    written = {(o.index, o.name) for operator in operators for o in operator.outputs}
    known: set[tuple[int, str]] = set()
    left = [position for position, operator in enumerate(operators) if operator.graph == 0]
    found: list[set[int]] = []

    def ready(position: int) -> bool:
        keys = ((o.index, o.name) for o in operators[position].inputs if not o.is_constant)
        return all(key not in written or key in known for key in keys)

    while left:
        side = next((can[position] for position in left if ready(position)), None)
        if side is None:
            break
        group: set[int] = set()
        for position in list(left):
            if can[position] == side and ready(position):
                group.add(position)
                left.remove(position)
                known.update((o.index, o.name) for o in operators[position].outputs)
        if side:
            found.append(group)
    return found


# Conditions that several accelerators have.


def fused_activation(*allowed: str) -> Check:
    """The activation that is part of the operator is one of these, by its name in the schema, or none."""

    def check(operator: Operator, _surroundings: Surroundings) -> Objection | None:
        name = activation_of(operator)
        if name in ("NONE", *allowed):
            return None
        return Objection(f"the activation {name} is part of it", "Use RELU or RELU6, or none.")

    return check


def activation_of(operator: Operator) -> str:
    """The name of the activation that is part of a LiteRT operator: ``"RELU6"``."""
    from ai_edge_litert import schema_py_generated as schema

    number = operator.options.get("fusedActivationFunction", 0)
    names = {value: name for name, value in vars(schema.ActivationFunctionType).items() if name.isupper()}
    return str(names.get(number, number))


def stored_inputs(*places: int) -> Check:
    """The inputs at these places, where they are present, are stored in the file."""

    def check(operator: Operator, surroundings: Surroundings) -> Objection | None:
        for place in places:
            if place < len(operator.inputs) and surroundings.stored(operator, operator.inputs[place]) is None:
                what = "weights" if place == 1 else "bias" if place == 2 else f"input {place}"
                return Objection(f"its {what} are computed while the model runs", "Store them as constants.")
        return None

    return check


def at_most_rank(most: int) -> Check:
    """No tensor that depends on the inputs has more axes."""

    def check(operator: Operator, _surroundings: Surroundings) -> Objection | None:
        ranks = [len(operand.shape) for operand in (*operator.inputs, *operator.outputs)]
        if max(ranks, default=0) <= most:
            return None
        return Objection(f"a tensor has {max(ranks)} axes, more than {most}", "Merge axes with a reshape.")

    return check
