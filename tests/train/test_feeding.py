"""Samples as Keras gets them: fresh ones from a function in each epoch, and labels for each output."""

import keras
import numpy as np
import pytest

from edgekit.data import open_dataset
from edgekit.data.output_labels import with_output_labels
from edgekit.errors import DataError
from edgekit.train.feeding import Feed

_PIPELINE = """
import numpy as np, tensorflow as tf
def samples():
    x = np.repeat(np.arange(40, dtype=np.float32)[:, None], 3, 1)
    data = tf.data.Dataset.from_tensor_slices((x, np.arange(40))).shuffle(40)
    return data.map(lambda a, b: (a + tf.random.uniform((3,), maxval=0.4), b))
def endless():
    return samples().repeat()
"""


@pytest.fixture
def pipeline(tmp_path):
    path = tmp_path / "augmented.py"
    path.write_text(_PIPELINE, encoding="utf-8")
    return path


def test_a_pipeline_augments_anew_in_each_epoch_and_labels_stay_with_their_samples(pipeline):
    feed = Feed(open_dataset(f"{pipeline}:samples"), ("x",))
    epochs = []
    for seed in (0, 1):
        batches = [(x.numpy(), y.numpy()) for x, y in feed.epoch(16, seed)]
        assert [len(y) for _x, y in batches] == [16, 16, 8]
        x, y = (np.concatenate(part) for part in zip(*batches, strict=True))
        assert sorted(y) == list(range(40))
        np.testing.assert_array_equal(np.floor(x), np.repeat(y[:, None], 3, 1))
        epochs.append(x[np.argsort(y)])
    assert (epochs[0] != epochs[1]).mean() > 0.9


def test_a_pipeline_without_an_end_is_refused(pipeline):
    with pytest.raises(DataError, match="without an end"):
        open_dataset(f"{pipeline}:endless")


def test_labels_of_two_outputs_come_in_the_order_of_the_outputs(tmp_path):
    x = np.arange(20, dtype=np.float32).reshape(10, 2)
    np.savez(tmp_path / "d.npz", x=x, y_size=x * 2, y_kind=np.arange(10))
    feed = Feed(with_output_labels(open_dataset(tmp_path / "d.npz"), ["kind", "size"]), ("x",))
    for given, (kind, size) in feed.epoch(4, 0):
        np.testing.assert_array_equal(size, given * 2)
        np.testing.assert_array_equal(kind, given.numpy()[:, 0] / 2)
    with pytest.raises(DataError, match="no labels for place") as caught:
        with_output_labels(open_dataset(tmp_path / "d.npz"), ["kind", "place"])
    assert caught.value.code == "EK737"


def test_a_function_names_the_outputs_of_its_labels(tmp_path):
    (tmp_path / "f.py").write_text("def f():\n    yield [1.0, 2.0], {'a': 3, 'b': [4.0]}\n")
    dataset = with_output_labels(open_dataset(f"{tmp_path / 'f.py'}:f"), ["b", "a"])
    (_x, (b, a)), *_none = Feed(dataset, ("x",)).epoch(1, 0)
    assert keras.tree.map_structure(lambda value: value.numpy().tolist(), (b, a)) == ([4.0], [3])
