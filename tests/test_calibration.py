"""Drawing calibration samples."""

import numpy as np
import pytest

from edgekit.artifact import TensorSpec
from edgekit.calibration import draw, random_samples
from edgekit.data import open_dataset
from edgekit.errors import DataError

INPUTS = (TensorSpec("x", (1, 3), "float32"),)


def data(tmp_path, x):
    path = tmp_path / "data.npz"
    np.savez(path, x=np.asarray(x, np.float32))
    return open_dataset(path)


def rising(count):
    return np.arange(count * 3).reshape(count, 3)


def test_parts_do_not_overlap_and_repeat_for_one_seed(tmp_path):
    dataset = data(tmp_path, rising(1000))
    samples, findings = draw(dataset, INPUTS, count=100, seed=3)
    again, _ = draw(dataset, INPUTS, count=100, seed=3)
    other, _ = draw(dataset, INPUTS, count=100, seed=4)
    first, second = samples.calibration["x"][:, 0], samples.held_back["x"][:, 0]
    assert (len(first), len(second)) == (100, 64)
    assert not set(first) & set(second)
    assert findings == []
    np.testing.assert_array_equal(first, again.calibration["x"][:, 0])
    assert set(first) != set(other.calibration["x"][:, 0])
    assert samples.source["count"] == 100


def test_held_back_samples_span_an_ordered_file(tmp_path):
    samples, _ = draw(data(tmp_path, rising(1000)), INPUTS, count=256, seed=0)
    held_back = samples.held_back["x"][:, 0]
    assert held_back.min() < 150
    assert held_back.max() > 2850


def test_small_set_keeps_most_for_calibration_and_says_so(tmp_path):
    samples, findings = draw(data(tmp_path, rising(20)), INPUTS, count=None, seed=0)
    assert len(samples.calibration["x"]) == 16
    assert len(samples.held_back["x"]) == 4
    assert [finding.code for finding in findings] == ["EK231"]


def test_fewer_than_asked_is_a_finding(tmp_path):
    _, findings = draw(data(tmp_path, rising(200)), INPUTS, count=500, seed=0)
    assert "160 samples calibrate, 500 were asked for" in findings[0].message


def test_one_sample_is_too_few(tmp_path):
    with pytest.raises(DataError, match="has 1 sample"):
        draw(data(tmp_path, rising(1)), INPUTS, count=None, seed=0)


def test_constant_data_are_refused(tmp_path):
    with pytest.raises(DataError, match="is 7"):
        draw(data(tmp_path, np.full((100, 3), 7)), INPUTS, count=None, seed=0)


def test_one_repeated_sample_is_a_finding(tmp_path):
    _, findings = draw(data(tmp_path, np.tile([1, 2, 3], (100, 1))), INPUTS, count=None, seed=0)
    assert [finding.code for finding in findings] == ["EK233"]


def test_nan_is_refused_before_anything_is_quantized(tmp_path):
    values = rising(100).astype(float)
    values[17, 1] = np.nan
    with pytest.raises(DataError):
        draw(data(tmp_path, values), INPUTS, count=None, seed=0)


def test_random_samples_fit_each_input():
    inputs = (TensorSpec("a", (None, 4), "float32"), TensorSpec("ids", (1, 2), "int32"))
    samples = random_samples(inputs, seed=1)
    assert samples.held_back["a"].shape == (16, 4)
    assert samples.held_back["ids"].dtype == np.int32
    assert samples.calibration == {}
