import base64
import io

import numpy as np
import pytest

from edgekit.broken_samples import choose_broken, read_samples
from edgekit.data import open_dataset
from edgekit.pictures import data_url

image_module = pytest.importorskip("PIL.Image", reason="needs pillow")


def decoded(url):
    head, _, text = url.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(image_module.open(io.BytesIO(base64.b64decode(text, validate=True))))


def test_bytes_are_kept_as_they_are():
    rng = np.random.default_rng(0)
    for shape in ((8, 8), (32, 32, 3), (96, 40)):
        pixels = rng.integers(0, 256, shape, np.uint8)
        np.testing.assert_array_equal(decoded(data_url(pixels)), pixels)


def test_channels_may_come_first_or_be_one():
    pixels = np.arange(64 * 3, dtype=np.uint8).reshape(8, 8, 3)
    np.testing.assert_array_equal(decoded(data_url(np.moveaxis(pixels, 2, 0))), pixels)
    for gray in (pixels[:, :, :1], pixels[None, :, :, 0]):
        np.testing.assert_array_equal(decoded(data_url(gray)), pixels[:, :, 0])


def test_other_numbers_are_scaled_from_their_own_range():
    values = np.linspace(-2.0, 3.0, 64).reshape(8, 8)
    expected = np.round((values + 2) / 5 * 255).astype(np.uint8)
    np.testing.assert_array_equal(decoded(data_url(values.astype(np.float64))), expected)
    assert decoded(data_url(np.full((8, 8), 7.0))).max() == 128
    spoiled = values.copy()
    spoiled[0, 0] = np.nan
    assert decoded(data_url(spoiled)).shape == (8, 8)


def test_large_pictures_become_small():
    assert decoded(data_url(np.zeros((400, 200, 3), np.uint8))).shape == (96, 48, 3)


@pytest.mark.parametrize(
    "shape", [(640,), (49, 10, 1), (2, 2), (8, 8, 4), (5, 8, 8), (1, 8, 8, 3), (), (3, 3, 3), (0, 0)]
)
def test_what_is_no_picture(shape):
    assert data_url(np.zeros(shape, np.float32)) is None


def test_samples_that_broke_are_spread_over_classes_and_models():
    labels = np.repeat([0, 1, 2], 100)
    right = np.ones((3, 300), np.bool_)
    right[0, :10] = False  # wrong before, too: these did not break
    right[1, :90] = False
    right[2, 100:103] = False
    right[2, 299] = False
    chosen = choose_broken(right, labels)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == 24
    assert min(chosen) >= 10
    assert {100, 101, 102, 299} <= set(chosen)
    assert all(right[0, number] and not right[:, number].all() for number in chosen)
    assert choose_broken(np.ones((2, 9), np.bool_), np.zeros(9, int)) == []


def test_samples_are_read_by_their_number(tmp_path):
    x = np.arange(40 * 16, dtype=np.float32).reshape(40, 4, 4)
    np.savez(tmp_path / "x.npz", x=x)
    dataset = open_dataset(tmp_path / "x.npz")
    found = read_samples(dataset, [3, 17, 39])
    np.testing.assert_array_equal(found, x[[3, 17, 39]])
    every_other = read_samples(dataset.spread(20), [1, 19])
    np.testing.assert_array_equal(every_other, x[[2, 38]])
    assert read_samples(dataset, []) == []


def test_images_are_decoded(tmp_path):
    (tmp_path / "cats").mkdir()
    pixels = np.random.default_rng(1).integers(0, 256, (9, 7, 3), np.uint8)
    image_module.fromarray(pixels).save(tmp_path / "cats" / "a.png")
    [found] = read_samples(open_dataset(tmp_path), [0])
    np.testing.assert_array_equal(found, pixels)
