"""Core ML packages by the real coremltools, read back; no machine of the tests can run one."""

import json
import shutil
import zipfile

import numpy as np
import pytest

import edgekit
from edgekit.artifact import TensorSpec
from edgekit.catalog import data_file
from edgekit.cli._group import run
from edgekit.compilers import coremltools as compiler
from edgekit.errors import DependencyError, ModelError, OutputError, TargetError, UsageError
from edgekit.toolchain import Toolchain

h5py = pytest.importorskip("h5py", reason="needs the tensorflow extra")

_TARGET = "ios-coreml"
_SHOW = """
import json, sys
import coremltools
model = coremltools.models.MLModel(sys.argv[1], skip_model_load=True)
weights = coremltools.optimize.coreml.get_weights_metadata(model, weight_threshold=100)
spec = model.get_spec()
ends = [feature.name for feature in [*spec.description.input, *spec.description.output]]
values = {len(value.val.shape): value.val.astype("float32").ravel().tolist() for value in weights.values()}
print(json.dumps([ends, spec.specificationVersion, {str(v.val.dtype) for v in weights.values()}.pop(), values]))
"""


@pytest.fixture(scope="module")
def installed(build_once):
    """coremltools, installed once for all processes in a cache of the tests' own."""

    def install(folder):
        patch.setenv("XDG_CACHE_HOME", str(folder))
        edgekit.toolchain_install("coremltools")

    with pytest.MonkeyPatch.context() as patch:
        folder = build_once("coremltools", install)
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield


def show(package, folder):
    """Names of inputs and outputs, the version, the type of large weights, and their values by rank."""
    script = folder / "show.py"
    script.write_text(_SHOW)
    done = Toolchain.load("coremltools").run(["python", str(script), str(package)], timeout_s=120)
    return json.loads(done.stdout.splitlines()[-1])


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("name", ["keras_cnn", "h5_cnn", "saved_model_cnn"])
def test_a_network_becomes_a_package(models, tmp_path, name):
    source = edgekit.open_artifact(getattr(models, name))
    output = tmp_path / "model.mlpackage"
    compiled = edgekit.compile(source.path, output, target=_TARGET)
    assert names(output) == ["Data", "Manifest.json"]
    ends, version, dtype, values = show(output, tmp_path)
    assert ends == [spec.name for spec in (*source.inputs, *source.outputs)]
    # iOS 15 is version 6 of the format.
    assert (version, dtype) == (6, "float16")
    assert "4" in values
    kinds = [one.kind for one in compiled.compilation.operators]
    assert kinds.count("conv") >= 3
    assert "softmax" in kinds
    assert {one.place for one in compiled.compilation.operators} == {"core_ml"}
    assert [finding.code for finding in compiled.findings] == ["EK388"]
    assert compiled.compilation.configuration == {
        "minimum_deployment_target": "iOS15",
        "compute_precision": "float16",
    }
    weights = output / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    assert compiled.compilation.estimates == {"weights_bytes": weights.stat().st_size}
    lineage = json.loads((tmp_path / "model.mlpackage.json").read_text())
    assert (lineage["engine"], lineage["options"]["target"]) == ("coremltools 9.0", _TARGET)


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_the_weights_are_the_models(models, tmp_path):
    """The dense layer's, which has no batch normalization folded into it."""
    edgekit.compile(models.keras_cnn, tmp_path / "model.mlpackage", target=_TARGET)
    _ends, _version, _dtype, values = show(tmp_path / "model.mlpackage", tmp_path)
    with zipfile.ZipFile(models.keras_cnn) as archive:
        archive.extract("model.weights.h5", tmp_path)
    kernels = []
    with h5py.File(tmp_path / "model.weights.h5") as stored:
        stored.visititems(lambda _name, found: kernels.append(np.array(found)) if is_dense(found) else None)
    found = [kernel.T for kernel in kernels if kernel.size == len(values["2"])]
    assert any(np.allclose(np.ravel(kernel), values["2"], atol=2e-3) for kernel in found)


def is_dense(found):
    return isinstance(found, h5py.Dataset) and found.ndim == 2


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_names_of_several_outputs_and_loops_that_are_written_out(models, tmp_path):
    two = edgekit.compile(models.keras_two_inputs, tmp_path / "two.mlpackage", target=_TARGET)
    assert [finding.code for finding in two.findings] == ["EK388"]
    recurrent = edgekit.compile(models.keras_recurrent, tmp_path / "recurrent.mlpackage", target=_TARGET)
    assert [finding.code for finding in recurrent.findings] == ["EK132", "EK388"]


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("gelu", "EK391", "op 'Erfc' not implemented"),
        ("long", "EK391", "it has a loop"),
        ("stateful", "EK391", "keeps a state"),
        ("free_size", "EK390", "Sizes of the inputs image are free"),
        ("lambda", "EK108", "Lambda layer"),
    ],
)
def test_what_cannot_be_converted_is_one_sentence(models, tmp_path, name, code, says):
    with pytest.raises((ModelError, TargetError), match=says) as caught:
        edgekit.compile(models.odd / f"{name}.keras", tmp_path / "model.mlpackage", target=_TARGET)
    assert caught.value.code == code
    assert names(tmp_path) == []


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_a_package_that_is_not_the_model_is_a_failure(models, tmp_path, monkeypatch):
    output = tmp_path / "model.mlpackage"
    export = compiler.tensorflow_process.export_core_ml

    def cut_short(path, package, options):
        export(path, package, options)
        weights = package / compiler._WEIGHTS
        weights.write_bytes(weights.read_bytes()[:100])
        return ()

    monkeypatch.setattr("edgekit.tensorflow_process.export_core_ml", cut_short)
    with pytest.raises(ModelError, match="that can be read"):
        edgekit.compile(models.keras_cnn, output, target=_TARGET)
    monkeypatch.setattr("edgekit.tensorflow_process.export_core_ml", lambda *_: ())
    with pytest.raises(ModelError, match="that can be read"):
        edgekit.compile(models.keras_cnn, output, target=_TARGET)

    def another(_path, package, options):
        return export(models.keras_two_inputs, package, options)

    monkeypatch.setattr("edgekit.tensorflow_process.export_core_ml", another)
    with pytest.raises(ModelError, match="has other inputs than") as caught:
        edgekit.compile(models.keras_cnn, output, target=_TARGET)
    assert caught.value.code == "EK391"
    assert names(tmp_path) == []


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_a_package_is_replaced_whole_or_stays(models, tmp_path, capsys):
    output = tmp_path / "model.mlpackage"
    words = ["compile", str(models.keras_cnn), "-t", _TARGET, "-o", str(output)]
    assert run(words) == 0
    assert "Core ML chooses the processor" in " ".join(capsys.readouterr().out.split())
    before = (output / "Manifest.json").read_bytes()
    assert run(words) == 2
    assert run(["compile", str(models.odd / "gelu.keras"), *words[2:], "--overwrite"]) == 7
    assert (output / "Manifest.json").read_bytes() == before
    (output / "left.over").touch()
    assert run([*words, "--overwrite"]) == 0
    assert names(output) == ["Data", "Manifest.json"]
    assert names(tmp_path) == ["model.mlpackage", "model.mlpackage.json"]


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_a_profile_may_ask_for_another_system_and_precision(models, tmp_path):
    profile = tmp_path / "later.toml"
    shipped = data_file("targets", _TARGET).read_text(encoding="utf-8")
    profile.write_text(
        shipped.replace('"iOS15"', '"iOS17"').replace('precision = "float16"', 'precision = "float32"')
    )
    edgekit.compile(models.keras_cnn, tmp_path / "model.mlpackage", target=str(profile))
    _ends, version, dtype, _values = show(tmp_path / "model.mlpackage", tmp_path)
    assert (version, dtype) == (8, "float32")
    profile.write_text(shipped.replace('"iOS15"', '"iOS51"'))
    with pytest.raises(UsageError, match="no minimum_deployment_target") as caught:
        edgekit.compile(models.keras_cnn, tmp_path / "other.mlpackage", target=str(profile))
    assert "iOS15" in caught.value.hint


def test_bad_input(models, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    output = tmp_path / "model.mlpackage"
    with pytest.raises(UsageError, match="no Core ML package"):
        edgekit.compile(models.tflite_cnn, tmp_path / "model.mlmodel", target=_TARGET)
    for path in (models.tflite_cnn, models.onnx_cnn):
        with pytest.raises(TargetError, match="coremltools reads no") as caught:
            edgekit.compile(path, output, target=_TARGET)
        assert caught.value.code == "EK390"
    float16 = tmp_path / "float16.tflite"
    shutil.copy(models.tflite_cnn, float16)
    (tmp_path / "float16.tflite.json").write_text('{"source_path": "digits.keras"}')
    with pytest.raises(TargetError) as caught:
        edgekit.compile(float16, output, target=_TARGET)
    assert "That was digits.keras." in caught.value.hint
    with pytest.raises(DependencyError, match="coremltools is not installed"):
        edgekit.compile(models.keras_cnn, output, target=_TARGET)
    output.mkdir()
    with pytest.raises(OutputError, match=r"without a Manifest\.json"):
        edgekit.compile(models.keras_cnn, output, target=_TARGET, overwrite=True)


@pytest.mark.parametrize(
    ("spec", "shape", "dtype", "same"),
    [
        (TensorSpec("x", (None, 3), "float32"), [1, 3], "float32", True),
        (TensorSpec("x", (None, 3), "float32"), [2, 3], "float32", False),
        (TensorSpec("x", (None, 3), "float32"), [1, 3, 1], "float32", False),
        (TensorSpec("x", (4, None), "float32"), [4, 7], "float32", True),
        (TensorSpec("x", (), "int64"), [], "int32", True),
        (TensorSpec("x", (1,), "int64"), [1], "float32", False),
    ],
)
def test_an_end_of_the_package_is_that_of_the_model(spec, shape, dtype, same):
    assert compiler._is_as(spec, shape, dtype) == same
