"""Images changed at random, and what a teacher says of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.data import open_dataset
from edgekit.errors import DataError, UsageError
from edgekit.train.augmentation import Augmentation, Changes, check_images, image_axes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flip", Augmentation(flip=True)),
        ("shift:4", Augmentation(shift=4)),
        (" shift:2 , flip ", Augmentation(flip=True, shift=2)),
    ],
)
def test_what_may_happen_is_read_from_a_text(text, expected):
    assert Augmentation.parse(text) == expected


@pytest.mark.parametrize("text", ["", "flop", "shift", "shift:-1", "flip;shift:2", "shift:1.5"])
def test_another_text_is_refused_with_the_ways_to_write_it(text):
    with pytest.raises(UsageError, match="changes no image") as caught:
        Augmentation.parse(text)
    assert "flip,shift:4" in caught.value.hint


def test_half_of_the_images_are_mirrored_and_named():
    images = np.random.default_rng(0).normal(size=(400, 4, 6, 3)).astype(np.float32)
    changes = Augmentation(flip=True).drawn(400, np.random.default_rng(1))
    changed, mirrored = changes.applied({"x": images}), changes.mirrored
    assert 160 < mirrored.sum() < 240
    assert np.array_equal(changed["x"][mirrored], images[mirrored][:, :, ::-1])
    assert np.array_equal(changed["x"][~mirrored], images[~mirrored])


def test_channels_first_are_mirrored_along_their_width():
    images = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    assert image_axes(images.shape) == (2, 3)
    vectors = np.arange(6).reshape(2, 3)
    both = Changes(np.ones(2, np.bool_), np.zeros((2, 2), np.int64)).applied({"x": images, "v": vectors})
    assert np.array_equal(both["x"], images[:, :, :, ::-1])
    assert both["v"] is vectors


def test_a_view_is_the_same_each_time_and_the_first_is_the_image_itself():
    both = Augmentation(flip=True, shift=2)
    first, second, again, third = (both.view(number, 50) for number in (0, 1, 1, 2))
    assert not first.mirrored.any()
    assert not first.moves.any()
    assert np.array_equal(second.moves, again.moves)
    assert not np.array_equal(second.moves, third.moves)
    assert np.array_equal(second.of(slice(10, 20)).moves, second.moves[10:20])


@settings(max_examples=30, deadline=None)
@given(shift=st.integers(1, 9), seed=st.integers(0, 99))
def test_a_moved_image_shows_its_own_pixels_in_their_order(shift, seed):
    image = np.arange(1, 8 * 8 + 1, dtype=np.uint8).reshape(1, 8, 8, 1)
    changed = Augmentation(shift=shift).drawn(1, np.random.default_rng(seed)).applied({"x": image})
    moved = changed["x"][0, :, :, 0].astype(int)
    assert moved.shape == (8, 8)
    assert changed["x"].dtype == np.uint8
    rows, columns = (moved - 1) // 8, (moved - 1) % 8
    # Neighbours in the result are neighbours in the image; where it was mirrored at the border, in reverse.
    assert set(np.abs(np.diff(rows, axis=0)).ravel()) == {1}
    assert set(np.abs(np.diff(columns, axis=1)).ravel()) == {1}
    assert (rows == rows[:, :1]).all()
    assert (columns == columns[:1]).all()


def test_the_same_seed_changes_images_alike_and_the_originals_stay():
    images = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3)).astype(np.uint8)
    before = images.copy()
    both = Augmentation(flip=True, shift=2)
    once, again, other = (
        both.drawn(16, np.random.default_rng(seed)).applied({"x": images})["x"] for seed in (3, 3, 4)
    )
    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)
    assert np.array_equal(images, before)


def test_samples_that_are_no_images_and_labels_that_are_some_are_refused():
    with pytest.raises(DataError, match=r"a sample has the shape \[10\]"):
        check_images({"x": np.zeros((2, 10))}, np.zeros(2))
    with pytest.raises(DataError, match="labels are images too"):
        check_images({"x": np.zeros((2, 8, 8, 3))}, np.zeros((2, 8, 8)))


def test_an_image_comes_with_what_the_teacher_said_of_the_view_that_is_shown(tmp_path):
    from edgekit.artifact import TensorSpec
    from edgekit.train.feeding import Feed

    # The left column tells the image, so that a mirrored one shows it at the right.
    images = np.zeros((40, 4, 4, 1), np.float32)
    images[:, :, 0, 0] = np.arange(1, 41)[:, None]
    np.savez(tmp_path / "data.npz", x=images, y=np.arange(40) % 2)
    dataset = open_dataset(tmp_path / "data.npz").bind((TensorSpec("x", (None, 4, 4, 1), "float32"),))
    augmentation = Augmentation(flip=True)
    numbers = np.arange(40, dtype=np.float32)[:, None]
    said = [numbers + 100 * augmentation.view(view, 40).mirrored[:, None] for view in range(3)]
    views = [{"said": rows} for rows in said[1:]]
    feed = Feed(dataset, ("x",), {"said": said[0]}, views=views, augmentation=augmentation)
    seen = 0
    for x, y in feed.epoch(16, 5):
        left, right, heard = np.asarray(x)[:, 0, 0, 0], np.asarray(x)[:, 0, 3, 0], np.asarray(y["said"])[:, 0]
        number = np.maximum(left, right) - 1
        assert np.array_equal(heard, number + 100 * (right > 0))
        assert np.array_equal(np.asarray(y["label"]), number % 2)
        seen += int((right > 0).sum())
    assert 4 < seen < 30
    assert np.array_equal(said[0], numbers)
