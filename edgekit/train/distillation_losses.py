"""The losses of distillation: how far a student's outputs, maps and relations are from its teacher's."""

from typing import Any, Literal

import tensorflow as tf

Ends = Literal["softmax", "logits", "sigmoid", "decisions", "values"]
FeatureLoss = Literal["hint", "attention", "relation"]

# Probabilities below it have logarithms that say nothing more.
_SMALLEST = 1e-30
_EPSILON = 1e-8


def logits(outputs: Any, ends: Ends, floor: float = _SMALLEST) -> Any:
    """Logits out of what a model gives; probabilities give them up to a constant, which a softmax does not see.

    Args:
        outputs: (n, classes).
        ends: How the model ends: ``"softmax"`` or ``"sigmoid"``; ``"logits"`` and ``"decisions"`` are logits
            already, of classes and of outputs that each say yes or no.
        floor: Probabilities below count as this much: an int8 output cannot tell those below half a unit from 0.
    """
    outputs = tf.cast(outputs, tf.float32)
    if ends == "softmax":
        return tf.math.log(tf.maximum(outputs, floor))
    if ends == "sigmoid":
        floor = max(floor, 1e-7)  # float32 has no number nearer to 1
        inside = tf.clip_by_value(outputs, floor, 1 - floor)
        return tf.math.log(inside) - tf.math.log1p(-inside)
    return outputs


def soft_targets(teacher: Any, student: Any, temperature: float) -> Any:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), the mean over samples (arXiv:1503.02531, section 2).

    Args:
        teacher: Logits, (n, ..., classes).
        student: Logits of the same shape.
        temperature: T; the factor T^2 keeps the gradients as large as those of the labels at any T.
    """
    wanted = tf.nn.log_softmax(teacher / temperature)
    given = tf.nn.log_softmax(student / temperature)
    divergence = tf.reduce_sum(tf.exp(wanted) * (wanted - given), axis=-1)
    return temperature**2 * tf.reduce_mean(divergence)


def soft_decisions(teacher: Any, student: Any, temperature: float) -> Any:
    """The same for outputs that each say yes or no: T^2 KL between Bernoulli distributions, their mean."""
    teacher, student = teacher / temperature, student / temperature
    yes = tf.sigmoid(teacher)
    wanted = yes * tf.math.log_sigmoid(teacher) + (1 - yes) * tf.math.log_sigmoid(-teacher)
    given = yes * tf.math.log_sigmoid(student) + (1 - yes) * tf.math.log_sigmoid(-student)
    return temperature**2 * tf.reduce_mean(wanted - given)


def standardized(logits: Any) -> Any:
    """Logits of classes with mean 0 and standard deviation 1 in each sample (arXiv:2403.01531, section 4).

    A large teacher has larger logits than its student can have, or should: what counts is their order and their
    proportions.
    """
    centred = logits - tf.reduce_mean(logits, axis=-1, keepdims=True)
    variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
    return centred * tf.math.rsqrt(variance + _EPSILON)


def output_loss(
    teacher: Any, student: Any, ends: Ends, temperature: float, *, standardize: bool = False
) -> Any:
    """The loss of one output: soft targets for classes, the mean squared difference for values.

    Args:
        teacher: Logits, or values, of the teacher.
        student: The student's output as it is.
        ends: How the student ends.
        temperature: For classes.
        standardize: Compare the logits of classes whatever their scale.
    """
    if ends == "values":
        return tf.reduce_mean(tf.math.squared_difference(tf.cast(student, tf.float32), teacher))
    divergence = soft_decisions if ends in ("sigmoid", "decisions") else soft_targets
    given = logits(student, ends)
    if standardize and divergence is soft_targets:
        teacher, given = standardized(teacher), standardized(given)
    return divergence(teacher, given, temperature)


def feature_loss(teacher: Any, student: Any, kind: FeatureLoss) -> Any:
    """How far a layer of the student is from one of the teacher.

    Args:
        teacher: What ``teacher_view`` made of the teacher's layer.
        student: The student's layer, projected to the teacher's width for ``"hint"``.
        kind: Which of the three.
    """
    if kind == "hint":
        return tf.reduce_mean(tf.math.squared_difference(_same_size(student, teacher), teacher))
    if kind == "attention":
        return _attention(teacher, teacher_view(student, kind))
    return _relation(teacher, teacher_view(student, kind))


def teacher_view(features: Any, kind: FeatureLoss) -> Any:
    """What a loss needs of a layer: (n, h, w, c) as it is, its attention (n, h, w, 1), or one vector (n, c).

    Attention is the mean square over channels (arXiv:1612.03928, section 3.1); the vector is the mean over places.
    """
    features = tf.cast(features, tf.float32)
    if kind == "hint":
        return features
    if kind == "attention":
        return tf.reduce_mean(tf.square(features), axis=-1, keepdims=True)
    return tf.reduce_mean(tf.reshape(features, [tf.shape(features)[0], -1, features.shape[-1]]), axis=1)


def _same_size(features: Any, other: Any) -> Any:
    """Maps of other heights and widths are resized."""
    if len(features.shape) != 4 or features.shape[1:3] == other.shape[1:3]:
        return features
    return tf.image.resize(features, other.shape[1:3])


def _attention(teacher: Any, student: Any) -> Any:
    """The squared distance of the normalised maps, the mean over samples."""
    teacher = _same_size(teacher, student)
    flat = [
        tf.math.l2_normalize(tf.reshape(maps, [tf.shape(maps)[0], -1]), axis=1, epsilon=_EPSILON)
        for maps in (teacher, student)
    ]
    return tf.reduce_mean(tf.reduce_sum(tf.math.squared_difference(*flat), axis=1))


def _relation(teacher: Any, student: Any) -> Any:
    """Distances and angles between the samples of a batch (arXiv:1904.05068, section 3.2), weighed 1 to 2."""
    return _huber(_distances(teacher), _distances(student)) + 2 * _huber(_angles(teacher), _angles(student))


def _distances(vectors: Any) -> Any:
    """(n, n): between each two samples, in units of their mean."""
    difference = vectors[:, None, :] - vectors[None, :, :]
    squared = tf.reduce_sum(tf.square(difference), axis=-1)
    # The root has no gradient at 0, where a sample meets itself.
    apart = squared > _EPSILON
    distance = tf.where(apart, tf.sqrt(tf.where(apart, squared, 1.0)), 0.0)
    count = tf.maximum(tf.reduce_sum(tf.cast(apart, tf.float32)), 1.0)
    return distance / tf.maximum(tf.reduce_sum(distance) / count, _EPSILON)


def _angles(vectors: Any) -> Any:
    """(n, n, n): the cosine at sample i between the directions to j and to k."""
    directions = tf.math.l2_normalize(vectors[None, :, :] - vectors[:, None, :], axis=-1, epsilon=_EPSILON)
    return tf.matmul(directions, directions, transpose_b=True)


def _huber(teacher: Any, student: Any) -> Any:
    difference = tf.abs(student - tf.stop_gradient(teacher))
    return tf.reduce_mean(tf.where(difference < 1, 0.5 * tf.square(difference), difference - 0.5))
