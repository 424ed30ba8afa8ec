"""Every metric keeps one contract; each one's numbers are worked by hand."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from edgekit.catalog import load, names
from edgekit.errors import DataError
from edgekit.metrics import Answers, Context, auc, mae, snr, top1
from edgekit.statistics import roc_area

SCORES = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.4, 0.4, 0.2], [0.0, 0.1, 0.9]], np.float32)
LABELS = np.array([0, 1, 1, 2], np.uint8)


def answers(scores, labels=None, *, inputs=None, reference=None, first=0):
    scores = np.asarray(scores)
    given = np.zeros((len(scores), 7)) if inputs is None else inputs
    other = None if reference is None else {"out": np.asarray(reference)}
    return Answers({"in": given}, {"out": scores}, labels, first, other)


def rows_of(name, *args, **options):
    return load("metrics", name).measure(answers(*args, **options))


def summary_of(name, *args, **options):
    return load("metrics", name).summarize(rows_of(name, *args, **options), Context(output_names=("out",)))


def fitting(name, seed):
    """A batch that the metric of this name can score."""
    rng = np.random.default_rng(seed)
    if name == "auc":
        return answers(rng.random((40, 1)), np.arange(40) % 2)
    if name in {"mse", "mae"}:
        return answers(rng.random((40, 3)), rng.random((40, 3)))
    if name == "map":
        return answers(rng.random((40, 2)), np.arange(40) % 2)
    scores, reference = rng.random((40, 7)), rng.random((40, 7))
    return answers(scores, np.arange(40) % 7, reference=reference)


@pytest.fixture
def few_resamples(monkeypatch):
    """Enough for intervals that only have to lie where they must; tests/test_statistics.py says how good they are."""
    monkeypatch.setattr("edgekit.statistics._RESAMPLES", 200)


@pytest.mark.usefixtures("few_resamples")
@pytest.mark.parametrize("name", names("metrics"))
def test_every_metric_keeps_the_contract(name):
    metric = load("metrics", name)
    batch = fitting(name, 0)
    rows = metric.measure(batch)
    assert rows.dtype == np.float64
    assert rows.shape[0] == 40
    context = Context(output_names=("out",))
    summary = metric.summarize(rows, context)
    assert summary.ci95.low <= summary.value <= summary.ci95.high
    assert metric.NEEDS in {"labels", "reference", "target"}
    assert metric.UNIT in {"fraction", "dB", ""}
    if metric.UNIT == "fraction":
        assert summary.ci95.low >= 0
        assert summary.ci95.high <= 1
    # Rows of halves are the halves of the rows: batches may be cut anywhere.
    half = Answers(
        {"in": batch.inputs["in"][:17]},
        {"out": batch.outputs["out"][:17]},
        None if batch.labels is None else batch.labels[:17],
        0,
        None if batch.reference is None else {"out": batch.reference["out"][:17]},
    )
    np.testing.assert_array_equal(metric.measure(half), rows[:17])
    assert metric.summarize(rows, context).ci95 == summary.ci95


@pytest.mark.usefixtures("few_resamples")
@pytest.mark.parametrize("name", names("metrics"))
def test_every_metrics_drop_is_the_difference_of_its_values(name):
    metric = load("metrics", name)
    before, after = metric.measure(fitting(name, 0)), metric.measure(fitting(name, 1))
    if name in {"mse", "mae", "snr"}:
        after = before * 1.5 + np.arange(len(before))[:, None] * 0.01
    values = [metric.summarize(rows, Context(output_names=("out",))).value for rows in (before, after)]
    worse = values[0] - values[1] if metric.HIGHER_IS_BETTER else values[1] - values[0]
    found = metric.drop(before, after)
    assert found.value == pytest.approx(worse)
    assert found.ci95.low <= found.value <= found.ci95.high
    swapped = metric.drop(after, before)
    assert swapped.value == pytest.approx(-found.value)
    same = metric.drop(before, before)
    assert same.value == 0
    assert same.ci95.low <= 0 <= same.ci95.high
    if found.broken is not None:
        assert (swapped.fixed, swapped.broken) == (found.broken, found.fixed)
        assert found.value == pytest.approx((found.broken - found.fixed) / len(before))


def test_top1_by_hand():
    summary = summary_of("top1", SCORES, LABELS)
    # The third sample's highest scores are equal: the first class counts, and the label is the second.
    assert summary.value == 0.75
    assert summary.confusion.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert [(item["class"], item["n"], item["value"]) for item in summary.per_class] == [
        (0, 1, 1.0),
        (1, 2, 0.5),
        (2, 1, 1.0),
    ]
    assert [finding.code for finding in summary.findings] == ["EK401"]
    assert summary.findings[0].message.startswith("1 of 4")


@pytest.mark.parametrize(
    "labels", [np.eye(3)[[0, 1, 1, 2]], LABELS[:, None], LABELS.astype(np.float64), LABELS.astype(np.int64)]
)
def test_labels_may_be_numbers_or_one_hot(labels):
    np.testing.assert_array_equal(rows_of("top1", SCORES, labels), rows_of("top1", SCORES, LABELS))


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0, 1, 3, 2], "Sample 12 has the label 3; the model has 3 classes"),
        ([0, -1, 1, 2], "Sample 11 has the label -1"),
        ([0, 0.5, 1, 2], "Sample 11 has the label 0.5"),
        ([0, 1, np.nan, 2], "Sample 12 has the label nan"),
        (np.full((4, 3), 1 / 3), "not one-hot"),
        (np.zeros((4, 2)), "shape [2] per sample"),
    ],
)
def test_labels_out_of_range(labels, words):
    with pytest.raises(DataError) as caught:
        rows_of("top1", SCORES, np.array(labels), first=10)
    assert caught.value.code == "EK208"
    assert words in caught.value.message


def test_no_labels_names_the_way_without():
    with pytest.raises(DataError) as caught:
        rows_of("top1", SCORES)
    assert caught.value.code == "EK211"
    assert "--reference" in caught.value.hint


@pytest.mark.parametrize("name", ["top1", "top5", "agreement"])
def test_images_are_no_class_scores(name):
    with pytest.raises(DataError) as caught:
        rows_of(name, np.zeros((4, 8, 8, 1)), LABELS, reference=np.zeros((4, 8, 8, 1)))
    assert caught.value.code == "EK420"


def test_scores_that_are_no_numbers_count_as_wrong():
    broken = SCORES.copy()
    broken[0, 1] = np.nan
    summary = summary_of("top1", broken, LABELS)
    assert summary.value == 0.5
    assert "EK402" in [finding.code for finding in summary.findings]


def test_top5_by_hand():
    scores = np.array([[9, 8, 7, 6, 5, 4, 3], [9, 8, 7, 6, 5, 5, 3], [9, 8, 7, 6, 5, 5, 3], [1] * 7])
    rows = rows_of("top5", scores, np.array([5, 4, 5, 0]))
    assert rows[:, 1].tolist() == [5, 4, 5, 0]
    summary = summary_of("top5", scores, np.array([5, 4, 5, 0]))
    assert summary.value == 0.5
    assert summary.findings[0].message.startswith("3 of 4")


def test_top5_of_five_classes_says_nothing():
    with pytest.raises(DataError, match="always right"):
        rows_of("top5", np.eye(5), np.arange(5))


@pytest.mark.parametrize(
    "scores",
    [[[0.1], [0.4], [0.35], [0.8]], [[0.9, 0.1], [0.6, 0.4], [0.65, 0.35], [0.2, 0.8]]],
)
def test_auc_of_scores_by_hand(scores):
    assert summary_of("auc", np.array(scores), np.array([0, 0, 1, 1])).value == 0.75


def test_auc_of_an_autoencoder_by_hand():
    given = np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    rebuilt = given + np.array([[0.1, -0.1], [0.5, 0.0], [1.0, -2.0]])
    rows = rows_of("auc", rebuilt, np.array([0, 0, 1]), inputs=given)
    np.testing.assert_allclose(rows[:, 1], [0.1, 0.25, 1.5])
    assert summary_of("auc", rebuilt, np.array([0, 0, 1]), inputs=given).value == 1.0


@pytest.mark.usefixtures("few_resamples")
def test_mean_average_precision_is_scikit_learns():
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(3)
    labels = (rng.random((200, 4)) < 0.3).astype(np.uint8)
    scores = np.round(labels + rng.normal(0, 1, (200, 4)), 1)  # rounded, so that some are equal
    summary = summary_of("map", scores, labels)
    assert summary.value == pytest.approx(average_precision_score(labels, scores, average="macro"))
    alone = average_precision_score(labels, scores, average=None)
    assert [item["value"] for item in summary.per_class] == pytest.approx(alone)
    assert [item["n"] for item in summary.per_class] == labels.sum(axis=0).tolist()


@pytest.mark.usefixtures("few_resamples")
def test_mean_average_precision_by_hand():
    # Ranked 0.9 yes, 0.8 no, 0.7 yes: half of the recall at precision 1, half at 2/3.
    labels = np.array([[1, 0], [0, 1], [1, 0]])
    scores = np.array([[0.9, 0.1], [0.8, 0.6], [0.7, 0.2]])
    summary = summary_of("map", scores, labels)
    assert [item["value"] for item in summary.per_class] == pytest.approx([5 / 6, 1.0])
    assert summary.value == pytest.approx(11 / 12)
    assert summary_of("map", scores, np.array([0, 1, 0])).value == pytest.approx(11 / 12)


@pytest.mark.usefixtures("few_resamples")
def test_a_drop_of_mean_average_precision_is_paired():
    rng = np.random.default_rng(5)
    labels = (rng.random((200, 2)) < 0.4).astype(float)
    before = np.hstack([labels, labels + 0.6 * rng.normal(size=(200, 2))])
    after = before.copy()
    after[:, 2:] += 0.8 * rng.normal(size=(200, 2))
    drop = load("metrics", "map").drop(before, after)
    values = [load("metrics", "map").summarize(rows, Context()).value for rows in (before, after)]
    assert drop.value == pytest.approx(values[0] - values[1])
    assert 0 < drop.ci95.low < drop.value < drop.ci95.high
    assert drop.p_values(0.0).verdict(0.05) == "fail"
    assert load("metrics", "map").drop(before, before).value == 0


def test_tags_must_be_tags():
    with pytest.raises(DataError, match="neither 0 nor 1"):
        rows_of("map", np.zeros((2, 2)), np.array([[1, 2], [0, 1]]))
    with pytest.raises(DataError, match="nothing can be found"):
        summary_of("map", np.zeros((2, 2)), np.zeros((2, 2)))


def test_drop_of_auc_agrees_with_delong():
    """DeLong's interval of a difference, Biometrics 44 (1988) 837, is near BCa's on a few hundred samples."""
    rng = np.random.default_rng(4)
    labels = np.repeat([0.0, 1.0], 200)
    scores = labels + rng.normal(size=400)
    noisy = scores + 0.5 * rng.normal(size=400)
    before, after = (roc_area(values, labels == 1) for values in (scores, noisy))
    of_positives = before.of_positives - after.of_positives
    of_negatives = before.of_negatives - after.of_negatives
    spread = np.sqrt(of_positives.var(ddof=1) / 200 + of_negatives.var(ddof=1) / 200)
    drop = auc.drop(np.column_stack([labels, scores]), np.column_stack([labels, noisy]))
    assert drop.value == pytest.approx(before.area - after.area)
    np.testing.assert_allclose(drop.ci95, drop.value + np.array([-1.96, 1.96]) * spread, atol=0.2 * spread)
    p_values = drop.p_values(0.0)
    assert p_values.within == pytest.approx(NormalDist().cdf(-drop.value / spread), rel=0.8)


def test_drop_of_auc_of_one_class():
    rows = np.column_stack([np.zeros(3), np.arange(3.0)])
    with pytest.raises(DataError, match="same label"):
        auc.drop(rows, rows)


def test_drops_know_how_many_samples_would_tell():
    correct = np.zeros((1000, 3))
    wrong = correct.copy()
    wrong[:29, 1] = 1
    drop = top1.drop(correct, wrong)
    # 30 of 1001: Connor's formula for 3% gives 1,851 from none to one point.
    assert drop.samples_needed(0.01, alpha=0.05, power=0.8) == pytest.approx(1851, abs=5)
    assert drop.samples_needed(0.0, alpha=0.05, power=0.8) is None
    errors = np.random.default_rng(1).normal(size=(400, 1))
    rise = mae.drop(errors, errors + np.random.default_rng(2).normal(size=(400, 1)))
    # (1.645 + 0.842) ** 2 / 0.1 ** 2 samples for a spread of 1
    assert rise.samples_needed(0.1, alpha=0.05, power=0.8) == pytest.approx(618, rel=0.15)


def test_an_infinite_loss_is_beyond_every_limit():
    exact, noisy = np.array([[4.0, 0.0]] * 30), np.array([[4.0, 0.1]] * 30)
    assert snr.drop(exact, noisy).p_values(3.0).verdict(0.05) == "fail"
    assert snr.drop(exact, exact).p_values(3.0).verdict(0.05) == "pass"


def test_auc_of_one_class():
    with pytest.raises(DataError) as caught:
        summary_of("auc", np.zeros((3, 1)), np.zeros(3))
    assert caught.value.code == "EK422"


def test_errors_by_hand():
    outputs, targets = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 0.0], [0.0, 4.0]])
    assert summary_of("mse", outputs, targets).value == (2 + 4.5) / 2
    assert summary_of("mae", outputs, targets).value == (1 + 1.5) / 2


def test_the_target_is_labels_then_reference_then_input():
    outputs = np.zeros((2, 2))
    ones, twos, threes = (np.full((2, 2), value, float) for value in (1, 2, 3))
    assert summary_of("mae", outputs, ones, reference=twos, inputs=threes).value == 1
    assert summary_of("mae", outputs, reference=twos, inputs=threes).value == 2
    assert summary_of("mae", outputs, inputs=threes).value == 3
    with pytest.raises(DataError) as caught:
        summary_of("mae", outputs)
    assert caught.value.code == "EK211"


def test_snr_by_hand():
    # Signal 9 + 16 + 0 = 25, noise 0.25: 20 dB.
    summary = summary_of("snr", [[3.0, 4.0], [0.5, 0.0]], reference=[[3.0, 4.0], [0.0, 0.0]])
    assert summary.value == pytest.approx(20)
    assert summary.per_class[0]["output"] == "out"


def test_snr_reports_the_worst_output():
    metric = load("metrics", "snr")
    batch = Answers(
        {},
        {"a": np.array([[1.0]]), "b": np.array([[1.1]])},
        None,
        0,
        {"a": np.array([[1.0]]), "b": np.array([[1.0]])},
    )
    summary = metric.summarize(metric.measure(batch), Context(output_names=("a", "b")))
    assert summary.value == pytest.approx(20)
    assert [item["value"] for item in summary.per_class] == pytest.approx([math.inf, 20])


@pytest.mark.parametrize(("output", "value"), [([[1.0, 2.0]], math.inf), ([[np.nan, 2.0]], -math.inf)])
def test_snr_without_noise_or_without_numbers(output, value):
    assert summary_of("snr", output, reference=[[1.0, 2.0]]).value == value


def test_agreement_by_hand():
    summary = summary_of("agreement", SCORES, reference=SCORES[[0, 1, 1, 3]])
    assert summary.value == 0.75


@pytest.mark.parametrize("name", ["snr", "agreement"])
def test_no_reference(name):
    with pytest.raises(DataError) as caught:
        rows_of(name, SCORES, LABELS)
    assert caught.value.code == "EK421"
