"""A comparison of public models: accuracies as published, and one page that holds all of it."""

import json

import pytest

from edgekit.cli._group import run

pytestmark = pytest.mark.acceptance


def test_public_models_side_by_side(assets, tmp_path, capfd):
    folder = assets / "mlperf-tiny-ic"
    names = ["pretrainedResnet.tflite", "pretrainedResnet_quant.tflite", "pretrainedResnet_large_int8.tflite"]
    data = assets / "data" / "cifar10_test5k.npz"
    command = [
        "compare",
        *(str(folder / name) for name in names),
        "--data",
        str(data),
        "--max-seconds",
        "0.5",
    ]
    saved, page = tmp_path / "run.json", tmp_path / "page.html"
    assert run([*command, "--save", str(saved), "--html", str(page), "--json"]) == 0
    printed = json.loads(capfd.readouterr().out)["result"]
    assert [model["evaluation"]["value"] for model in printed["models"]] == [0.8728, 0.8696, 0.911]
    _, small, large = printed["models"]
    assert small["drop"]["drop"] == pytest.approx(0.0032)
    assert small["drop"]["broken"] - small["drop"]["fixed"] == 16
    assert small["drop"]["drop_ci95"][0] < 0 < small["drop"]["drop_ci95"][1]
    assert large["drop"]["drop_ci95"][1] < 0
    assert all(model["ratio"]["median_ratio"] > 0 for model in (small, large))
    assert all(model["pareto"] for model in printed["models"])
    assert page.stat().st_size < 1_000_000
    samples = json.loads(saved.read_text())["result"]["broken_samples"]
    assert len(samples) == 24
    assert all(sample["picture"].startswith("data:image/png;base64,") for sample in samples)
    assert {number for sample in samples for number in sample["wrong"]} == {1, 2}


def test_sounds_are_no_pictures(assets, tmp_path, capfd):
    folder = assets / "mlperf-tiny-kws"
    models = [str(folder / "kws_ref_model_float32.tflite"), str(folder / "kws_ref_model.tflite")]
    data = str(assets / "data" / "speech_commands_mfcc_test2445.npz")
    assert (
        run(["compare", *models, "--data", data, "--no-latency", "--save", str(tmp_path / "run.json")]) == 0
    )
    capfd.readouterr()
    found = json.loads((tmp_path / "run.json").read_text())["result"]
    assert found["models"][1]["evaluation"]["value"] == pytest.approx(0.9202, abs=5e-5)
    assert found["broken_samples"]
    assert all(
        sample["picture"] is None and len(sample["digest"]) == 32 for sample in found["broken_samples"]
    )
