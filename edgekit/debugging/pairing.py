"""Which inner tensor of one model stands for which of another."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from edgekit.debugging.graph import Graph, Value
from edgekit.debugging.structure import CLIPS, Found, by_graph, is_passive, likeness


@dataclass(frozen=True)
class Pair:
    """A tensor of A and one of B that stands for the same numbers.

    ``how`` they were found: "place", "name", "graph", "order" or "output". Of several tensors of B that
    stand for one of A, because B converts between number formats, ``is_read`` marks the last, which others read.
    """

    a: Value
    b: Value
    how: str
    is_read: bool = True


@dataclass(frozen=True)
class Pairing:
    """All pairs in the order of B's operators, and what has no partner."""

    pairs: tuple[Pair, ...]
    only_a: tuple[Value, ...]
    only_b: tuple[Value, ...]


def pair(a: Graph, b: Graph, *, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> Pairing:
    """Pair the tensors of two versions of one model.

    Where both have the same operators in the same order, by their place. Otherwise by name and shape, then by the
    graph: operators of one kind and shape that read paired tensors, of several the one with the likest constants.
    What is left by the order of operators between those, and the outputs last, whatever made them. A tensor that was
    only converted to another number format stands for what it was converted from.

    Args:
        a: The reference.
        b: The version that is judged.
        inputs: B's name of each input by A's.
        outputs: The same for outputs.
    """
    same = _wiring(a) == _wiring(b)
    in_order = [inputs[value.key] for value in a.values if value.is_input]
    if same and in_order == [value.key for value in b.values if value.is_input]:
        return Pairing(tuple(Pair(x, y, "place") for x, y in zip(a.values, b.values, strict=True)), (), ())
    roots_a, roots_b = _roots(a), _roots(b)
    found: Found = {other: (name, "name") for name, other in inputs.items()}
    found |= _by_name(a, b, roots_a, roots_b, found)
    found |= by_graph(a, b, found)
    found |= _by_order(a, b, found)
    for name_a, name_b in outputs.items():
        one, two = roots_a.get(a.outputs[name_a]), roots_b.get(b.outputs[name_b])
        if one is not None and two is not None and two not in found and one not in _partners(found):
            found[two] = (one, "output")
    _follow_folded(a, found)
    clipped = _clipped(a, b, found)
    partners: Found = {}
    for value in b.values:
        root = roots_b.get(value.key)
        if root in found:
            partner, how = found[root]
            partners[value.key] = (clipped.get(root, partner) if value.key != root else partner, how)
    return _pairing(a, b, partners)


def _pairing(a: Graph, b: Graph, partners: Found) -> Pairing:
    by_key = {value.key: value for value in a.values}
    last = {partner: key for key, (partner, _) in partners.items()}
    pairs = (
        Pair(
            by_key[partners[value.key][0]],
            value,
            partners[value.key][1],
            last[partners[value.key][0]] == value.key,
        )
        for value in b.values
        if value.key in partners
    )
    only_a = (value for value in a.values if not value.is_conversion and value.key not in last)
    only_b = (value for value in b.values if value.key not in partners)
    return Pairing(tuple(pairs), tuple(only_a), tuple(only_b))


def _follow_folded(a: Graph, found: Found) -> None:
    """Where A does in several operators what B does in one, B's tensor stands for the result of the last."""
    readers: dict[str, list[Value]] = {}
    for value in a.values:
        for key in set(value.inputs):
            readers.setdefault(key, []).append(value)
    taken = _partners(found)
    for key, (partner, how) in list(found.items()):
        last = partner
        while how != "name" and len(readers.get(last, ())) == 1:
            reader = readers[last][0]
            if reader.key in taken or reader.kind in CLIPS or not is_passive(reader):
                break
            last = reader.key
        if last != partner:
            found[key] = (last, how)
            taken.add(last)


def _clipped(a: Graph, b: Graph, found: Found) -> dict[str, str]:
    """For tensors of B whose conversion does the work of an operator of A: the key of what that one writes.

    Where such a tensor was paired with the result of A's clipping, by its name, it is paired with what A clips.
    """
    by_key = {value.key: value for value in a.values}
    kinds = {value.key: value.kind for value in b.values}
    converted = {value.inputs[0] for value in b.values if value.is_conversion and value.inputs}
    taken = _partners(found)
    behind = {v.inputs[0]: v.key for v in a.values if v.kind in CLIPS and v.inputs and v.key not in taken}
    clipped: dict[str, str] = {}
    for key, (partner, how) in list(found.items()):
        if key not in converted or kinds[key] in CLIPS:
            continue
        one = by_key[partner]
        source = by_key.get(one.inputs[0]) if one.inputs else None
        if one.kind in CLIPS and source is not None and source.key not in taken and source.kind == kinds[key]:
            found[key] = (source.key, how)
            clipped[key] = partner
        elif partner in behind:
            clipped[key] = behind[partner]
    return clipped


def _wiring(graph: Graph) -> list[Any]:
    """Every operator with what it reads, by place: equal for two files of one graph."""
    places = {value.key: place for place, value in enumerate(graph.values)}
    return [(likeness(value), [places.get(key) for key in value.inputs]) for value in graph.values]


def _partners(found: Found) -> set[str]:
    return {partner for partner, _ in found.values()}


def _roots(graph: Graph) -> dict[str, str]:
    """The tensor that each one stands for: itself, or what conversions made it from; in graph order."""
    roots: dict[str, str] = {}
    for value in graph.values:
        if not value.is_conversion:
            roots[value.key] = value.key
        elif value.inputs and value.inputs[0] in roots:
            roots[value.key] = roots[value.inputs[0]]
    return roots


def _by_name(
    a: Graph, b: Graph, roots_a: Mapping[str, str], roots_b: Mapping[str, str], known: Found
) -> Found:
    """Tensors of one name, that of a conversion of theirs included, where it occurs once on either side."""
    named_a, named_b = _unique(a), _unique(b)
    found = dict(known)
    for name, value in named_b.items():
        other = named_a.get(name)
        if other is None or other.shape[1:] != value.shape[1:]:
            continue
        one, two = roots_a.get(other.key), roots_b.get(value.key)
        if one is not None and two is not None and two not in found and one not in _partners(found):
            found[two] = (one, "name")
    return found


def _unique(graph: Graph) -> dict[str, Value]:
    counts = Counter(value.name for value in graph.values)
    return {value.name: value for value in graph.values if counts[value.name] == 1}


def _by_order(a: Graph, b: Graph, known: Found) -> Found:
    """Runs of operators of the same kinds and shapes, between the pairs that are known."""
    left = [value for value in a.values if not value.is_conversion]
    right = [value for value in b.values if not value.is_conversion]
    partners = _partners(known)
    tokens_a = [value.key if value.key in partners else likeness(value) for value in left]
    tokens_b = [known[value.key][0] if value.key in known else likeness(value) for value in right]
    found: Found = {}
    for block in SequenceMatcher(None, tokens_a, tokens_b, autojunk=False).get_matching_blocks():
        for one, two in zip(
            left[block.a : block.a + block.size], right[block.b : block.b + block.size], strict=True
        ):
            if two.key not in known:
                found[two.key] = (one.key, "order")
    return found
