"""Data specs: what is read, how it is streamed, and what is said about data that cannot be used."""

import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit.artifact import TensorSpec
from edgekit.data import open_dataset
from edgekit.errors import DataError, UsageError

RGB = (TensorSpec("image", (1, 4, 5, 3), "float32"),)


def numbers(shape, dtype="float32"):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def saved(folder, name="d.npz", **arrays):
    path = folder / name
    np.savez_compressed(path, **arrays)
    return path


def joined(dataset, size, name):
    return np.concatenate([batch.inputs[name] for batch in dataset.batches(size)])


@settings(max_examples=40, deadline=None)
@given(
    x=hnp.arrays(
        st.sampled_from([np.uint8, np.int16, np.float32, np.float64]),
        hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=7),
        elements=st.integers(0, 100),
    ),
    size=st.integers(1, 9),
    compressed=st.booleans(),
    big_endian=st.booleans(),
)
def test_streaming_gives_what_numpy_loads(tmp_path_factory, x, size, compressed, big_endian):
    path = tmp_path_factory.mktemp("npz") / "d.npz"
    stored = x.astype(x.dtype.newbyteorder(">")) if big_endian else x
    (np.savez_compressed if compressed else np.savez)(path, x=stored, y=np.arange(len(x)))
    dataset = open_dataset(path)
    batches = list(dataset.batches(size))
    assert dataset.count == len(x)
    assert [batch.first for batch in batches] == list(range(0, len(x), size))
    np.testing.assert_array_equal(np.concatenate([batch.inputs["x"] for batch in batches]), x)
    np.testing.assert_array_equal(np.concatenate([batch.labels for batch in batches]), np.arange(len(x)))


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 200), size=st.integers(1, 70), data=st.data())
def test_subset_and_take_give_the_chosen_rows_renumbered(tmp_path_factory, count, size, data):
    path = saved(tmp_path_factory.mktemp("npz"), x=numbers((count, 2)), y=np.arange(count))
    rows = sorted(data.draw(st.sets(st.integers(0, count - 1), min_size=1)))
    subset = open_dataset(path).subset(rows)
    batches = list(subset.batches(size))
    assert subset.count == len(rows)
    assert [batch.first for batch in batches] == list(range(0, len(rows), size))
    assert all(batch.count == size for batch in batches[:-1])
    assert np.concatenate([batch.labels for batch in batches]).tolist() == rows
    np.testing.assert_array_equal(open_dataset(path).take(rows).inputs["x"], numbers((count, 2))[rows])


def test_spread_reaches_the_last_class_of_sorted_labels(tmp_path):
    dataset = open_dataset(saved(tmp_path, x=numbers((100, 2)), y=np.repeat(np.arange(10), 10)))
    labels = next(iter(dataset.spread(20).batches(20))).labels
    assert labels.tolist() == np.repeat(np.arange(10), 2).tolist()


def test_an_npy_file_is_x_alone(tmp_path):
    np.save(tmp_path / "a.npy", numbers((6, 3)))
    dataset = open_dataset(tmp_path / "a.npy")
    assert (dataset.count, dataset.has_labels) == (6, False)
    np.testing.assert_array_equal(joined(dataset, 4, "x"), numbers((6, 3)))


def test_arrays_reach_the_inputs_of_their_names(tmp_path):
    inputs = (TensorSpec("mag", (1, 1, 4), "float32"), TensorSpec("state/in:0", (1, 2), "float32"))
    path = saved(tmp_path, **{"mag": numbers((3, 1, 4)), "state/in:0": numbers((3, 2)) + 50})
    batch = open_dataset(path).bind(inputs).take([1])
    assert batch.inputs["mag"].tolist() == [[[4, 5, 6, 7]]]
    assert batch.inputs["state/in:0"].tolist() == [[52, 53]]


def test_x_feeds_the_only_input_as_float32(tmp_path):
    bound = open_dataset(saved(tmp_path, x=numbers((3, 4, 5, 3), "uint8"))).bind(RGB)
    batch = bound.take([0, 2])
    assert batch.inputs["image"].dtype == np.float32
    np.testing.assert_array_equal(batch.inputs["image"], numbers((3, 4, 5, 3), "uint8")[[0, 2]])


def test_small_integers_stay_integers_for_the_runtime_to_quantize(tmp_path):
    from edgekit.tensor import Quantization

    spec = TensorSpec("image", (1, 4), "int8", Quantization((1.0,), (-128,)))
    bound = open_dataset(saved(tmp_path, x=numbers((3, 4), "uint8"))).bind((spec,))
    assert bound.take([0]).inputs["image"].dtype == np.uint8


@pytest.mark.parametrize(
    ("shape", "words", "hint"),
    [
        ((7, 3, 4, 5), "[4, 5, 3], but the data's have shape [3, 4, 5]", 'data_layout = "nchw"'),
        ((4, 5, 3), "[5, 3]", "batch axis"),
        ((7, 8, 8, 3), "[8, 8, 3]", "resize"),
        ((7, 1, 4, 5, 3), "[1, 4, 5, 3]", "x[:, 0]"),
        ((7, 9), "[9]", "first axis"),
    ],
)
def test_a_wrong_shape_says_what_came_and_what_would_help(tmp_path, shape, words, hint):
    with pytest.raises(DataError) as caught:
        open_dataset(saved(tmp_path, x=numbers(shape))).bind(RGB)
    assert caught.value.code == "EK206"
    assert words in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("spec_shape", "hint"), [((1, 28, 28, 1), "x[..., None]"), ((None, 1, 28, 28), "x[:, None]")]
)
def test_gray_images_get_no_channel_axis_in_silence(tmp_path, spec_shape, hint):
    with pytest.raises(DataError) as caught:
        open_dataset(saved(tmp_path, x=numbers((2, 28, 28)))).bind((TensorSpec("i", spec_shape, "float32"),))
    assert hint in caught.value.hint


def test_channels_last_data_for_a_channels_first_model(tmp_path):
    with pytest.raises(DataError) as caught:
        open_dataset(saved(tmp_path, x=numbers((2, 4, 5, 3)))).bind(
            (TensorSpec("i", (1, 3, 4, 5), "float32"),)
        )
    assert 'layout = "nchw"' in caught.value.hint


@pytest.mark.parametrize(("bad", "word"), [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite")])
def test_the_sample_that_is_not_finite_is_named(tmp_path, bad, word):
    x = numbers((20, 4, 5, 3))
    x[13, 1, 1, 1] = bad
    with pytest.raises(DataError, match=f"Sample 13 .* {word}") as caught:
        list(open_dataset(saved(tmp_path, x=x)).bind(RGB).batches(8))
    assert caught.value.code == "EK207"


def test_a_sum_that_overflows_is_no_infinity(tmp_path):
    x = np.full((2, 4, 5, 3), 3e38, np.float32)
    with np.errstate(over="ignore"):
        assert open_dataset(saved(tmp_path, x=x)).bind(RGB).take([0]).inputs["image"].max() == np.float32(
            3e38
        )


def test_a_missing_input_is_named_with_the_known_arrays(tmp_path):
    inputs = (TensorSpec("mag", (1, 4), "float32"), TensorSpec("state", (1, 2), "float32"))
    with pytest.raises(DataError, match=r"'state'; they have mag, stat\b") as caught:
        open_dataset(saved(tmp_path, mag=numbers((3, 4)), stat=numbers((3, 2)))).bind(inputs)
    assert caught.value.code == "EK209"
    with pytest.raises(DataError) as caught:
        open_dataset(saved(tmp_path, "one.npz", photos=numbers((3, 4, 5, 3)))).bind(RGB)
    assert "np.savez(path, x=...)" in caught.value.hint


def test_values_that_an_integer_input_cannot_hold(tmp_path):
    spec = (TensorSpec("ids", (1, 2), "int32"),)
    fine = open_dataset(saved(tmp_path, "a.npz", x=np.array([[1, 2]], np.int64))).bind(spec)
    assert fine.take([0]).inputs["ids"].dtype == np.int32
    bad = open_dataset(saved(tmp_path, "b.npz", x=np.array([[1, 2], [0.5, 1]]))).bind(spec)
    with pytest.raises(DataError, match="sample 1 ") as caught:
        list(bad.batches(2))
    assert caught.value.code == "EK212"


def _truncated(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


def _emptied(path):
    path.write_bytes(b"")


def _text(path):
    path.write_text("version https://git-lfs.github.com/spec/v1")


@pytest.mark.parametrize(
    ("spoil", "code"), [(_truncated, "EK203"), (_flipped, "EK203"), (_emptied, "EK202"), (_text, "EK203")]
)
@pytest.mark.parametrize("compressed", [True, False])
def test_spoilt_files_are_refused(tmp_path, spoil, code, compressed):
    path = tmp_path / "d.npz"
    save = np.savez_compressed if compressed else np.savez
    save(path, x=np.random.default_rng(0).random((500, 20)))
    spoil(path)
    with pytest.raises(DataError) as caught:
        list(open_dataset(path).batches(64))
    assert caught.value.code == code


def test_a_header_that_promises_more_than_the_member_holds(tmp_path):
    np.save(tmp_path / "x.npy", numbers((10, 3)))
    content = (tmp_path / "x.npy").read_bytes()
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", content.replace(b"(10, 3)", b"(90, 3)"))
    with pytest.raises(DataError) as caught:
        list(open_dataset(tmp_path / "d.npz").batches(4))
    assert caught.value.code == "EK203"


@pytest.mark.parametrize(
    ("arrays", "code"),
    [
        ({"x": np.array([{"a": 1}], dtype=object)}, "EK204"),
        ({"x": np.zeros((3, 2)), "y": np.array([0, 1, None], dtype=object)}, "EK204"),
        ({"x": np.zeros((3, 2)), "y": np.zeros(4)}, "EK205"),
        ({"x": np.array(["a", "b"])}, "EK212"),
        ({"x": np.zeros((2, 2), complex)}, "EK212"),
        ({"x": np.float32(3)}, "EK206"),
        ({"x": np.zeros((0, 2))}, "EK202"),
        ({"y": np.zeros(3)}, "EK209"),
        ({}, "EK202"),
        ({"x": np.asfortranarray(np.zeros((3, 2)))}, "EK219"),
    ],
)
def test_arrays_that_cannot_be_used(tmp_path, arrays, code):
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path / "d.npz")
    assert caught.value.code == code


def test_nothing_there(tmp_path):
    (tmp_path / "folder").mkdir()
    for spec, code in [
        ("absent.npz", "EK201"),
        ("folder", "EK202"),
        ("absent.py:f", "EK201"),
        ("a.toml", "EK201"),
    ]:
        with pytest.raises(DataError) as caught:
            open_dataset(tmp_path / spec)
        assert caught.value.code == code


def test_too_few_samples(tmp_path):
    dataset = open_dataset(saved(tmp_path, x=numbers((5, 2))))
    for ask in (lambda: dataset.spread(6), lambda: dataset.take([0, 5])):
        with pytest.raises(DataError, match="has only 5") as caught:
            ask()
        assert caught.value.code == "EK210"


def test_folders_of_images(tmp_path):
    from PIL import Image

    for number, name in enumerate(["cat", "ant"]):
        (tmp_path / name).mkdir()
        for copy in range(2):
            pixels = np.full((4, 5, 3), 10 * number + copy, np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{copy}.png")
    dataset = open_dataset(tmp_path).bind(RGB)
    batch = next(iter(dataset.batches(4)))
    assert dataset.class_names == ("ant", "cat")
    assert batch.labels.tolist() == [0, 0, 1, 1]
    assert batch.inputs["image"][:, 0, 0, 0].tolist() == [10, 11, 0, 1]


def test_images_of_different_sizes_need_a_contract(tmp_path):
    from PIL import Image

    (tmp_path / "a").mkdir()
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / "a" / "0.png")
    Image.fromarray(np.zeros((8, 6, 3), np.uint8)).save(tmp_path / "a" / "1.jpg")
    with pytest.raises(DataError, match="differ in size"):
        open_dataset(tmp_path).take([0, 1])
    (tmp_path / "s.toml").write_text('schema = 1\nresize = [4, 5]\nlayout = "nhwc"\n')
    resized = open_dataset(tmp_path, preprocess=str(tmp_path / "s.toml"))
    assert resized.bind(RGB).take([0, 1]).inputs["image"].shape == (2, 4, 5, 3)


def test_a_file_that_is_no_image_is_named(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"0\.png") as caught:
        open_dataset(tmp_path).take([0])
    assert caught.value.code == "EK214"


def test_images_of_16_bits_are_refused_instead_of_saturated(tmp_path):
    from PIL import Image

    (tmp_path / "a").mkdir()
    Image.fromarray(np.full((4, 5), 30_000, np.uint16)).save(tmp_path / "a" / "0.png")
    with pytest.raises(DataError, match="8 bits") as caught:
        open_dataset(tmp_path).take([0])
    assert caught.value.code == "EK214"


def test_a_spec_file_says_where_the_samples_are(tmp_path):
    (tmp_path / "sub").mkdir()
    saved(tmp_path / "sub", x=numbers((3, 4), "uint8"))
    (tmp_path / "s.toml").write_text('schema = 1\ndata = "sub/d.npz"\nscale = 0.5\nlabels = ["no", "yes"]\n')
    dataset = open_dataset(tmp_path / "s.toml")
    assert dataset.class_names == ("no", "yes")
    assert dataset.take([1]).inputs["x"].tolist() == [[2.0, 2.5, 3.0, 3.5]]
    with pytest.raises(UsageError) as caught:
        open_dataset(tmp_path / "s.toml", preprocess="unit-range-rgb")
    assert caught.value.code == "EK220"


def test_a_contract_alone_is_no_data():
    with pytest.raises(UsageError) as caught:
        open_dataset("unit-range-rgb")
    assert caught.value.code == "EK221"


def _script(folder, text):
    path = folder / "mine.py"
    path.write_text(text)
    return f"{path}:samples"


def test_a_users_function(tmp_path):
    text = "import numpy as np\ndef samples():\n    for i in range(5):\n     yield np.full(2, i), i % 2\n"
    dataset = open_dataset(_script(tmp_path, text))
    assert dataset.count == 5
    batches = list(dataset.batches(2))
    assert [batch.labels.tolist() for batch in batches] == [[0, 1], [0, 1], [0]]
    assert batches[2].inputs["x"].tolist() == [[4.0, 4.0]]
    assert dataset.digest() == open_dataset(dataset.spec).digest()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def samples():\n    yield 1 / 0\n", "ZeroDivisionError"),
        ("def other():\n    pass\n", "It has: other"),
        ("import nothing_of_this_name\n", "ModuleNotFoundError"),
        ("def samples(:\n", "SyntaxError"),
        ("def samples():\n    return 3\n", "TypeError"),
    ],
)
def test_a_users_function_that_fails(tmp_path, text, words):
    with pytest.raises(DataError) as caught:
        open_dataset(_script(tmp_path, text))
    assert caught.value.code == "EK213"
    assert words in caught.value.message + caught.value.hint


def test_samples_of_a_function_that_differ_in_shape(tmp_path):
    text = "import numpy as np\ndef samples():\n    yield np.zeros(2)\n    yield np.zeros(3)\n"
    with pytest.raises(DataError) as caught:
        list(open_dataset(_script(tmp_path, text)).batches(2))
    assert caught.value.code == "EK213"


def test_memory_does_not_grow_with_the_number_of_samples(tmp_path):
    import tracemalloc

    peaks = []
    for count in (100, 20_000):
        path = saved(tmp_path, f"{count}.npz", x=np.zeros((count, 28, 28), np.float32), y=np.zeros(count))
        tracemalloc.start()
        assert sum(batch.count for batch in open_dataset(path).batches(32)) == count
        open_dataset(path).take([count - 1])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2_000_000
