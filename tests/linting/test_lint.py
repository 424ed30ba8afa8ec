"""Mistakes put into real calibration data are found by the check that looks for them; clean data raise nothing."""

import json

import numpy as np
import pytest
from linting.conftest import DIGITS
from PIL import Image

from edgekit import files
from edgekit.errors import DataError
from edgekit.verbs.lint import lint, planned

_MODEL = DIGITS / "model.tflite"
_TEST = DIGITS / "test.npz"


def _codes(found) -> set[str]:
    return {line.code for line in found.mistakes}


def _line(found, check):
    return next(line.judgement for line in found.lines if line.check == check)


def _spotted(x, value):
    spotted = x.copy()
    spotted[17].flat[5] = value
    return spotted


def _leaked(digits):
    with np.load(_TEST) as test:
        return {
            "x": np.concatenate([digits["x"][50:], test["x"][:50]]),
            "y": np.concatenate([digits["y"][50:], test["y"][:50]]),
        }


def _chosen(digits, rows):
    return {key: values[rows] for key, values in digits.items()}


_MISTAKES = {
    "0..255": ("EK240", lambda d: {**d, "x": d["x"] * 255}),
    "-1..1": ("EK240", lambda d: {**d, "x": d["x"] * 2 - 1}),
    "divided twice": ("EK240", lambda d: {**d, "x": d["x"] / 255}),
    "one sample": ("EK243", lambda d: _chosen(d, np.zeros(200, int))),
    "blank": ("EK244", lambda d: {**d, "x": np.where(np.arange(200)[:, None, None, None] % 20, d["x"], 0)}),
    "sorted": ("EK245", lambda d: _chosen(d, np.argsort(d["y"]))),
    "missing": ("EK246", lambda d: _chosen(d, ~np.isin(d["y"], [3, 4]))),
    "copies": ("EK247", lambda d: _chosen(d, np.random.default_rng(0).integers(0, 60, 200))),
    "leak": ("EK248", _leaked),
    "NaN": ("EK249", lambda d: {**d, "x": _spotted(d["x"], np.nan)}),
    "infinity": ("EK249", lambda d: {**d, "x": _spotted(d["x"], -np.inf)}),
    "outlier": ("EK250", lambda d: {**d, "x": _spotted(d["x"], 12)}),
    "few": ("EK251", lambda d: _chosen(d, np.arange(12))),
}


def test_clean_data_raise_nothing_and_say_what_was_not_looked_at(saved, digits):
    found = lint(saved(**digits), _MODEL, against=_TEST)
    assert found.mistakes == found.findings == ()
    assert {line.check for line in found.lines if line.judgement.verdict == "not run"} == {
        "axis_order",
        "color_order",
    }
    assert (found.samples, found.samples_run) == (200, 200)
    bare = lint(saved(x=digits["x"]), _MODEL)
    reasons = {
        line.check: line.judgement.evidence for line in bare.lines if line.judgement.verdict == "not run"
    }
    assert reasons["leakage"] == "--against was not given."
    assert reasons["missing_classes"] == "the samples have no labels."


@pytest.mark.parametrize(("code", "spoil"), _MISTAKES.values(), ids=_MISTAKES)
def test_each_mistake_is_found_by_its_check(saved, digits, code, spoil):
    found = lint(saved(**spoil(digits)), _MODEL, against=_TEST)
    assert code in _codes(found)
    assert next(finding for finding in found.findings if finding.code == code).hint


def test_nan_does_not_keep_the_other_checks_from_running(saved, digits):
    found = lint(saved(x=_spotted(digits["x"] * 255, np.nan), y=digits["y"]), _MODEL)
    assert {"EK240", "EK249"} <= _codes(found)
    assert found.samples_run == 199
    assert "sample 17" in _line(found, "not_finite").evidence


def test_nothing_but_nan_is_judged_without_the_model(saved):
    found = lint(saved(x=np.full((60, 8, 8, 1), np.nan, np.float32)), _MODEL)
    assert "EK249" in _codes(found)
    assert found.samples_run == 0
    assert _line(found, "too_few").verdict == "not run"


def test_without_labels_the_range_shows_in_the_scores(saved, digits):
    for x in (digits["x"] * 255, digits["x"] / 255):
        assert "EK240" in _codes(lint(saved(x=x), _MODEL))


def test_a_reference_tells_the_range_without_labels(saved, digits):
    right = saved("right", x=digits["x"][:60])
    assert "EK240" in _codes(lint(saved(x=digits["x"][60:] * 2 - 1), _MODEL, reference=right))
    assert (
        "the reference"
        in _line(lint(saved(x=digits["x"][60:]), _MODEL, reference=right), "wrong_range").evidence
    )


def test_the_contract_of_the_lineage_tells_the_range(saved, digits, tmp_path):
    model = tmp_path / "digits.tflite"
    files.copy_file(_MODEL, model)
    contract = {"name": "signed", "scale": 1 / 127.5, "mean": [1.0]}
    model.with_name("digits.tflite.json").write_text(json.dumps({"preprocessing": contract}))
    found = lint(saved(x=digits["x"] * 255), model)
    assert "contract signed" in _line(found, "wrong_range").evidence
    assert (
        "contract"
        not in _line(lint(saved(x=digits["x"] * 255), model, preprocess="none"), "wrong_range").evidence
    )


def test_the_scale_of_a_quantized_input_tells_the_range(models, saved, digits):
    found = lint(saved(**{**digits, "x": digits["x"] * 255}), models.tflite_cnn_int8)
    assert "'image' holds 0 to" in _line(found, "wrong_range").evidence
    assert "EK240" not in _codes(lint(saved(**digits), models.tflite_cnn_int8))


def test_a_rescaling_layer_tells_the_range(model, saved):
    rescaling = model(
        [
            ("Div", ["x", "d"], ["scaled"], {}),
            ("Sub", ["scaled", "one"], ["moved"], {}),
            ("Tanh", ["moved"], ["y"], {}),
        ],
        (6, 6),
        (6, 6),
        {"d": np.float32(127.5), "one": np.float32(1)},
    )
    pixels = np.random.default_rng(0).uniform(0, 255, (60, 6, 6)).astype(np.float32)
    assert _line(lint(saved(x=pixels), rescaling), "wrong_range").verdict == "clean"
    wrong = _line(lint(saved(x=pixels / 255), rescaling), "wrong_range")
    assert wrong.verdict == "mistake"
    assert "times 0.00784, plus -1" in wrong.evidence


def test_reconstruction_tells_the_range(model, saved):
    """A model that gives back 0..1, as an autoencoder with a sigmoid does."""
    copy = model(
        [("Clip", ["x", "low", "high"], ["y"], {})],
        (40,),
        (40,),
        {"low": np.float32(0), "high": np.float32(1)},
    )
    waves = np.random.default_rng(0).uniform(0, 1, (60, 40)).astype(np.float32)
    assert "reconstruction" in _line(lint(saved(x=waves), copy), "wrong_range").evidence
    wrong = _line(lint(saved(x=waves * 2 - 1), copy), "wrong_range")
    assert "error in giving them back" in wrong.evidence


def test_exchanged_colors_are_told_by_labels(red_or_blue, saved, sunsets):
    right = sunsets(120, 0)
    assert "labels" in _line(lint(saved(**right), red_or_blue), "color_order").evidence
    found = lint(saved(x=right["x"][:, ::-1], y=right["y"]), red_or_blue)
    assert _codes(found) == {"EK241"}


def test_exchanged_colors_are_told_by_a_reference(red_or_blue, saved, sunsets):
    reference = saved("reference", x=sunsets(60, 1)["x"])
    x = sunsets(120, 0)["x"]
    assert _codes(lint(saved(x=x), red_or_blue, reference=reference)) == set()
    assert "EK241" in _codes(lint(saved(x=x[:, ::-1]), red_or_blue, reference=reference))


def test_a_gray_reference_tells_no_order_of_colors(red_or_blue, saved, sunsets):
    gray = sunsets(60, 1)["x"].mean(axis=1, keepdims=True).repeat(3, axis=1)
    noisy = gray + np.random.default_rng(0).normal(0, 1e-3, gray.shape).astype(np.float32)
    found = lint(saved(x=sunsets(120, 0)["x"]), red_or_blue, reference=saved("gray", x=noisy))
    assert _line(found, "color_order").verdict == "not run"


def test_axes_that_were_reshaped_are_found_by_their_neighbours(red_or_blue, saved, sunsets):
    x = sunsets(120, 0)["x"]
    assert "EK242" not in _codes(lint(saved(x=x), red_or_blue))
    mixed = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).reshape(x.shape)
    assert "EK242" in _codes(lint(saved(x=mixed), red_or_blue))


def test_axes_are_found_by_the_shape(red_or_blue, saved, sunsets):
    found = lint(saved(x=sunsets(120, 0)["x"].transpose(0, 2, 3, 1)), red_or_blue)
    assert _codes(found) == {"EK242"}
    assert "[12, 12, 3]" in _line(found, "axis_order").evidence
    assert _line(found, "too_few").verdict == "not run"


def test_another_shape_is_refused(saved):
    with pytest.raises(DataError) as caught:
        lint(saved(x=np.zeros((60, 9, 9, 1), np.float32)), _MODEL)
    assert caught.value.code == "EK206"


def test_labels_that_the_model_was_not_trained_for_tell_nothing(saved, digits):
    shuffled = np.random.default_rng(0).permutation(digits["y"])
    line = _line(lint(saved(x=digits["x"], y=shuffled), _MODEL), "wrong_range")
    assert line.verdict == "clean"
    assert "labels" not in line.evidence


def test_folders_of_classes_are_sorted_by_nature(tmp_path, digits):
    for label in (3, 7):
        folder = tmp_path / "pictures" / str(label)
        folder.mkdir(parents=True)
        for number, picture in enumerate(digits["x"][digits["y"] == label]):
            Image.fromarray((picture[..., 0] * 255).astype(np.uint8)).save(folder / f"{number}.png")
    spec = tmp_path / "digits.toml"
    labels = ", ".join(f'"{label}"' for label in range(10))
    spec.write_text(f'schema = 1\nscale = 0.00392156862745098\nlayout = "nhwc"\nlabels = [{labels}]\n')
    found = lint(tmp_path / "pictures", _MODEL, preprocess=str(spec))
    assert _line(found, "class_order").verdict == "clean"
    assert _line(found, "missing_classes").verdict == "mistake"
    assert "EK240" not in _codes(found)


def test_raw_and_prepared_samples_are_known_as_the_same(saved, digits, tmp_path):
    """Leaks are found whatever type the evaluation data are saved as."""
    pixels = (digits["x"][:100] * 16).astype(np.uint8)
    found = lint(saved(x=pixels), _MODEL, against=saved("against", x=pixels.astype(np.float64)))
    assert "EK248" in _codes(found)


def test_the_number_of_samples_that_run_is_bounded_and_drawn_by_the_seed(saved, digits):
    data = saved(**digits)
    first, again, other = (lint(data, _MODEL, samples=64, seed=seed) for seed in (1, 1, 2))
    assert (first.samples, first.samples_run) == (200, 64)
    assert first.describe() == again.describe()
    assert _line(first, "too_few").evidence != _line(other, "too_few").evidence


def test_the_plan_lists_the_checks(saved, digits):
    plan, _ = planned(saved(**digits), _MODEL, samples=64)
    assert (plan["samples"], plan["samples_run"]) == (200, 64)
    assert [check["code"] for check in plan["checks"]] == [f"EK{number}" for number in range(240, 252)]


def test_louder_samples_than_the_reference_are_no_mistake(model, saved):
    """Nothing but a sum: no scores of classes, and values in none of the usual ranges."""
    total = model([("ReduceSum", ["x"], ["y"], {"keepdims": 1})], (30,), (1,), {})
    waves = np.random.default_rng(0).normal(0, 10, (120, 30)).astype(np.float32)
    reference = saved("reference", x=waves[:60])
    assert _line(lint(saved(x=3 * waves[60:]), total, reference=reference), "wrong_range").verdict == "clean"
    assert (
        _line(lint(saved(x=255 * waves[60:]), total, reference=reference), "wrong_range").verdict == "mistake"
    )
    assert _line(lint(saved(x=waves[60:]), total), "wrong_range").verdict == "not run"


def test_masks_of_sigmoids_are_no_classes(model, saved):
    mask = model([("Sigmoid", ["x"], ["y"], {})], (20,), (20,), {})
    x = np.sort(np.random.default_rng(0).normal(0, 1, (80, 20)).astype(np.float32), axis=0)
    assert _line(lint(saved(x=x), mask), "class_order").verdict == "not run"


@pytest.mark.slow
def test_a_keras_model_is_converted(models, saved, digits):
    assert lint(saved(**digits), models.keras_cnn).mistakes == ()
    assert "EK240" in _codes(lint(saved(x=digits["x"] * 255, y=digits["y"]), models.saved_model_cnn))


@pytest.mark.slow
def test_a_model_of_two_inputs(models, saved):
    generator = np.random.default_rng(0)
    x = {name: generator.standard_normal((60, 4)).astype(np.float32) for name in ("first", "second")}
    found = lint(saved(**x), models.keras_two_inputs)
    assert found.mistakes == ()
    x["second"][5, 2] = 1e4
    assert "'second'" in _line(lint(saved(**x), models.keras_two_inputs), "outliers").evidence
