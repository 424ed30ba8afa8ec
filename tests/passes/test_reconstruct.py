"""Reconstruction: layers that read something else than their float twins give nearly what those give."""

import numpy as np
import pytest

from edgekit.passes._layers import Layer
from edgekit.passes._layers_tflite import TFLiteTwins
from edgekit.passes._moments import Moments
from edgekit.passes.reconstruct import _fitted, reconstruct


def connected(weights, limit=127):
    """A fully connected layer with its weights rounded to the nearest."""
    outputs = weights.shape[1]
    steps = np.abs(weights).max(axis=0) / limit
    rounded = np.rint(weights / steps) * steps
    return Layer(0, weights, rounded, np.zeros(outputs), np.zeros(outputs), steps, limit, None)


def given(layer, change, read):
    return read @ (change.integers * change.steps) + change.bias


def test_an_input_that_is_too_small_gets_larger_weights():
    generator = np.random.default_rng(0)
    wanted = generator.normal(size=(4000, 6)) + 3
    read = 0.5 * wanted + 1
    layer = connected(generator.normal(size=(6, 4)))
    seen = Moments.none(1, 6)
    seen.add(read[None], wanted[None])
    change = _fitted(layer, seen)
    # The ridge pulls a tenth of a variance's worth back to where the weights were.
    np.testing.assert_allclose(change.integers * change.steps, 2 * layer.weights, rtol=0.07, atol=0.03)
    exact = wanted @ layer.weights
    assert np.square(given(layer, change, read) - exact).mean() < 1e-2 * exact.var()


def test_a_large_weight_is_clipped_where_four_bits_are_better_spent_on_the_others():
    generator = np.random.default_rng(1)
    read = generator.normal(size=(4000, 512))
    weights = generator.normal(size=(512, 2), scale=0.1)
    weights[0] = 0.5
    layer = connected(weights, limit=7)
    seen = Moments.none(1, 512)
    seen.add(read[None], read[None])
    change = _fitted(layer, seen)
    assert change.steps[0] < 0.95 * layer.steps[0]
    assert np.abs(change.integers).max() <= 7

    def error(rounded):
        return np.square(read @ (rounded - weights)).mean(axis=0)

    assert (error(change.integers * change.steps) < 0.9 * error(layer.rounded)).all()


@pytest.mark.parametrize(("bits", "gain_db"), [(8, 0.05), (4, 4)])
def test_outputs_come_nearer_also_on_samples_that_nothing_was_chosen_by(twins_and_samples, bits, gain_db):
    made, calibration, held_back, fresh = twins_and_samples
    found = reconstruct(made[bits], calibration=calibration, held_back=held_back)
    assert found.snr_after_db > found.snr_before_db + gain_db
    after = TFLiteTwins(made[bits].original, found.model)
    exact, before, now = (
        np.array([next(iter(row.values())) for row in probe.outputs(fresh)])
        for probe in (made[bits].float_probe, made[bits].probe, after.probe)
    )
    assert np.square(now - exact).sum() < np.square(before - exact).sum()


def test_integers_and_steps_in_the_file_are_those_of_the_kept_layers(twins_and_samples):
    made, calibration, held_back, _ = twins_and_samples
    found = reconstruct(made[4], calibration=calibration, held_back=held_back)
    changed = 0
    for layer, before in zip(TFLiteTwins(made[4].original, found.model).layers, made[4].layers, strict=True):
        integers = layer.rounded / layer.steps
        np.testing.assert_allclose(integers, np.rint(integers), atol=1e-4)
        assert np.abs(integers).max() <= layer.limit
        changed += (layer.rounded != before.rounded).any()
    assert changed == found.kept


def test_without_time_nothing_changes(twins_and_samples):
    made, calibration, held_back, _ = twins_and_samples
    found = reconstruct(made[8], calibration=calibration, held_back=held_back, seconds=0)
    assert (found.model, found.tried, found.kept) == (made[8].quantized, 0, 0)
