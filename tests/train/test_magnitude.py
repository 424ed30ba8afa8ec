"""Pruning in a training loop: the schedule is followed, zeros stay zero, and the file has them."""

import keras
import numpy as np
import pytest
from keras import layers

from edgekit.errors import UsageError
from edgekit.tflite_kernels import stored_kernels
from edgekit.train.export import export_float, export_sparse
from edgekit.train.magnitude import PruningSchedule, job_schedule, prune_magnitude

# TensorFlow's converter is tried in TensorFlow's own interpreter, which says that it will go away.
pytestmark = pytest.mark.filterwarnings("ignore:\\s+Warning")


def _model():
    keras.utils.set_random_seed(3)
    x = inputs = keras.Input((8, 8, 4))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, name="first")(x)))
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.SeparableConv2D(8, 3, name="separable")(x)
    return keras.Model(inputs, layers.Dense(3, "softmax", name="last")(layers.Flatten()(x)))


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(5)
    y = generator.integers(0, 3, 96)
    return (generator.normal(size=(96, 8, 8, 4)) + y[:, None, None, None]).astype(np.float32), y


def _fit(model, data, callbacks, epochs=1, optimizer="adam"):
    if getattr(model, "optimizer", None) is None:
        model.compile(optimizer, "sparse_categorical_crossentropy")
    model.fit(*data, batch_size=8, epochs=epochs, verbose=0, callbacks=callbacks)


class _Zeros(keras.callbacks.Callback):
    """The share of zeros of one kernel after each step."""

    def __init__(self, kernel):
        super().__init__()
        self._kernel, self.shares = kernel, []

    def on_train_batch_end(self, batch, logs=None):  # noqa: ARG002
        self.shares.append(float((np.asarray(self._kernel) == 0).mean()))


def test_a_polynomial_schedule_has_the_values_of_its_equation():
    schedule = PruningSchedule.polynomial(0.8, initial_sparsity=0.2, begin_step=10, end_step=30)
    assert schedule.sparsity_at(9) == 0
    assert schedule.sparsity_at(10) == pytest.approx(0.2)
    assert schedule.sparsity_at(20) == pytest.approx(0.8 - 0.6 / 8)
    assert [schedule.sparsity_at(step) for step in (30, 31, 10**6)] == [0.8] * 3


def test_a_constant_schedule_prunes_at_once():
    schedule = PruningSchedule.constant(0.7, begin_step=5)
    assert (schedule.sparsity_at(4), schedule.sparsity_at(5)) == (0, 0.7)


@pytest.mark.parametrize("shares", [(1.0, 0.0), (-0.1, -0.2), (0.5, 0.6)])
def test_impossible_shares_are_refused(shares):
    with pytest.raises(UsageError, match="is not possible"):
        PruningSchedule(*shares)


def test_a_job_without_an_end_leaves_a_third_of_its_steps_to_recover():
    options = {
        "sparsity": 0.8,
        "begin_step": 30,
        "end_step": None,
        "frequency": 100,
        "schedule": "polynomial",
    }
    schedule = job_schedule(options, 330)
    assert (schedule.begin_step, schedule.end_step, schedule.frequency) == (30, 230, 10)
    with pytest.raises(UsageError, match="begin at step 30"):
        job_schedule({**options, "end_step": 20}, 330)


@pytest.mark.parametrize("optimizer", ["adam", keras.optimizers.SGD(0.01, momentum=0.9)])
def test_zeros_grow_along_the_schedule_and_stay(data, optimizer):
    model = _model()
    kernel = model.get_layer("first").kernel
    schedule = PruningSchedule.polynomial(0.75, end_step=10, frequency=2)
    seen = _Zeros(kernel)
    _fit(model, data, [prune_magnitude(model, schedule), seen], epochs=2, optimizer=optimizer)
    wanted = [0, *(schedule.sparsity_at(2 * (step // 2)) for step in range(2, 25))]
    # At the first step of an epoch the callback chooses anew.
    assert seen.shares == pytest.approx(wanted, abs=1 / kernel.numpy().size)
    assert (np.asarray(kernel) == 0).mean() == 0.75
    slots = [entry for entry in model.optimizer.variables if entry.name.startswith("first_kernel")]
    assert slots
    for slot in slots:
        assert not np.any(np.asarray(slot)[np.asarray(kernel) == 0])


def test_rules_decide_which_layers_are_pruned(data):
    model = _model()
    pruning = prune_magnitude(
        model, PruningSchedule.constant(0.5), layers={"^last$": 0.25, "^depth": 0.5}, exclude=["^first$"]
    )
    _fit(model, data, [pruning])
    shares = {row["layer"]: row["sparsity"] for row in pruning.report()}
    assert shares == {"depthwise": pytest.approx(0.5, abs=0.01), "separable": 0.5, "last": 0.25}
    assert np.all(np.asarray(model.get_layer("first").kernel) != 0)


def test_depthwise_kernels_stay_dense_without_a_rule(data):
    model = _model()
    _fit(model, data, [prune_magnitude(model, PruningSchedule.constant(0.5))])
    assert np.all(np.asarray(model.get_layer("depthwise").kernel) != 0)


def test_layers_that_cannot_have_the_pattern_are_named(data):
    x = inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, name="three")(x)
    model = keras.Model(inputs, layers.Conv2D(4, 3, name="eight")(x))
    pruning = prune_magnitude(model, PruningSchedule.constant(0.5), pattern="2:4")
    assert pruning.unfit == ("three",)
    model.compile("adam", "mse")
    model.fit(data[0][:8, ..., :3], np.zeros((8, 4, 4, 4), np.float32), verbose=0, callbacks=[pruning])
    groups = np.asarray(model.get_layer("eight").kernel).reshape(3, 3, 2, 4, 4)
    assert np.array_equal((groups == 0).sum(axis=3), np.full((3, 3, 2, 4), 2))


def test_training_that_ends_before_the_schedule_is_noticed(data):
    model = _model()
    pruning = prune_magnitude(model, PruningSchedule.polynomial(0.8, end_step=500, frequency=1))
    _fit(model, data, [pruning])
    assert pruning.missed() == ("first", "separable", "last")


def test_nothing_left_and_broken_rules_are_refused():
    model = _model()
    with pytest.raises(UsageError) as caught:
        prune_magnitude(model, PruningSchedule.constant(0.5), exclude=["."])
    assert caught.value.code == "EK752"
    with pytest.raises(UsageError) as caught:
        prune_magnitude(model, PruningSchedule.constant(0.5), exclude=["("])
    assert caught.value.code == "EK753"


@pytest.mark.slow
def test_zeros_reach_the_file_and_sparse_encoding_makes_it_smaller_where_it_runs(data, tmp_path):
    x = inputs = keras.Input((64,))
    x = layers.Dense(256, "relu")(x)
    model = keras.Model(inputs, layers.Dense(16)(x))
    model.compile("adam", "mse")
    pruning = prune_magnitude(model, PruningSchedule.constant(0.9))
    model.fit(np.ones((8, 64)), np.ones((8, 16)), verbose=0, callbacks=[pruning])
    dense, sparse = tmp_path / "dense.tflite", tmp_path / "sparse.tflite"
    export_float(model, dense)
    stored = stored_kernels(dense)
    assert sum(int((values == 0).sum()) for values in stored.values()) == sum(
        row["zeros"] for row in pruning.report()
    )
    findings = export_sparse(model, sparse)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dense.tflite", "sparse.tflite"]
    if findings:
        assert [finding.code for finding in findings] == ["EK756"]
        assert sparse.stat().st_size == dense.stat().st_size
    else:
        assert sparse.stat().st_size < 0.5 * dense.stat().st_size


def test_a_model_without_zeros_stays_dense_with_a_finding(tmp_path):
    inputs = keras.Input((16,))
    model = keras.Model(inputs, layers.Dense(16)(inputs))
    findings = export_sparse(model, tmp_path / "model.tflite")
    assert [finding.code for finding in findings] == ["EK756"]
    assert (tmp_path / "model.tflite").is_file()
