"""Noise added up by hand, and the choice of layers to spare."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.errors import UsageError
from edgekit.layerwise.mixing import mixed_noise, rule_for, spared
from edgekit.layerwise.sensitivity import LayerSensitivity, decibels, ranked
from edgekit.recipe import PRECISIONS

_FLOAT, _WIDE = PRECISIONS["float32"], PRECISIONS["static_wi8_ai16"]


def layer(place, weights, activations, *, reads=(), operator="CONV_2D", keeps_grid=False, bits=8):
    noises = ((weights,), (activations,))
    name = (f"layer{place}",)
    return LayerSensitivity(place, name, operator, "int8", bits, 8, *noises, 0.0, reads, keeps_grid)


# An input, two convolutions, and a pooling that moves values.
CHAIN = (
    layer(0, 0.0, 0.01, operator="INPUT"),
    layer(1, 0.02, 0.04, reads=(0,)),
    layer(2, 0.10, 0.03, reads=(1,)),
    layer(3, 0.0, 0.03, reads=(2,), operator="MAX_POOL_2D", keeps_grid=True),
)


def test_powers_add_and_moved_values_lose_nothing_more():
    assert mixed_noise(CHAIN, {}).tolist() == [pytest.approx(0.01 + 0.06 + 0.13)]


def test_a_tensor_stays_rounded_while_one_of_its_users_is_quantized():
    # Layer 1 in float saves its weights alone: its result is read by layer 2 in integers.
    assert mixed_noise(CHAIN, {1: _FLOAT})[0] == pytest.approx(0.2 - 0.02 - 0.01)
    assert mixed_noise(CHAIN, {1: _FLOAT, 2: _FLOAT})[0] == pytest.approx(0.2 - 0.02 - 0.01 - 0.04 - 0.10)


def test_an_input_is_real_where_all_that_read_it_are():
    both = (*CHAIN, layer(4, 0.0, 0.0, reads=(0,)))
    assert mixed_noise(both, {1: _FLOAT})[0] == pytest.approx(0.2 - 0.02)


def test_moved_values_are_rounded_where_they_come_in_real():
    # What layer 2 writes is read by the pooling, which is quantized; so is what the pooling writes.
    kept = {1: _FLOAT, 2: _FLOAT, 3: _FLOAT}
    assert mixed_noise(CHAIN, kept)[0] == 0.0
    reader = (*CHAIN, layer(4, 0.0, 0.0, reads=(3,)))
    assert mixed_noise(reader, kept)[0] == pytest.approx(0.03)


def test_sixteen_bits_spare_activations_and_no_weights():
    left = mixed_noise(CHAIN, {1: _WIDE, 2: _WIDE, 3: _WIDE})[0]
    assert left == pytest.approx(0.12 + (0.01 + 0.04 + 0.03) * (255 / 65535) ** 2)


def test_eight_bits_in_place_of_four_make_weights_finer():
    narrow = (layer(0, 0.29, 0.0, bits=4),)
    assert mixed_noise(narrow, {0: PRECISIONS["static_wi8_ai8"]})[0] == pytest.approx(0.29 / 17**2)


def test_the_layer_that_helps_most_is_spared_first_and_no_more_than_it_takes():
    reach = decibels((0.2 - 0.02 - 0.01 - 0.04 - 0.10,))
    chosen = list(spared(CHAIN, _FLOAT, reach_db=reach - 0.01))
    assert [one.place for one in chosen] == [2, 1]
    assert [one.place for one in spared(CHAIN, _FLOAT, count=1)] == [2]
    assert list(spared(CHAIN, _FLOAT, reach_db=decibels((0.2,)) - 0.1)) == []


def test_shares_of_noise_add_up_to_one_and_the_largest_comes_first():
    order = list(ranked(CHAIN))
    assert [one.place for one in order] == [2, 1, 0, 3]
    assert sum(one.share_of_noise for one in order) == pytest.approx(1.0)
    assert order[0].share_of_noise == pytest.approx(0.13 / 0.2)


def test_snr_of_a_layer_alone_is_that_of_the_worst_output():
    two = LayerSensitivity(0, ("x",), "ADD", "static_wi8_ai8", None, 8, (0.0, 0.0), (0.1, 0.001))
    assert two.snr_db == pytest.approx(10.0)
    assert two.weights_snr_db == math.inf


def test_a_rule_speaks_of_one_layer_alone():
    rule = rule_for(["a/conv+1"], _FLOAT)
    assert rule.matches("CONV_2D", ["a/conv+1"])
    assert rule.matches("CONV_2D", ["a/conv+1;"])
    assert not rule.matches("CONV_2D", ["a/conv+10"])
    assert not rule.matches("CONV_2D", ["b/a/conv+1"])
    first = rule_for(["a/Relu;a/BiasAdd"], _FLOAT, ["a/Relu;a/BiasAdd", "b/Relu;a/Relu"])
    assert first.layers == "^a/Relu(;|$)"
    assert first.matches("CONV_2D", ["a/Relu;a/BiasAdd"])
    assert not first.matches("CONV_2D", ["b/Relu;a/Relu"])
    whole = rule_for(["a/Relu;one"], _FLOAT, ["a/Relu;two"])
    assert not whole.matches("CONV_2D", ["a/Relu;two"])
    both = rule_for(["conv", "relu"], _FLOAT)
    assert both.matches("Conv", ["node", "conv"])
    assert both.matches("Relu", ["relu"])
    assert not both.matches("Relu", ["relu2"])
    with pytest.raises(UsageError, match="no names"):
        rule_for([""], _FLOAT)


_NOISE = st.floats(0, 1, allow_subnormal=False)


@given(st.lists(st.tuples(_NOISE, _NOISE), min_size=1, max_size=6), st.sets(st.integers(0, 5)))
def test_sparing_a_layer_never_adds_noise(noises, places):
    chain = [layer(i, *noise, reads=(i - 1,) if i else ()) for i, noise in enumerate(noises)]
    before = mixed_noise(chain, {})[0]
    after = mixed_noise(chain, {place: _FLOAT for place in places if place < len(chain)})[0]
    assert after <= before * (1 + 1e-9)
    assert mixed_noise(chain, dict.fromkeys(range(len(chain)), _FLOAT))[0] == 0.0
