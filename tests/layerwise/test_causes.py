"""Causes: which sentence a layer's noise, ranges and channels lead to, by hand."""

from dataclasses import replace

import pytest

from edgekit.layerwise.causes import causes, cut_off, excess
from edgekit.layerwise.sensitivity import LayerSensitivity

_FIRST = LayerSensitivity(
    place=0,
    names=("x",),
    operator="INPUT",
    precision="static_wi8_ai8",
    weight_bits=None,
    activation_bits=8,
    weights_noise=(0.0,),
    activations_noise=(0.001,),
    share_of_noise=0.1,
    calibrated_range=(-1.0, 1.0),
    seen_range=(-1.0, 0.9),
)
_CONV = replace(
    _FIRST,
    place=1,
    names=("conv/Relu;conv/BiasAdd",),
    operator="CONV_2D",
    weight_bits=8,
    weights_noise=(0.004,),
    activations_noise=(0.005,),
    share_of_noise=0.9,
    activations_imbalance=3.0,
    inputs_imbalance=2.0,
)


def kinds(*layers):
    return [cause.kind for cause in causes(sorted(layers, key=lambda layer: -layer.share_of_noise))]


def test_ranges_that_fit_are_no_cause():
    assert cut_off(_FIRST) == 0.0
    # Zero is on every grid: 1.9 wide are needed of 2.
    assert excess(_FIRST) == pytest.approx(2 / 1.9)
    assert excess(replace(_FIRST, seen_range=(0.4, 0.5))) == pytest.approx(4.0)
    assert kinds(_FIRST, _CONV) == ["concentrated"]


def test_what_lies_beyond_the_range_is_the_cause_where_it_begins():
    outside = replace(_FIRST, seen_range=(-1.0, 255.0))
    assert cut_off(outside) == pytest.approx(127.0)
    [cause] = causes([replace(_CONV, seen_range=(0.0, 50.0)), outside])
    assert (cause.kind, cause.layer) == ("cut off", "x")
    assert cause.is_calibration
    assert "-1 to 1" in cause.text
    assert "-1 to 255" in cause.text


def test_a_range_that_is_too_wide_is_named_with_its_factor():
    [cause] = causes([_CONV, replace(_FIRST, calibrated_range=(-8.0, 8.0), seen_range=(-0.5, 0.5))])
    assert (cause.kind, cause.layer) == ("stretched", "x")
    assert "16 times as coarse" in cause.text


def test_pooling_that_shares_the_grid_of_what_it_reads_is_no_mistake_of_calibration():
    conv = replace(_CONV, calibrated_range=(0.0, 24.0), seen_range=(0.0, 23.0))
    pooled = replace(_FIRST, place=2, names=("pool",), operator="AVERAGE_POOL_2D", reads=(1,), share_of_noise=0.5,
                     calibrated_range=(0.0, 24.0), seen_range=(0.0, 3.0))  # fmt: skip
    assert "stretched" not in kinds(conv, pooled)
    assert "stretched" in kinds(conv, replace(pooled, calibrated_range=(0.0, 25.0)))


def test_ranges_that_cost_nothing_are_no_cause():
    outside = replace(_FIRST, seen_range=(-1.0, 255.0), share_of_noise=0.001)
    assert kinds(_CONV, outside) == ["concentrated"]


def test_channels_that_differ_are_named_where_they_cause_the_noise():
    assert kinds(_FIRST, replace(_CONV, activations_imbalance=100.0)) == ["unbalanced"]
    # Most of the noise comes from the result here, not from the weights.
    assert kinds(_FIRST, replace(_CONV, inputs_imbalance=100.0)) == ["concentrated"]
    reads = replace(_CONV, inputs_imbalance=100.0, weights_noise=(0.05,))
    [cause] = causes([reads, _FIRST])
    assert "'conv/Relu' causes 90% of the noise" in cause.text
    assert "factor of 100" in cause.text


def test_noise_of_many_layers_is_called_spread():
    layers = [
        replace(_CONV, place=place, names=(f"layer{place}",), share_of_noise=0.1) for place in range(10)
    ]
    [cause] = causes(layers)
    assert cause.kind == "spread"
    assert "the worst 5 together 50%" in cause.text
    assert causes([]) == ()
