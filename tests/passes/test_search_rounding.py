"""Searched rounding: hand-worked and never worse in theory, nearer to the float model in a real file."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.passes._layers_tflite import TFLiteTwins
from edgekit.passes.search_rounding import descend, search_rounding


def error(integers, exact, covariance):
    """The error of each output channel, summed up term by term."""
    e = exact - integers
    return np.array([column @ covariance @ column for column in e.T])


def test_two_weights_that_read_the_same_round_against_each_other():
    """0.4 and 0.4 round to 0 and 0, an error of 0.8 in the sum; 1 and 0 leave 0.2."""
    exact, covariance = np.array([[0.4], [0.4]]), np.ones((2, 2))
    found = descend(np.rint(exact), exact, covariance, 127)
    assert sorted(found.ravel()) == [0, 1]
    assert error(found, exact, covariance) == pytest.approx(0.2**2)


def test_the_limit_of_the_integers_is_kept():
    exact, covariance = np.array([[7.4], [7.4]]), np.ones((2, 2))
    assert descend(np.array([[7.0], [7.0]]), exact, covariance, 7).max() == 7


@settings(max_examples=60)
@given(st.integers(2, 6), st.integers(1, 4), st.integers(0, 1000))
def test_it_is_never_worse_and_often_the_best(inputs, outputs, seed):
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(50, inputs)) @ generator.normal(size=(inputs, inputs))
    covariance = np.cov(rows.T).reshape(inputs, inputs)
    exact = generator.normal(size=(inputs, outputs), scale=3)
    nearest = np.rint(exact)
    found = descend(nearest.copy(), exact, covariance, 127)
    before, after = error(nearest, exact, covariance), error(found, exact, covariance)
    assert (after <= before + 1e-9).all()
    assert (np.abs(found - exact) <= 1).all()
    # No single step lowers it any further.
    for row, direction in itertools.product(range(inputs), (-1, 1)):
        other = found.copy()
        other[row] += direction
        allowed = np.abs(other[row] - exact[row]) <= 1
        assert (error(other, exact, covariance)[allowed] >= after[allowed] - 1e-9).all()


def test_each_group_may_have_a_covariance_of_its_own():
    generator = np.random.default_rng(0)
    exact = generator.normal(size=(3, 9, 2), scale=3)
    many = [np.cov(generator.normal(size=(40, 9)).T) for _ in range(3)]
    found = descend(np.rint(exact), exact, np.stack(many), 127)
    for group, covariance in enumerate(many):
        alone = descend(np.rint(exact[group]), exact[group], covariance, 127)
        np.testing.assert_array_equal(found[group], alone)


def after(twins, found):
    return TFLiteTwins(twins.original, found.model)


@pytest.mark.parametrize(("bits", "gain_db"), [(8, 0.05), (4, 1.5)])
def test_outputs_come_nearer_also_on_samples_that_nothing_was_chosen_by(twins_and_samples, bits, gain_db):
    made, calibration, held_back, fresh = twins_and_samples
    found = search_rounding(made[bits], calibration=calibration, held_back=held_back)
    assert found.snr_after_db > found.snr_before_db + gain_db
    assert 0 < found.kept <= found.layers == 4
    exact, before, now = (
        np.array([next(iter(row.values())) for row in probe.outputs(fresh)])
        for probe in (made[bits].float_probe, made[bits].probe, after(made[bits], found).probe)
    )
    assert np.square(now - exact).sum() < np.square(before - exact).sum()


@pytest.mark.parametrize("bits", [8, 4])
def test_the_integers_in_the_file_are_the_chosen_ones(twins_and_samples, bits):
    """Within a step of the float weights but for those that are clipped, and read back as they were written."""
    made, calibration, held_back, _ = twins_and_samples
    found = search_rounding(made[bits], calibration=calibration, held_back=held_back)
    changed = 0
    for layer, before in zip(after(made[bits], found).layers, made[bits].layers, strict=True):
        integers = np.rint(layer.rounded / layer.steps)
        assert np.abs(integers).max() <= layer.limit
        is_near = np.abs(layer.weights - layer.rounded) <= layer.steps * 1.0001
        assert (is_near | (np.abs(integers) == layer.limit)).all()
        changed += (layer.rounded != before.rounded).any()
    assert changed == found.kept


def test_without_time_nothing_changes(twins_and_samples):
    made, calibration, held_back, _ = twins_and_samples
    found = search_rounding(made[8], calibration=calibration, held_back=held_back, seconds=0)
    assert (found.model, found.kept) == (made[8].quantized, 0)
