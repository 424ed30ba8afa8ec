"""What a teacher said lies on disk, whole or not at all, and never more than it may."""

import os

import numpy as np
import pytest

from edgekit.errors import ModelError, OutputError
from edgekit.train.teacher_cache import read, rows

_VALUES = np.arange(40, dtype=np.float32).reshape(10, 4)


def _batches(values=_VALUES):
    return iter([{"said": values[:6]}, {"said": values[6:]}])


def test_rows_are_computed_once(tmp_path):
    first = rows(tmp_path / "a", 10, _batches)
    assert not first.cached
    again = rows(tmp_path / "a", 10, lambda: pytest.fail("computed twice"))
    assert again.cached
    assert np.array_equal(again.arrays["said"], _VALUES)
    assert np.array_equal(read(tmp_path / "a", 10)["said"][[7, 1]], _VALUES[[7, 1]])


def test_a_damaged_file_is_computed_anew(tmp_path):
    rows(tmp_path / "a", 10, _batches)
    (tmp_path / "a" / "0.npy").write_bytes((tmp_path / "a" / "0.npy").read_bytes()[:150])
    found = rows(tmp_path / "a", 10, _batches)
    assert not found.cached
    assert np.array_equal(found.arrays["said"], _VALUES)


def test_an_interrupted_pass_leaves_nothing(tmp_path):
    def broken():
        yield {"said": _VALUES[:6]}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rows(tmp_path / "a", 10, broken)
    assert list(tmp_path.iterdir()) == []


def test_fewer_rows_than_samples_are_no_answer(tmp_path):
    with pytest.raises(OutputError):
        rows(tmp_path / "a", 11, _batches)
    with pytest.raises(OutputError):
        read(tmp_path / "a", 11)


def test_a_sample_without_an_answer_is_named(tmp_path):
    values = _VALUES.copy()
    values[8, 2] = np.nan
    with pytest.raises(ModelError, match="for sample 8"):
        rows(tmp_path / "a", 10, lambda: _batches(values))
    assert list(tmp_path.iterdir()) == []


def test_more_than_the_bound_is_refused_before_it_is_written(tmp_path):
    with pytest.raises(OutputError, match="are the most"):
        rows(tmp_path / "a", 10, _batches, most_bytes=159)


def test_the_longest_unused_rows_make_room(tmp_path):
    for age, name in enumerate(("new", "old")):
        rows(tmp_path / name, 10, _batches)
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    rows(tmp_path / "last", 10, _batches, most_bytes=800)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last", "new"]
