"""``edgekit prune --structured`` as a whole: files that are smaller, budgets that are kept, steps that add up."""

import json

import numpy as np
import pytest

import edgekit
from edgekit.cli._group import run
from edgekit.errors import OutputError, UsageError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"structured": True}, "Structured pruning takes one budget, and 0 are given"),
        ({"structured": True, "target_macs": 0.5, "target_size": "9KB"}, "and 2 are given"),
        ({"target_macs": 0.5}, "Pruning of weights takes no budget"),
        ({"structured": True, "target_macs": 0.5, "steps": 4}, "3 epochs are too few for 4 steps"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        edgekit.prune(tmp_path / "m.keras", tmp_path / "o.keras", train_data="d.npz", **options)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """Images whose brightness tells the class."""
    generator = np.random.default_rng(0)
    y = generator.integers(0, 10, 256)
    x = (y[:, None, None, None] / 10 + generator.normal(0, 0.02, (256, 8, 8, 1))).astype(np.float32)
    path = tmp_path_factory.mktemp("samples") / "train.npz"
    np.savez(path, x=x, y=y)
    return path


@pytest.mark.parametrize(
    "fields",
    [{"output": "o.h5"}, {"tflite": "there.txt"}, {"csv": "there.txt"}, {"tensorboard": "there.txt"}],
    ids=str,
)
def test_outputs_are_looked_at_before_any_work(tmp_path, fields):
    (tmp_path / "there.txt").write_text("kept")
    output, *_none = places = [tmp_path / fields.pop("output", "o.keras")]
    given = {name: str(tmp_path / value) for name, value in fields.items()}
    with pytest.raises((UsageError, OutputError), match=r"does not end in \.keras|exists already"):
        # There is no model either, which would be told by whatever came first.
        edgekit.prune(
            tmp_path / "m.keras", output, train_data="d.npz", structured=True, target_latency=0.5, **given
        )
    assert (tmp_path / "there.txt").read_text() == "kept"
    assert not any(place.exists() for place in places)


def _stop_at(key, value):
    """Progress that ctrl-C ends."""

    def report(event):
        if event.get(key) == value:
            raise KeyboardInterrupt

    return report


@pytest.mark.slow
def test_magnitude_pruning_that_was_interrupted_goes_on_along_its_schedule(models, samples, tmp_path):
    # Epochs enough that the training is not over yet when the word of the first one has come.
    options = {"train_data": samples, "epochs": 6, "sparsity": 0.8, "batch_size": 4, "benchmark": False}
    whole = edgekit.prune(models.keras_cnn, tmp_path / "whole.keras", **options)
    output = tmp_path / "resumed.keras"
    with pytest.raises(KeyboardInterrupt):
        edgekit.prune(models.keras_cnn, output, progress=_stop_at("event", "epoch"), **options)
    resumed = edgekit.prune(models.keras_cnn, output, resume=True, **options)
    assert "EK729" in [finding.code for finding in resumed.findings]
    assert [epoch.numbers for epoch in resumed.epochs] == [epoch.numbers for epoch in whole.epochs]
    assert resumed.report["kernels"] == whole.report["kernels"]
    with pytest.raises(KeyboardInterrupt):
        edgekit.prune(
            models.keras_cnn, output, overwrite=True, progress=_stop_at("event", "epoch"), **options
        )
    other = {**options, "sparsity": 0.5, "overwrite": True, "epochs": 1}
    anew = edgekit.prune(models.keras_cnn, output, resume=True, **other)
    assert "EK738" in [finding.code for finding in anew.findings]


@pytest.mark.slow
def test_two_steps_reach_the_budget_of_macs(models, samples, tmp_path, capfd):
    output, tflite = tmp_path / "small.keras", tmp_path / "small.tflite"
    arguments = ["--json", "prune", str(models.keras_cnn), "-o", str(output), "--train", str(samples)]
    arguments += ["--validation", str(samples), "--structured", "--target-macs", "50%", "--multiple", "1"]
    arguments += ["--steps", "2", "--epochs", "2", "--criterion", "taylor", "--tflite", str(tflite)]
    options = {"target_macs": "50%", "multiple": 1, "steps": 2, "epochs": 2, "criterion": "taylor"}
    logs, progress = tmp_path / "log.csv", _stop_at("text", "step 2 of 2")
    options |= {"tflite": str(tflite), "csv": str(logs), "validation": str(samples), "progress": progress}
    with pytest.raises(KeyboardInterrupt):
        edgekit.prune(models.keras_cnn, output, train_data=samples, structured=True, **options)
    first = logs.read_text()
    assert [line.split(",")[0] for line in first.splitlines()] == ["epoch", "1"]

    assert run([*arguments, "--csv", str(logs), "--resume"]) == 0
    shown = capfd.readouterr().out
    assert logs.read_text().startswith(first)
    assert [line.split(",")[0] for line in logs.read_text().splitlines()] == ["epoch", "1", "2"]
    result = json.loads(shown)["result"]
    report = result["report"]
    assert [epoch["epoch"] for epoch in result["epochs"]] == [1, 2]
    assert report["budget"]["after"] <= 0.5 * report["budget"]["before"]
    # The operators of the files say the same as the report.
    before, after = edgekit.inspect(models.keras_cnn), edgekit.inspect(tflite)
    assert before.macs == report["macs"]["before"]
    assert after.macs == report["macs"]["after"]
    assert tflite.stat().st_size == report["files"]["float32"]["after"]["size_bytes"]
    for sizes in report["files"].values():
        assert sizes["after"]["size_bytes"] < sizes["before"]["size_bytes"]
    assert set(report["latency"]) == {"float32", "int8"}
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith(".")} == set()


@pytest.mark.slow
def test_a_size_is_that_of_the_file_and_one_too_small_is_refused(models, samples, tmp_path):
    output, tflite = tmp_path / "small.keras", tmp_path / "small.tflite"
    options = {"train_data": samples, "structured": True, "epochs": 1, "benchmark": False, "multiple": 1}
    done = edgekit.prune(
        models.keras_cnn,
        output,
        target_size="70%",
        precision="int4-per-tensor",
        eight_bit=["^stem$"],
        teacher=models.keras_cnn,
        augment="shift:1",
        learning_rate_decay="cosine",
        tflite=tflite,
        **options,
    )
    sizes = done.report["files"]["int4-per-tensor"]
    limit = 0.7 * sizes["before"]["size_bytes"]
    assert 0.85 * limit < sizes["after"]["size_bytes"] <= limit
    # The teacher was trained on other images, which is said.
    assert "EK769" in {finding.code for finding in done.findings}
    assert tflite.stat().st_size == done.report["files"]["float32"]["after"]["size_bytes"]
    # What was promised is the size of the file that 4-bit training makes later.
    later = {"train_data": samples, "epochs": 1, "weight_bits": 4, "per_channel": False, "overwrite": True}
    quantized = edgekit.qat(output, tmp_path / "qat.keras", tflite=tflite, eight_bit=["^stem$"], **later)
    # The 8 bits of the depthwise layer were not asked for.
    wider = [finding.message for finding in quantized.findings if finding.code == "EK742"]
    slow = [finding.message for finding in quantized.findings if finding.code == "EK303"]
    assert slow == ["1 operators run outside the fast kernels: 1 CONV_2D."]
    assert [("stem" in message, "depthwise" in message) for message in wider] == [(False, True)]
    assert abs(tflite.stat().st_size - sizes["after"]["size_bytes"]) <= 64
    kept = output.read_bytes()
    with pytest.raises(UsageError, match=r"1,000 bytes cannot be reached: .* is the least") as caught:
        edgekit.prune(models.keras_cnn, output, target_size="1KB", overwrite=True, **options)
    assert (caught.value.code, caught.value.exit_code) == ("EK745", 2)
    assert output.read_bytes() == kept


@pytest.mark.acceptance
def test_resnet8_with_half_of_its_macs_is_smaller_and_its_latency_measured(assets, tmp_path):
    with np.load(assets / "data" / "cifar10_train20k.npz") as arrays:
        np.savez(tmp_path / "train.npz", x=arrays["x"][:4000], y=arrays["y"][:4000])
    model, tflite = assets / "mlperf-tiny-ic" / "pretrainedResnet.h5", tmp_path / "half.tflite"
    done = edgekit.prune(
        model,
        tmp_path / "half.keras",
        train_data=tmp_path / "train.npz",
        epochs=3,
        structured=True,
        target_macs="50%",
        learning_rate=5e-4,
        tflite=tflite,
    )
    report = done.report
    assert report["macs"]["before"] == 12_501_632
    assert 0.45 * 12_501_632 < report["macs"]["after"] <= 0.5 * 12_501_632
    for precision in ("float32", "int8"):
        sizes, latency = report["files"][precision], report["latency"][precision]
        assert sizes["after"]["size_bytes"] < 0.6 * sizes["before"]["size_bytes"]
        # How much faster it is depends on the machine, which others use too.
        low, high = latency["ratio_ci95"]
        assert 0 < low <= latency["ratio"] <= high
    accuracy = edgekit.evaluate(tflite, assets / "data" / "cifar10_test5k.npz")
    assert accuracy.value > 0.5


@pytest.mark.acceptance
def test_a_width_is_found_for_a_latency(assets, tmp_path):
    with np.load(assets / "data" / "cifar10_train20k.npz") as arrays:
        np.savez(tmp_path / "train.npz", x=arrays["x"][:500], y=arrays["y"][:500])
    model = assets / "mlperf-tiny-ic" / "pretrainedResnet.h5"
    options = {"train_data": tmp_path / "train.npz", "epochs": 1, "structured": True}
    done = edgekit.prune(model, tmp_path / "fast.keras", target_latency=0.7, **options)
    widths = done.report["search"]["widths"]
    assert max(width["macs"] for width in widths if width["ratio"] <= 0.7) == done.report["search"]["macs"]
    with pytest.raises(UsageError, match=r"A latency of 0\.01 cannot be reached: 0.* is the least"):
        edgekit.prune(model, tmp_path / "none.keras", target_latency=0.01, **options)
