"""The whole of ``edgekit cluster`` and ``edgekit prune`` without channels, in the training process."""

import json

import numpy as np
import pytest
from jsonschema import validate

from edgekit.cli._group import run
from edgekit.tflite_kernels import stored_kernels
from edgekit.verbs.schema import schema


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    path = tmp_path_factory.mktemp("samples") / "train.npz"
    generator = np.random.default_rng(4)
    x = generator.random((256, 8, 8, 1), np.float32)
    np.savez(path, x=x, y=generator.integers(0, 10, 256))
    return path


@pytest.fixture
def document(capsys):
    """Run a command line and check its document before handing it over."""

    def ask(*arguments):
        assert run([*map(str, arguments), "--json"]) == 0
        answer = json.loads(capsys.readouterr().out)
        validate(answer, schema(arguments[0]))
        return answer

    return ask


@pytest.mark.slow
def test_a_clustered_file_compresses_and_qat_keeps_its_values(models, samples, tmp_path, document):
    clustered, tflite = tmp_path / "clustered.keras", tmp_path / "clustered.tflite"
    options = ["--train", samples, "--validation", samples, "--epochs", "1"]
    found = document(
        "cluster", models.keras_cnn, "-o", clustered, *options, "--clusters", "8", "--tflite", tflite
    )
    report = found["result"]["report"]
    assert report["layers"]
    assert {row["distinct"] for row in report["layers"]} == {8}
    in_file = [len(np.unique(values)) for values in stored_kernels(tflite).values()]
    assert [row["distinct"] for row in report["stored"]] == in_file
    assert sum(distinct <= 8 for distinct in in_file) == len(report["layers"])
    assert found["result"]["tflite"]["gzip_bytes"] < 0.6 * report["before"]["gzip_bytes"]

    int8 = tmp_path / "int8.tflite"
    found = document(
        "qat", clustered, "-o", tmp_path / "q.keras", *options, "--preserve", "clusters", "--tflite", int8
    )
    kept = found["result"]["report"]["kept"]
    distinct = sorted(len(np.unique(values)) for values in stored_kernels(int8).values())
    assert kept
    assert sum(count <= 8 for count in distinct) >= len(kept)
    assert "EK758" in [finding["code"] for finding in found["findings"]]


@pytest.mark.slow
def test_a_pruned_file_has_the_zeros_that_the_report_tells(models, samples, tmp_path, document):
    tflite = tmp_path / "pruned.tflite"
    found = document(
        *("prune", models.keras_cnn, "-o", tmp_path / "pruned.keras", "--train", samples, "--epochs", "3"),
        *("--sparsity", "0.75", "--early-stopping", "1", "--no-benchmark", "--tflite", tflite),
    )
    report = found["result"]["report"]
    assert all(abs(row["sparsity"] - 0.75) < 0.05 for row in report["kernels"])
    stored = sum(int((values == 0).sum()) for values in stored_kernels(tflite).values())
    assert stored == sum(row["zeros"] for row in report["kernels"])
    sizes = report["files"]["float32"]
    assert sizes["after"]["size_bytes"] == pytest.approx(sizes["before"]["size_bytes"], rel=0.02)
    assert sizes["after"]["gzip_bytes"] < 0.7 * sizes["before"]["gzip_bytes"]
