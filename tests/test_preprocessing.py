"""The preprocessing contract, with hand-worked numbers."""

import numpy as np
import pytest

from edgekit.catalog import data_folder
from edgekit.errors import DataError, UsageError
from edgekit.preprocessing import Preprocessing, from_document, load_preprocessing

PIXELS = np.array([[[[10, 20, 30], [40, 50, 60]]]], np.uint8)  # one image, 1 high, 2 wide


@pytest.mark.parametrize("name", sorted(file.stem for file in data_folder("calibration").glob("*.toml")))
def test_every_shipped_contract_loads_and_applies(name):
    contract = load_preprocessing(name)
    raw = np.full((2, 300, 400, 3), 255, np.uint8)
    made = contract.apply(raw)
    assert contract.name == name
    assert made.dtype == np.float32
    assert np.isfinite(made).all()
    assert (made.shape[1] if contract.layout == "nchw" else made.shape[-1]) in {1, 3}
    assert 'source = "https://' in (data_folder("calibration") / f"{name}.toml").read_text()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("unit-range-rgb", 1.0),
        ("minus-one-to-one", 1.0),
        ("raw-0-255", 255.0),
        ("imagenet-torch", (1 - 0.485) / 0.229),
    ],
)
def test_white_becomes_what_the_name_says(name, value):
    made = load_preprocessing(name).apply(np.full((1, 224, 224, 3), 255, np.uint8))
    first_channel = made[0, 0] if name == "imagenet-torch" else made[0, ..., 0]
    np.testing.assert_allclose(first_channel, value, rtol=1e-6)


def test_caffe_swaps_colors_before_it_subtracts():
    made = Preprocessing(color="bgr", mean=(1.0, 2.0, 3.0)).apply(PIXELS)
    assert made.tolist() == [[[[29.0, 18.0, 7.0], [59.0, 48.0, 37.0]]]]


def test_channels_first():
    made = Preprocessing(layout="nchw", scale=0.5).apply(PIXELS)
    assert made.tolist() == [[[[5.0, 20.0]], [[10.0, 25.0]], [[15.0, 30.0]]]]


def test_channels_first_data_for_a_channels_last_model():
    stored = np.ascontiguousarray(np.moveaxis(PIXELS, -1, 1))
    made = Preprocessing(data_layout="nchw", layout="nhwc").apply(stored)
    np.testing.assert_array_equal(made, PIXELS)


def test_gray_images_get_their_channel_axis():
    assert Preprocessing(layout="nhwc").apply(PIXELS[..., 0]).shape == (1, 1, 2, 1)
    assert Preprocessing(layout="nchw").apply(PIXELS[..., 0]).shape == (1, 1, 1, 2)


def test_color_to_gray_is_pillows_luma():
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    made = Preprocessing(color="gray", layout="nhwc").apply(pixels[None])[0, ..., 0]
    np.testing.assert_allclose(made, np.asarray(Image.fromarray(pixels).convert("L")), atol=1)


def test_center_crop_is_resizing_and_cutting():
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((480, 320), Image.Resampling.BICUBIC)
    made = Preprocessing(resize=(224, 224), center_crop=0.875).apply(np.asarray(image)[None])[0]
    small = image.resize((384, 256), Image.Resampling.BILINEAR).crop((80, 16, 304, 240))
    assert np.abs(made - np.asarray(small)).mean() < 1.0


def test_values_only_contracts_fit_samples_of_any_shape():
    made = Preprocessing(scale=2.0, mean=(1.0,), std=(4.0,)).apply(np.array([[3.0, 5.0]]))
    assert made.tolist() == [[1.25, 2.25]]


def test_a_contract_survives_the_lineage():
    contract = load_preprocessing("imagenet-torch")
    assert from_document(contract.describe(), "lineage") == contract


@pytest.mark.parametrize("shape", [(2, 7), (2, 3, 4, 5, 6)])
def test_no_image(shape):
    with pytest.raises(DataError) as caught:
        Preprocessing(layout="nhwc").apply(np.zeros(shape, np.uint8))
    assert caught.value.code == "EK215"


@pytest.mark.parametrize(
    ("contract", "raw"),
    [
        (Preprocessing(color="bgr"), np.zeros((1, 3, 4, 4), np.uint8)),
        (Preprocessing(mean=(1.0, 2.0)), np.zeros((1, 4, 4, 3), np.uint8)),
        (Preprocessing(resize=(2, 2)), np.zeros((1, 4, 4, 3), np.float32)),
    ],
)
def test_a_contract_that_does_not_fit(contract, raw):
    with pytest.raises(DataError) as caught:
        contract.apply(raw)
    assert caught.value.code == "EK215"


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("schema = 1\nlayuot = 'nhwc'", "EK217", "Did you mean layout?"),
        ("schema = 1\nlayout = 'hwc'", "EK218", "nhwc"),
        ("schema = 1\nresize = [96]", "EK218", "height and width"),
        ("schema = 1\nresize = 'big'", "EK218", "resize"),
        ("schema = 1\nscale = '1/255'", "EK218", "scale"),
        ("schema = 1\nscale = true", "EK218", "scale"),
        ("schema = 1\nstd = 0", "EK218", "not 0"),
        ("schema = 1\nmean = nan", "EK218", "finite"),
        ("schema = 2", "EK216", "schema"),
        ("layout = 'nhwc'", "EK216", "schema"),
        ("schema = ", "EK216", "TOML"),
    ],
)
def test_spec_files_that_are_refused(tmp_path, text, code, words):
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(UsageError) as caught:
        load_preprocessing(str(tmp_path / "s.toml"))
    assert caught.value.code == code
    assert words in caught.value.message + caught.value.hint


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UsageError, match="unit-rnage-rgb") as caught:
        load_preprocessing("unit-rnage-rgb")
    assert "unit-range-rgb" in caught.value.hint
