"""Distillation by hand: losses against formulas in numpy, and a student that learns from rows on disk."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from edgekit.errors import ModelError, UsageError
from edgekit.train import DistillationOptions, TeacherOutput, apply_distillation, thin, with_layer_rates
from edgekit.train import distillation_losses as losses
from edgekit.train.layer_rates import layer_factors


def _softmax(values):
    powers = np.exp(values - values.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _rows(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32) * 3


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_soft_targets_are_those_of_the_paper(temperature):
    teacher, student = _rows(16, 10), _rows(16, 10, seed=1)
    wanted, given = _softmax(teacher / temperature), _softmax(student / temperature)
    by_hand = temperature**2 * np.mean(np.sum(wanted * np.log(wanted / given), axis=1))
    assert float(losses.soft_targets(teacher, student, temperature)) == pytest.approx(by_hand, rel=1e-4)


def test_probabilities_give_the_loss_of_their_logits():
    teacher, student = _rows(16, 10), _rows(16, 10, seed=1)
    from_logits = losses.output_loss(teacher, student, "logits", 4.0)
    recovered = losses.logits(_softmax(teacher), "softmax")
    assert float(losses.output_loss(recovered, _softmax(student), "softmax", 4.0)) == pytest.approx(
        float(from_logits), rel=1e-4
    )


def test_standardized_logits_say_nothing_about_their_scale():
    teacher, student = _rows(16, 10), _rows(16, 10, seed=1)
    plain = float(losses.output_loss(teacher, student, "logits", 2.0, standardize=True))
    scaled = float(losses.output_loss(5 * teacher + 3, 0.2 * student - 1, "logits", 2.0, standardize=True))
    assert scaled == pytest.approx(plain, rel=1e-3)
    assert plain > 0.01
    by_hand = [
        (rows - rows.mean(1, keepdims=True)) / rows.std(1, keepdims=True) for rows in (teacher, student)
    ]
    assert plain == pytest.approx(float(losses.soft_targets(*by_hand, 2.0)), rel=1e-4)


def test_zeros_of_a_quantized_teacher_count_as_their_floor():
    found = np.asarray(losses.logits(np.array([[0.0, 1.0]], np.float32), "softmax", floor=1 / 1024))
    assert found == pytest.approx(np.array([[np.log(1 / 1024), 0.0]]))


def test_decisions_are_bernoulli_divergences():
    teacher, student = _rows(16, 3), _rows(16, 3, seed=1)
    wanted, given = 1 / (1 + np.exp(-teacher / 2)), 1 / (1 + np.exp(-student / 2))
    divergence = wanted * np.log(wanted / given) + (1 - wanted) * np.log((1 - wanted) / (1 - given))
    assert float(losses.output_loss(teacher, student, "decisions", 2.0)) == pytest.approx(
        4 * divergence.mean(), rel=1e-3
    )


def test_values_have_a_squared_difference():
    teacher, student = _rows(16, 3), _rows(16, 3, seed=1)
    expected = np.mean((teacher - student) ** 2)
    assert float(losses.output_loss(teacher, student, "values", 4.0)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["hint", "attention", "relation"])
def test_a_student_with_the_features_of_its_teacher_has_no_loss(kind):
    features = _rows(6, 4, 4, 5)
    wanted = losses.teacher_view(features, kind)
    assert float(losses.feature_loss(wanted, features, kind)) == pytest.approx(0, abs=1e-5)
    assert float(losses.feature_loss(wanted, _rows(6, 4, 4, 5, seed=1), kind)) > 0.01


def test_attention_compares_maps_of_other_sizes_and_widths():
    wanted = losses.teacher_view(_rows(6, 8, 8, 5), "attention")
    assert wanted.shape == (6, 8, 8, 1)
    assert np.isfinite(float(losses.feature_loss(wanted, _rows(6, 4, 4, 3), "attention")))


def test_relations_ignore_scale_and_width():
    features = _rows(6, 5)
    wider = np.concatenate([3 * features, np.zeros((6, 2), np.float32)], axis=1)
    wanted = losses.teacher_view(features, "relation")
    assert float(losses.feature_loss(wanted, wider, "relation")) == pytest.approx(0, abs=1e-4)


def test_equal_samples_have_a_gradient():
    student = tf.Variable(np.ones((4, 3), np.float32))
    with tf.GradientTape() as tape:
        loss = losses.feature_loss(_rows(4, 3), student, "relation")
    assert np.isfinite(tape.gradient(loss, student).numpy()).all()


def _student(units=4, end="softmax"):
    keras.utils.set_random_seed(0)
    given = keras.Input((6,), name="x")
    hidden = keras.layers.Dense(units, "relu", name="hidden")(given)
    return keras.Model(given, keras.layers.Dense(3, end, name="classes")(hidden), name="student")


def _taught(count=64):
    x = _rows(count, 6)
    logits = x @ _rows(6, 3, seed=2)
    return x, logits.argmax(1), _softmax(logits).astype(np.float32)


def test_the_loss_is_the_weighted_sum():
    x, labels, teacher = _taught()
    student = _student()
    student.trainable = False
    options = DistillationOptions(temperature=2.0, alpha=0.7)
    model = apply_distillation(student, [TeacherOutput("said", "softmax")], options)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(), metrics=["accuracy"])
    given = student.predict(x, verbose=0)
    soft = [_softmax(np.log(rows) / 2) for rows in (teacher, given)]
    by_teacher = 4 * np.mean(np.sum(soft[0] * np.log(soft[0] / soft[1]), axis=1))
    by_labels = np.mean(-np.log(given[np.arange(len(x)), labels]))
    loss = float(model.compute_loss(x, {"label": labels, "said": teacher}, model(x)))
    assert loss == pytest.approx(0.7 * by_teacher + 0.3 * by_labels, rel=1e-4)
    assert float(model.compute_loss(x, labels, model(x))) == pytest.approx(by_labels, rel=1e-4)


def test_a_student_learns_from_its_teacher_alone():
    x, labels, teacher = _taught(256)
    student = _student(units=16)
    wrong = np.zeros_like(labels)  # with alpha 1 nobody looks at the labels
    options = DistillationOptions(alpha=1.0)
    model = apply_distillation(student, [TeacherOutput("said", "softmax")], options)
    model.compile(keras.optimizers.Adam(0.02), keras.losses.SparseCategoricalCrossentropy())
    model.fit(x, {"label": wrong, "said": teacher}, epochs=30, verbose=0)
    assert np.mean(student.predict(x, verbose=0).argmax(1) == labels) > 0.9


def test_several_outputs_are_learnt_together():
    given = keras.Input((6,))
    student = keras.Model(
        given, [keras.layers.Dense(3, "softmax", name="a")(given), keras.layers.Dense(2, name="b")(given)]
    )
    x, _labels, teacher = _taught()
    values = _rows(len(x), 2, seed=5)
    said = [TeacherOutput("classes", "softmax"), TeacherOutput("numbers", "values")]
    model = apply_distillation(
        student, said, DistillationOptions(temperature=1.0, alpha=1.0), ends=("softmax", "values")
    )
    loss = float(model.compute_loss(x, {"label": values, "classes": teacher, "numbers": values}, model(x)))
    classes, numbers = student.predict(x, verbose=0)
    by_hand = np.mean(np.sum(teacher * np.log(teacher / classes), axis=1)) + np.mean((numbers - values) ** 2)
    assert loss == pytest.approx(by_hand, rel=1e-3)


def test_hints_of_another_width_are_projected_and_leave_the_student_as_it_was():
    x, labels, teacher = _taught()
    student = _student()
    options = DistillationOptions(features=(("theirs", "hidden"),))
    model = apply_distillation(student, [TeacherOutput("said", "softmax")], options, widths={"feature_0": 7})
    model.compile(keras.optimizers.Adam(0.05), keras.losses.SparseCategoricalCrossentropy())
    y = {"label": labels, "said": teacher, "feature_0": np.abs(x @ _rows(6, 7, seed=3))}
    losses_seen = model.fit(x, y, epochs=15, verbose=0).history["loss"]
    assert losses_seen[-1] < losses_seen[0] / 2
    assert model.get_layer("projection_0").weights[0].shape == (4, 7)
    assert [layer.name for layer in student.layers] == ["x", "hidden", "classes"]


def test_layers_that_cannot_be_paired_are_named():
    options = DistillationOptions(features=(("theirs", "hiden"),))
    with pytest.raises(ModelError, match="no layer 'hiden'") as caught:
        apply_distillation(_student(), [TeacherOutput("said", "softmax")], options)
    assert "hidden" in caught.value.hint


def test_a_teacher_with_another_number_of_outputs_is_refused():
    with pytest.raises(ModelError, match="2 outputs, the student 1"):
        apply_distillation(_student(), [TeacherOutput("a", "softmax"), TeacherOutput("b", "softmax")])


@pytest.mark.parametrize("wrong", [{"alpha": 1.5}, {"temperature": 0.0}, {"feature_weight": -1.0}])
def test_weights_that_make_no_loss_are_refused(wrong):
    with pytest.raises(UsageError, match="loss"):
        DistillationOptions(**wrong)


def _residual():
    given = keras.Input((8, 8, 3))
    first = keras.layers.Conv2D(8, 3, padding="same", name="first")(given)
    x = keras.layers.BatchNormalization()(first)
    x = keras.layers.DepthwiseConv2D(3, padding="same")(x)
    x = keras.layers.Conv2D(8, 1, name="second")(x)
    x = keras.layers.Add()([x, first])
    gate = keras.layers.GlobalAveragePooling2D()(x)
    gate = keras.layers.Dense(8, "sigmoid")(keras.layers.Reshape((1, 1, 8))(gate))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Multiply()([x, gate]))
    return keras.Model(given, keras.layers.Dense(10, "softmax", name="classes")(x))


def test_half_the_width_has_half_the_channels_but_all_classes():
    model = _residual()
    made = thin(model, 0.5)
    assert made.get_layer("first").kernel.shape == (3, 3, 3, 4)
    assert made.get_layer("second").kernel.shape == (1, 1, 4, 4)
    assert made.output.shape == (None, 10)
    assert made.count_params() < 0.6 * model.count_params()
    assert np.asarray(made(_rows(2, 8, 8, 3))).sum(1) == pytest.approx([1, 1], abs=1e-5)


def test_a_width_at_which_layers_do_not_fit_is_refused():
    given = keras.Input((8, 8, 4))
    x = keras.layers.Add()([keras.layers.Conv2D(4, 1)(given), given])
    model = keras.Model(given, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
    with pytest.raises(ModelError, match=r"At width 0\.5 the layer 'add"):
        thin(model, 0.5)


def test_each_layer_takes_steps_as_large_as_its_weights_allow():
    student = _student()
    hidden, classes = student.get_layer("hidden"), student.get_layer("classes")
    hidden.kernel.assign(np.full((6, 4), 0.01, np.float32))
    classes.kernel.assign(np.full((4, 3), 0.5, np.float32))
    factors = layer_factors(student)
    assert factors[hidden.kernel.path] == factors[hidden.bias.path] == pytest.approx(0.12)
    assert factors[classes.kernel.path] == 1.0
    optimizer = with_layer_rates(keras.optimizers.Adam(0.001), student)
    optimizer.build(student.trainable_variables)
    before = [np.asarray(variable) for variable in student.trainable_variables]
    optimizer.apply([np.ones_like(value) for value in before])
    moved = [
        float(np.abs(np.asarray(variable) - value).max())
        for variable, value in zip(student.trainable_variables, before, strict=True)
    ]
    # Adam's first step is the learning rate, whatever the gradient.
    assert moved == pytest.approx([0.00012, 0.00012, 0.001, 0.001], rel=1e-3)


def test_layers_of_a_sequential_model_can_be_paired():
    layers = [keras.Input((6,)), keras.layers.Dense(4, name="hidden"), keras.layers.Dense(3, "softmax")]
    student = keras.Sequential(layers)
    student(np.zeros((2, 6), np.float32))
    options = DistillationOptions(features=(("theirs", "hidden"),))
    model = apply_distillation(student, [TeacherOutput("said", "softmax")], options)
    x = _rows(5, 6)
    expected = x @ np.asarray(student.layers[0].kernel)
    assert np.asarray(model(x)[1]) == pytest.approx(expected, abs=1e-5)
