"""What holds for every check, and the arithmetic behind them by hand-worked numbers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.artifact import TensorSpec
from edgekit.catalog import load, names
from edgekit.evidence.comparing import fits_reference, information, standard_score, surprise
from edgekit.evidence.readings import AS_GIVEN, COLORS, LAYOUT, Picture, apparent_range, range_readings
from edgekit.evidence.seen import class_numbers
from edgekit.findings import CATALOG
from edgekit.linting.class_order import runs_of
from edgekit.linting.missing_classes import chance_of_missing
from edgekit.linting.too_few import instability


@pytest.mark.parametrize("name", names("linting"))
def test_every_check_has_a_code_and_a_judgement(name):
    check = load("linting", name)
    assert check.CODE in CATALOG
    assert 240 <= int(check.CODE[2:]) < 260
    assert check.LOOKS_FOR
    assert callable(check.judge)


def test_no_two_checks_share_a_code():
    codes = [load("linting", name).CODE for name in names("linting")]
    assert len(set(codes)) == len(codes) == 12


def test_runs_of_equal_labels():
    assert runs_of(np.array([0, 0, 1, 1]))[:2] == (2, 3.0)
    # Two classes of n and m: Wald and Wolfowitz have 2nm/(n+m) + 1, and its variance.
    runs, mean, deviation = runs_of(np.array([0] * 3 + [1] * 7))
    assert runs == 2
    assert mean == pytest.approx(2 * 3 * 7 / 10 + 1)
    assert deviation**2 == pytest.approx(42 * (42 - 10) / (100 * 9))
    assert runs_of(np.zeros(5, int)) == (1, 1.0, 0.0)


def test_the_mean_of_runs_is_that_of_random_orders():
    labels = np.repeat([0, 1, 2], [5, 9, 16])
    generator = np.random.default_rng(0)
    seen = [runs_of(generator.permutation(labels))[0] for _ in range(2000)]
    _, mean, deviation = runs_of(labels)
    assert np.mean(seen) == pytest.approx(mean, abs=0.2)
    assert np.std(seen) == pytest.approx(deviation, rel=0.1)


def test_the_chance_of_missing_a_class():
    even = np.full(10, 0.1)
    assert chance_of_missing(even, 100, 0) == 1
    assert chance_of_missing(even, 100, 1) == pytest.approx(1 - math.exp(-10 * 0.9**100))
    assert chance_of_missing(even, 100, 2) < 1e-6
    # A thousand classes and three hundred samples: most are missing, and nobody is to blame.
    assert chance_of_missing(np.full(1000, 0.001), 300, 740) > 0.4


def test_a_class_that_does_not_occur_cannot_be_missing():
    assert chance_of_missing(np.array([0.5, 0.5, 0.0]), 100, 1) < 1e-9


def test_information_of_scores():
    sure = np.eye(4).repeat(5, axis=0) * 100
    assert information(sure) == pytest.approx((math.log(4), math.log(4), 1.0))
    assert information(np.zeros((20, 4))) == pytest.approx((0.0, 0.0, 0.0))
    told, variety, certain = information(np.tile([100.0, 0, 0, 0], (20, 1)))
    assert (told, certain) == pytest.approx((0.0, 1.0))
    # All samples are alike, so that over samples the entropy is that of each.
    assert variety == pytest.approx(0.2 * math.log(4))


def test_variety_does_not_grow_with_the_scores():
    scores = np.random.default_rng(0).normal(size=(80, 5))
    assert information(3 * scores).variety == pytest.approx(information(scores).variety)
    assert information(3 * scores).told > 2 * information(scores).told


@given(st.floats(0.01, 100), st.integers(0, 100))
def test_surprise_does_not_depend_on_the_temperature(factor, seed):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, 60)
    scores = generator.normal(0, 1, (60, 3)) + 2 * np.eye(3)[labels]
    assert surprise(scores * factor, labels).mean() == pytest.approx(
        surprise(scores, labels).mean(), abs=1e-3
    )


def test_surprise_of_scores_that_say_nothing_is_that_of_guessing():
    assert surprise(np.zeros((30, 5)), np.arange(30) % 5) == pytest.approx(np.full(30, math.log(5)))


def test_standard_score():
    assert standard_score(np.array([1.0, 2.0, 3.0])) == pytest.approx(2 / (1 / math.sqrt(3)))
    assert standard_score(np.array([1.0])) == standard_score(np.ones(5)) == 0
    assert standard_score(np.array([0.1 + 0.2, 0.3] * 20)) == 0


def test_a_reference_that_cannot_tell_says_nothing():
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(4, 60, 6))
    assert fits_reference(*noise) is None
    apart = np.stack([noise[0], noise[1] + 3, noise[2], noise[3] + 3])
    assert fits_reference(*apart) > 10
    assert fits_reference(apart[1], apart[0], apart[2], apart[3]) < -10


@pytest.mark.parametrize(
    ("low", "high", "name"),
    [
        (0, 255, "0..255"),
        (3, 240, "0..255"),
        (0, 1, "0..1"),
        (0.1, 0.8, "0..1"),
        (-1, 1, "-1..1"),
        (-2.1, 2.6, "ImageNet's mean and deviation"),
        (0, 0.0039, "0..1/255"),
        (-120, 24, None),
        (0, 4000, None),
    ],
)
def test_the_usual_ranges_are_recognized(low, high, name):
    assert apparent_range(low, high) == name


def test_readings_are_in_the_range_that_they_name():
    for low, high in ((0.0, 255.0), (0.0, 1.0), (-1.0, 1.0)):
        values = np.linspace(low, high, 11, dtype=np.float32)
        for reading in range_readings(low, high):
            read = reading.apply(values)
            assert apparent_range(float(read.min()), float(read.max())) == reading.name


@pytest.mark.parametrize("shape", [(3, 12, 10), (12, 10, 3), (12, 10, 1)])
def test_the_other_order_undoes_what_reshaping_did(shape):
    picture = Picture.of((TensorSpec("x", (None, *shape), "float32"),))
    x = np.arange(2 * math.prod(shape), dtype=np.float32).reshape(2, *shape)
    moved = x.transpose(0, 2, 3, 1) if shape[0] == 3 else np.moveaxis(x, -1, 1)
    moved = x.transpose(0, 2, 1, 3) if shape[2] == 1 else moved
    mixed = np.ascontiguousarray(moved).reshape(x.shape)
    readings = {reading.name: reading for reading in picture.readings()}
    np.testing.assert_array_equal(readings[LAYOUT].apply(mixed), x)
    if 3 in shape:
        np.testing.assert_array_equal(readings[COLORS].apply(readings[COLORS].apply(x)), x)


def test_what_is_no_picture_has_no_other_readings():
    for shape in ((1, 140), (1, 28, 28), (None, None, None, 3), (1, 2, 2, 3)):
        assert Picture.of((TensorSpec("x", shape, "float32"),)) is None
    square = Picture.of((TensorSpec("x", (1, 28, 28, 1), "float32"),))
    assert square.readings() == []


def test_halves_with_equal_ranges_are_stable():
    same = np.tile([[[-1.0, 1.0], [0.0, 6.0]]], (40, 1, 1))
    assert instability(same) == 0
    # One sample of forty reaches three times as far: one half has it, and the other has a third of the range.
    same[7] *= 3
    assert instability(same) == pytest.approx(2 / 3)


def test_heavy_tails_make_ranges_unstable():
    generator = np.random.default_rng(0)
    high = np.abs(generator.standard_cauchy((100, 5)))
    assert instability(np.stack([np.zeros_like(high), high], axis=2)) > 0.4
    even = generator.uniform(0.9, 1, (100, 5))
    assert instability(np.stack([np.zeros_like(even), even], axis=2)) < 0.02


def test_labels_become_class_numbers():
    assert class_numbers(np.array([[0, 1], [1, 0]])).tolist() == [1, 0]
    assert class_numbers(np.array([2.0, 0.0])).tolist() == [2, 0]
    assert class_numbers(np.array([0.5, 1.0])) is None
    assert class_numbers(np.array([[0.2, 0.8]])) is None


def test_the_samples_as_given_are_no_reading_among_the_others():
    assert AS_GIVEN not in {reading.name for reading in range_readings(0, 1)}
