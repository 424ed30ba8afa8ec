"""Which tensor stands for which, on graphs small enough to see it."""

from dataclasses import replace

import numpy as np

from edgekit.debugging.graph import INPUT, Value, Weight
from edgekit.debugging.pairing import pair
from edgekit.tensor import Quantization

_GRID = Quantization((0.1,), (0,))


class Made:
    """A graph without a file: ``("conv", "CONV_2D", "x")`` writes the tensor conv and reads x."""

    def __init__(self, *operators, shape=(1, 4), constants=None):
        self.constants = constants or {}
        self.values = [Value("x", "x", INPUT, shape, "float32", None, (), {})]
        for key, kind, *inputs in operators:
            weights = {1: Weight(f"w_{key}", (4, 4))} if f"w_{key}" in self.constants else {}
            is_conversion = kind.upper().startswith(("QUANT", "DEQUANT"))
            grid = _GRID if kind.upper().startswith("QUANT") else None
            value = Value(key, key, kind, shape, "float32", grid, tuple(inputs), weights, is_conversion)
            self.values.append(value)
        self.hidden = ()
        self.outputs = {"out": self.values[-1].key}

    def renamed(self, prefix):
        """The same graph under other names."""
        self.values = [v if v.kind == INPUT else replace(v, name=prefix + v.name) for v in self.values]
        return self

    def constant(self, key):
        return self.constants[key]


def paired(a, b):
    found = pair(a, b, inputs={"x": "x"}, outputs={"out": "out"})
    return {p.b.key: p.a.key for p in found.pairs}, found


def test_equal_graphs_are_paired_by_place():
    a = Made(("c1", "CONV_2D", "x"), ("c2", "CONV_2D", "c1"))
    b = Made(("p", "CONV_2D", "x"), ("q", "CONV_2D", "p"))
    pairs, found = paired(a, b)
    assert pairs == {"x": "x", "p": "c1", "q": "c2"}
    assert {p.how for p in found.pairs} == {"place"}


def test_names_come_before_order():
    a = Made(("left", "CONV_2D", "x"), ("right", "CONV_2D", "x"), ("sum", "ADD", "left", "right"))
    b = Made(
        ("right", "CONV_2D", "x"),
        ("left", "CONV_2D", "x"),
        ("extra", "NEG", "left"),
        ("sum", "ADD", "extra", "right"),
    )
    pairs, found = paired(a, b)
    assert pairs == {"x": "x", "right": "right", "left": "left", "sum": "sum"}
    assert [value.key for value in found.only_b] == ["extra"]


def test_conversions_stand_for_what_they_convert():
    a = Made(("conv", "CONV_2D", "x"), ("soft", "SOFTMAX", "conv"))
    b = Made(("q", "QUANTIZE", "x"), ("c", "CONV_2D", "q"), ("s", "SOFTMAX", "c"), ("out", "DEQUANTIZE", "s"))
    pairs, found = paired(a, b)
    assert pairs == {"x": "x", "q": "x", "c": "conv", "s": "soft", "out": "soft"}
    assert found.only_a == found.only_b == ()
    assert {p.b.key: p.is_read for p in found.pairs} == {
        "x": False,
        "q": True,
        "c": True,
        "s": False,
        "out": True,
    }


def test_branches_in_another_order_are_told_apart_by_their_constants():
    random = np.random.default_rng(0)
    one, two = random.normal(size=(2, 4, 4))
    a = Made(
        ("left", "Conv", "x"), ("right", "Conv", "x"), ("l2", "Sigmoid", "left"), ("r2", "Tanh", "right"),
        constants={"w_left": one, "w_right": two},
    ).renamed("a:")  # fmt: skip
    b = Made(
        ("m", "Conv", "x"), ("n", "Conv", "x"), ("m2", "Tanh", "m"), ("n2", "Sigmoid", "n"),
        constants={"w_m": np.rint(two * 50), "w_n": np.rint(one * 50)},
    )  # fmt: skip
    pairs, _ = paired(a, b)
    assert pairs == {"x": "x", "m": "right", "n": "left", "m2": "r2", "n2": "l2"}


def test_what_a_converter_folded_is_followed_to_its_end():
    constants = {"w_conv": np.ones((4, 4)), "w_bias": np.ones((4, 4))}
    a = Made(("conv", "Conv", "x"), ("bias", "Add", "conv"), ("pool", "MaxPool", "bias"), constants=constants)
    b = Made(("c", "Conv", "x"), ("p", "MaxPool", "c"))
    pairs, found = paired(a.renamed("a:"), b)
    assert pairs == {"x": "x", "c": "bias", "p": "pool"}
    assert [value.key for value in found.only_a] == ["conv"]


def test_a_relu_that_became_a_range_is_paired_with_the_conversion():
    a = Made(("conv", "Conv", "x"), ("relu", "Relu", "conv"), ("pool", "MaxPool", "relu"))
    b = Made(
        ("c", "Conv", "x"),
        ("q", "QuantizeLinear", "c"),
        ("d", "DequantizeLinear", "q"),
        ("p", "MaxPool", "d"),
    )
    pairs, found = paired(a.renamed("a:"), b)
    assert pairs == {"x": "x", "c": "conv", "q": "relu", "d": "relu", "p": "pool"}
    assert {p.b.key for p in found.pairs if not p.is_read} == {"q"}


def test_what_has_no_partner_is_listed():
    a = Made(("a1", "CONV_2D", "x"), ("a2", "TANH", "a1"))
    b = Made(("b1", "CONV_2D", "x"), ("b2", "CUSTOM", "b1"))
    pairs, found = paired(a.renamed("a:"), b)
    assert pairs["b1"] == "a1"
    # The outputs stand for each other whatever made them.
    assert [(p.b.key, p.how) for p in found.pairs][-1] == ("b2", "output")
