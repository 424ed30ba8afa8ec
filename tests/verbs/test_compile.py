"""Compilation for Ethos-U by the real Vela: what it wrote is read, whatever its exit code says."""

import json
from dataclasses import replace

import pytest

import edgekit
from edgekit import flatbuffer
from edgekit.cli._group import run
from edgekit.errors import DependencyError, ModelError, TargetError, UsageError
from edgekit.target import Target
from edgekit.toolchain import Toolchain

_NPUS = ["ethos-u55-128", "ethos-u55-256", "ethos-u65-256", "ethos-u85-256"]


@pytest.fixture(scope="module")
def vela(build_once):
    """Vela, installed once for all processes in a cache of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        build_once("toolchains", lambda folder: _install(patch, folder))
        yield


def _install(patch, folder):
    patch.setenv("XDG_CACHE_HOME", str(folder))
    edgekit.toolchain_install("vela")


@pytest.fixture
def cache(build_once, vela, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(build_once("toolchains", lambda _folder: None)))


def custom_operators(path):
    tree = flatbuffer.read(path.read_bytes())
    codes = [tree.operatorCodes[operator.opcodeIndex].customCode for operator in tree.subgraphs[0].operators]
    return [code.decode() for code in codes if code]


@pytest.mark.slow
@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("target", _NPUS)
def test_an_int8_network_becomes_one_operator_of_the_npu(models, tmp_path, target):
    output = tmp_path / "npu.tflite"
    compiled = edgekit.compile(models.tflite_cnn_int8, output, target=target)
    assert custom_operators(output) == ["ethos-u"]
    assert compiled.placed_pct == 100
    assert compiled.findings == ()
    estimates = compiled.compilation.estimates
    assert estimates["latency_ms"] == pytest.approx(1000 * estimates["cycles_count"] / estimates["clock_hz"])
    assert estimates["sram_bytes"] > 8 * 8
    places = {operator.place for operator in compiled.compilation.operators}
    assert places == {"npu"}
    # Convolutions of 8x8x1, 3x3 kernels to 12, and 24 channels, and the dense layer.
    assert {6912, 41472} <= {operator.macs for operator in compiled.compilation.operators}
    lineage = json.loads((tmp_path / "npu.tflite.json").read_text())
    assert lineage["options"]["accelerator_config"] == target


@pytest.mark.slow
@pytest.mark.usefixtures("cache")
def test_from_a_float_model_to_the_npu_on_the_command_line(models, tmp_path, capsys):
    int8, npu = str(tmp_path / "int8.tflite"), str(tmp_path / "npu.tflite")
    data = ["--calibration", str(models.train_data)]
    assert run(["quantize", str(models.tflite_cnn), "-o", int8, "-t", "ethos-u55-128", *data]) == 0
    assert run(["compile", int8, "-t", "ethos-u55-128", "-o", npu, "--min-placement", "100"]) == 0
    out, _err = capsys.readouterr()
    assert "estimates of the compiler" in " ".join(out.split())
    assert "DepthwiseConv2D" in out
    assert run(["compile", int8, "-t", "ethos-u55-128", "-o", npu]) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("recipe", ["float", "dynamic"])
def test_a_model_of_which_nothing_is_placed_is_an_error(models, tmp_path, recipe):
    """Vela itself ends with 0 and copies the model."""
    model = models.tflite_cnn
    if recipe != "float":
        model = tmp_path / "model.tflite"
        edgekit.quantize(models.tflite_cnn, model, recipe=recipe)
    with pytest.raises(TargetError, match="every operator to the CPU") as caught:
        edgekit.compile(model, tmp_path / "npu.tflite", target="ethos-u55-128")
    assert (caught.value.code, caught.value.exit_code) == ("EK392", 4)
    assert not (tmp_path / "npu.tflite").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("cache")
def test_what_stays_on_the_cpu_is_named_and_may_be_too_much(models, tmp_path):
    """With float32 at its ends a file has operators that quantize, which no NPU computes."""
    model = tmp_path / "int8.tflite"
    edgekit.quantize(models.tflite_cnn, model, recipe="int8", calibration=models.train_data)
    compiled = edgekit.compile(model, tmp_path / "npu.tflite", target="ethos-u55-128")
    assert 50 < compiled.placed_pct < 100
    assert [finding.code for finding in compiled.findings] == ["EK393"]
    assert "Quantize" in compiled.findings[0].message
    with pytest.raises(TargetError, match="100% were asked for"):
        edgekit.compile(model, tmp_path / "all.tflite", target="ethos-u55-128", min_placement=100)
    assert not (tmp_path / "all.tflite").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("accelerator", "system"),
    [
        *((f"ethos-u55-{macs}", "Ethos_U55_Deep_Embedded") for macs in (32, 64, 128, 256)),
        *((f"ethos-u65-{macs}", "Ethos_U65_Embedded") for macs in (256, 512)),
        *((f"ethos-u85-{macs}", "Ethos_U85_SYS_Flash_High") for macs in (128, 256, 512, 1024, 2048)),
    ],
)
def test_every_configuration_of_the_npu_can_be_asked_for(models, tmp_path, capsys, accelerator, system):
    output = tmp_path / "npu.tflite"
    words = ["--set", f"accelerator_config={accelerator}", "--set", f"system_config={system}"]
    words = [
        "compile",
        str(models.tflite_cnn_int8),
        "-t",
        "ethos-u55-128",
        "-o",
        str(output),
        "--json",
        *words,
    ]
    assert run([*words, "--set", "memory_mode=Sram_Only"]) == 0
    configuration = json.loads(capsys.readouterr().out)["result"]["configuration"]
    assert configuration == {
        "accelerator_config": accelerator, "system_config": system, "memory_mode": "Sram_Only"
    }  # fmt: skip
    assert custom_operators(output) == ["ethos-u"]


@pytest.mark.slow
@pytest.mark.usefixtures("cache")
def test_a_configuration_that_there_is_not(models, tmp_path):
    words = {"target": "ethos-u55-128", "settings": {"accelerator_config": "ethos-u55-33"}}
    with pytest.raises(ModelError, match="ethos-u55-33"):
        edgekit.compile(models.tflite_cnn_int8, tmp_path / "npu.tflite", **words)


def test_a_setting_that_the_profile_does_not_have(models, tmp_path, capsys):
    words = [
        "compile",
        str(models.tflite_cnn_int8),
        "-t",
        "ethos-u55-128",
        "-o",
        str(tmp_path / "npu.tflite"),
    ]
    assert run([*words, "--set", "memory=Sram_Only"]) == 2
    assert "memory_mode" in capsys.readouterr().err
    assert run([*words, "--set", "memory_mode"]) == 2
    assert "KEY=VALUE" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("cache")
def test_a_compiler_that_crashes_is_one_sentence(models, tmp_path, monkeypatch):
    """4 bits end Vela with a signal; edgekit knows before, and without that knowledge sees it."""
    model = tmp_path / "int4.tflite"
    edgekit.quantize(models.tflite_cnn, model, recipe="int4", calibration=models.train_data, io="int8")
    with pytest.raises(TargetError, match="weights of 4 bits") as caught:
        edgekit.compile(model, tmp_path / "npu.tflite", target="ethos-u55-128")
    assert caught.value.code == "EK390"
    monkeypatch.setattr("edgekit.compilers.vela._check", lambda *_: None)
    with pytest.raises(ModelError, match="Vela made nothing of") as caught:
        edgekit.compile(model, tmp_path / "npu.tflite", target="ethos-u55-128")
    assert caught.value.code == "EK391"
    assert not (tmp_path / "npu.tflite").exists()


def test_without_vela_it_says_how_to_get_it(models, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert not Toolchain.load("vela").is_installed
    with pytest.raises(DependencyError, match="vela is not installed") as caught:
        edgekit.compile(models.tflite_cnn_int8, tmp_path / "npu.tflite", target="ethos-u55-128")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(("name", "message"), [("", "needs no compiler"), ("other", "does not drive")])
def test_targets_without_a_compiler_of_ours(models, tmp_path, name, message):
    target = replace(Target.load("linux-x86-64"), compiler={"name": name} if name else {})
    with pytest.raises(UsageError, match=message):
        edgekit.compile(models.tflite_cnn_int8, tmp_path / "npu.tflite", target=target)


def test_onnx_is_not_velas(models, tmp_path):
    with pytest.raises(TargetError, match=r"Vela reads \.tflite files"):
        edgekit.compile(models.onnx_cnn, tmp_path / "npu.tflite", target="ethos-u55-128")
