import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from edgekit.catalog import data_folder
from edgekit.cli._group import run
from edgekit.verbs.schema import schema
from edgekit.workflows.demo import planned

WITHOUT_TENSORFLOW = (
    "import sys; sys.modules['tensorflow'] = None; from edgekit.cli._group import run; sys.exit(run({}))"
)
MODELS = ["model.tflite", "float16.tflite", "dynamic.tflite", "int8.tflite"]


def demo(folder, *options, without_tensorflow=False):
    arguments = ["demo", str(folder), "--json", *options]
    command = [sys.executable, "-m", "edgekit", *arguments]
    if without_tensorflow:
        command = [sys.executable, "-c", WITHOUT_TENSORFLOW.format(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout)


@pytest.fixture(scope="module")
def without_tensorflow(build_once):
    """The demo's folder and document where TensorFlow is not installed: the quicker of the two."""

    def build(folder):
        code, document = demo(folder / "edgekit-demo", without_tensorflow=True)
        assert code == 0, document
        (folder / "document.json").write_text(json.dumps(document))

    folder = build_once("demo", build)
    return folder / "edgekit-demo", json.loads((folder / "document.json").read_text())


@pytest.fixture(scope="module")
def with_tensorflow(tmp_path_factory):
    pytest.importorskip("h5py", reason="needs the tensorflow extra")
    folder = tmp_path_factory.mktemp("demo") / "edgekit-demo"
    began = time.monotonic()
    code, document = demo(folder)
    assert code == 0, document
    return folder, document, time.monotonic() - began


def names(document):
    return [Path(model["artifact"]["path"]).name for model in document["result"]["models"]]


def by_name(document):
    return dict(zip(names(document), document["result"]["models"], strict=True))


def check_numbers(document):
    models = by_name(document)
    for name, model in models.items():
        assert model["artifact"]["size_bytes"] > model["artifact"]["gzip_bytes"] > 10_000
        judged = model["evaluation"]
        assert judged["n"] == 600
        assert judged["ci95"][0] < judged["value"] < judged["ci95"][1]
        assert judged["value"] > 0.97, name
    baseline = models["model.tflite"]
    for name, size in (("float16.tflite", 0.52), ("dynamic.tflite", 0.32), ("int8.tflite", 0.32)):
        model = models[name]
        assert model["artifact"]["size_bytes"] < size * baseline["artifact"]["size_bytes"]
        judged = model["evaluation"]
        assert judged["drop_ci95"][0] <= judged["drop"] <= judged["drop_ci95"][1]
        assert judged["broken"] - judged["fixed"] == round(600 * judged["drop"])
        assert model["ratio"]["median_ratio"] > 0
        assert model["latency_ms"]["median"] < 1
        assert model["lineage"]["engine"] == model["engine"]


def test_without_tensorflow_it_begins_from_the_tflite_model_and_says_so(without_tensorflow):
    folder, document = without_tensorflow
    assert names(document) == MODELS
    assert "EK370" in [finding["code"] for finding in document["findings"]]
    check_numbers(document)
    assert {path.name for path in folder.iterdir()} == {
        "calibration.npz",
        "demo.html",
        "model.keras",
        "test.npz",
        *MODELS,
        *(f"{name}.json" for name in MODELS[1:]),
    }


def test_drops_are_those_of_the_predictions(without_tensorflow):
    """Top-1 of int8 from LiteRT alone, without edgekit's evaluation."""
    from ai_edge_litert.interpreter import Interpreter

    folder, document = without_tensorflow
    with np.load(folder / "test.npz") as archive:
        x, y = archive["x"], archive["y"]
    shares = {}
    for name in ("model.tflite", "int8.tflite"):
        interpreter = Interpreter(model_path=str(folder / name), num_threads=1)
        interpreter.allocate_tensors()
        right = 0
        for image, digit in zip(x, y, strict=True):
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
            interpreter.invoke()
            right += interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).argmax() == digit
        shares[name] = right / 600
    models = by_name(document)
    assert models["int8.tflite"]["evaluation"]["value"] == pytest.approx(shares["int8.tflite"])
    drop = models["int8.tflite"]["evaluation"]["drop"]
    assert drop == pytest.approx(shares["model.tflite"] - shares["int8.tflite"])


def test_the_page_shows_the_documents_numbers(without_tensorflow):
    folder, document = without_tensorflow
    check_shown((folder / "demo.html").read_text(encoding="utf-8"), document)


def check_shown(html, document):
    for name, model in by_name(document).items():
        row = re.search(rf'<tr id="{name}">.*?</tr>', html, re.DOTALL)[0]
        judged = model["evaluation"]
        expected = [f"{model['artifact'][key] / 1000:.1f}" for key in ("size_bytes", "gzip_bytes")]
        expected += [f"{100 * judged['value']:.2f}%", f"{100 * judged['ci95'][0]:.2f}%"]
        if "drop" in judged:
            expected += [
                f"{100 * value:+.2f}".replace("-", "\N{MINUS SIGN}") for value in judged["drop_ci95"]
            ]
            expected += [f"{model['ratio']['median_ratio']:.2f}", model["engine"]]
        for text in expected:
            assert f">{text}" in row or f" {text}" in row, (name, text)


def test_a_folder_that_holds_something_is_left_alone(tmp_path, capfd):
    (tmp_path / "mine.txt").write_text("precious")
    assert run(["demo", str(tmp_path)]) == 2
    assert "exists already" in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_folder_whose_parent_is_missing_is_not_made(tmp_path, capfd):
    assert run(["demo", str(tmp_path / "a" / "b")]) == 2
    assert "mkdir -p" in capfd.readouterr().err
    assert not (tmp_path / "a").exists()


def test_a_file_in_the_place_of_the_folder(tmp_path, capfd):
    (tmp_path / "file").write_text("x")
    assert run(["demo", str(tmp_path / "file"), "--overwrite"]) == 2
    assert "is a file" in capfd.readouterr().err


def test_dry_run_prints_the_commands_and_makes_nothing(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["demo", "--dry-run", "--seed", "3"]) == 0
    assert tuple(capfd.readouterr().out.splitlines()) == planned(seed=3)
    assert list(tmp_path.iterdir()) == []
    assert planned(seed=3)[-1].endswith("--seed 3")


def test_ctrl_c_leaves_no_processes(tmp_path):
    command = [sys.executable, "-m", "edgekit", "demo", str(tmp_path / "demo")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr.readline().startswith("$ edgekit evaluate")
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Interrupted" in err
    assert not list(tmp_path.rglob("*.part"))
    running = Path("/proc")
    if running.is_dir():
        owners = [path.read_bytes() for path in running.glob("[0-9]*/cmdline") if os.access(path, os.R_OK)]
        assert not [line for line in owners if str(tmp_path).encode() in line]


@pytest.mark.slow
def test_the_whole_demo_in_about_a_minute(with_tensorflow):
    _, document, seconds = with_tensorflow
    jsonschema.Draft202012Validator(schema("demo")).validate(document)
    assert names(document) == ["model.keras", *MODELS]
    check_numbers(document)
    assert document["result"]["models"][0]["latency_ms"] is None
    assert "EK370" not in [finding["code"] for finding in document["findings"]]
    assert seconds < 120


@pytest.mark.slow
def test_its_commands_by_hand_give_the_same_files(with_tensorflow, tmp_path):
    _, document, _ = with_tensorflow
    for name in ("model.keras", "model.tflite", "calibration.npz", "test.npz"):
        shutil.copy(data_folder("examples") / "digits" / name, tmp_path)
    models = by_name(document)
    for line in document["result"]["commands"]:
        program, *arguments = shlex.split(line)
        assert program == "edgekit"
        done = subprocess.run(
            [sys.executable, "-m", "edgekit", "--json", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (line, done.stderr)
        found = json.loads(done.stdout)["result"]
        if arguments[0] == "quantize":
            model = models[found["artifact"]["path"]]
            assert found["artifact"]["sha256"] == model["artifact"]["sha256"]
            assert found["engine"] == model["engine"]
            assert found["evaluation"]["drop"] == model["evaluation"]["drop"]
            assert found["evaluation"]["drop_ci95"] == model["evaluation"]["drop_ci95"]
        elif arguments[0] == "evaluate":
            assert found["value"] == models[arguments[1]]["evaluation"]["value"]
        else:
            assert [entry["model"] for entry in found["models"]] == MODELS


@pytest.mark.slow
def test_a_browser_shows_it(with_tensorflow, tmp_path):
    folder, document, _ = with_tensorflow
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-component-update"
    more = "--disable-background-networking --disable-sync"
    base = [chromium, *flags.split(), *more.split(), f"--user-data-dir={tmp_path / 'profile'}"]
    page = (folder / "demo.html").as_uri()

    dom = subprocess.run([*base, "--dump-dom", page], capture_output=True, text=True, check=True, timeout=120)
    check_shown(dom.stdout, document)
    assert dom.stdout.count("<circle") == 8

    for size in ("1200,1600", "500,3000"):
        shot = tmp_path / f"{size}.png"
        arguments = [f"--window-size={size}", f"--screenshot={shot}", page]
        subprocess.run([*base, *arguments], capture_output=True, check=True, timeout=120)
        image = pytest.importorskip("PIL.Image", reason="needs pillow").open(shot).convert("RGB")
        assert image.size == tuple(int(side) for side in size.split(","))
        # Ink, panels and four series: a blank or broken page has a handful of colors.
        assert len(image.getcolors(1 << 20)) > 100
