"""Which wheel fits which machine, and fetching it with the real pip from a folder that stands for the index."""

import os
from importlib import metadata

import pytest
from wheel_files import write_wheel

from edgekit.devices.wheels import Platform, Wanted, Wheels, wanted
from edgekit.errors import DependencyError, DeviceError

_BOOKWORM = Platform((3, 11), "aarch64", (2, 36))
_BULLSEYE = Platform((3, 9), "aarch64", (2, 31))
_PI_32_BIT = Platform((3, 11), "armv7l", (2, 36))
_ALPINE = Platform((3, 12), "aarch64", None)
_NUMPY = Wanted("numpy", ">=1.23.2", "")


def test_tags_go_from_the_newest_glibc_to_the_oldest():
    tags = Platform((3, 11), "aarch64", (2, 19)).tags()
    assert tags == [
        "manylinux_2_19_aarch64",
        "manylinux_2_18_aarch64",
        "manylinux_2_17_aarch64",
        "manylinux2014_aarch64",
        "linux_aarch64",
    ]
    assert Platform((3, 11), "x86_64", (2, 5)).tags() == [
        "manylinux_2_5_x86_64",
        "manylinux1_x86_64",
        "linux_x86_64",
    ]
    assert _ALPINE.tags() == []


@pytest.mark.parametrize(
    ("runtime", "platform", "packages"),
    [
        ("litert", _BOOKWORM, ["ai-edge-litert==2.3.0", "numpy>=1.23.2"]),
        ("litert", Platform((3, 14), "aarch64", (2, 41)), ["ai-edge-litert==2.3.0", "numpy>=1.23.2"]),
        # Bullseye's glibc is too old for 2.3.0 although its wheels' tags fit.
        ("litert", _BULLSEYE, ["ai-edge-litert==1.4.0", "numpy>=1.23.2"]),
        ("litert", Platform((3, 11), "aarch64", (2, 33)), ["ai-edge-litert==1.4.0", "numpy>=1.23.2"]),
        (
            "onnxruntime",
            _BOOKWORM,
            [f"onnxruntime=={metadata.version('onnxruntime')}", "numpy>=1.23.2"],
        ),
        ("onnxruntime", _BULLSEYE, ["onnxruntime==1.19.2", "numpy>=1.23.2"]),
        ("tflite_runtime", _PI_32_BIT, ["tflite-runtime==2.14.0", "numpy<2"]),
        ("tflite_runtime", Platform((3, 9), "aarch64", (2, 27)), ["tflite-runtime==2.14.0", "numpy<2"]),
    ],
)
def test_versions_follow_from_python_and_glibc(runtime, platform, packages):
    assert [str(package) for package in wanted(runtime, platform)] == packages


@pytest.mark.parametrize(
    ("runtime", "platform", "reason", "hint"),
    [
        ("litert", Platform((3, 9), "aarch64", (2, 28)), "glibc 2.30", "--runtime tflite_runtime"),
        ("litert", _PI_32_BIT, "exists for aarch64, x86_64 alone", "--runtime tflite_runtime"),
        ("onnxruntime", _PI_32_BIT, "exists for", "--runtime tflite_runtime"),
        ("tflite_runtime", Platform((3, 13), "aarch64", (2, 41)), "Python 3.9 to 3.11", "--runtime litert"),
        ("litert", Platform((3, 7), "aarch64", (2, 28)), "needs", "--native"),
        ("litert", _ALPINE, "no glibc", "--library"),
    ],
)
def test_what_runs_nowhere_is_refused_with_what_does(runtime, platform, reason, hint):
    with pytest.raises(DeviceError) as refused:
        wanted(runtime, platform)
    assert refused.value.code == "EK830"
    assert refused.value.exit_code == 5
    assert reason in refused.value.message
    assert hint in refused.value.hint


def test_the_newest_wheel_that_fits_is_found(tmp_path):
    for name in (
        "numpy-1.26.4-cp311-cp311-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
        "numpy-2.4.6-cp311-cp311-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl",
        "numpy-2.9.0-cp312-cp312-manylinux_2_27_aarch64.whl",
        "numpy-2.9.1-cp311-cp311-manylinux_2_40_aarch64.whl",
        "numpy-2.9.2-cp311-cp311-musllinux_1_2_aarch64.whl",
        "numpy-2.9.3-cp311-cp311-manylinux_2_27_x86_64.whl",
        "numpy-2.9.4rc1-cp311-cp311-manylinux_2_27_aarch64.whl",
        "numpy_plus-3.0.0-cp311-cp311-manylinux_2_17_aarch64.whl",
        "not a wheel.whl",
    ):
        (tmp_path / name).touch()
    source = Wheels(tmp_path, _BOOKWORM)
    assert source.find(_NUMPY).name.startswith("numpy-2.4.6-")
    assert source.find(Wanted("numpy", "<2", "")).name.startswith("numpy-1.26.4-")
    assert source.find(Wanted("numpy", ">=3", "")) is None


def test_abi3_and_pure_wheels_fit_too(tmp_path):
    (tmp_path / "a-1.0-cp39-abi3-manylinux_2_17_aarch64.whl").touch()
    (tmp_path / "b-1.0-py3-none-any.whl").touch()
    source = Wheels(tmp_path, _BOOKWORM)
    assert source.find(Wanted("a", "", ""))
    assert source.find(Wanted("b", "", ""))


def test_tflite_runtime_needs_less_than_its_tag_says(tmp_path):
    (tmp_path / "tflite_runtime-2.14.0-cp39-cp39-manylinux_2_34_aarch64.whl").touch()
    engine, _numpy = wanted("tflite_runtime", _BULLSEYE)
    assert Wheels(tmp_path, _BULLSEYE).find(engine)
    assert Wheels(tmp_path, _BULLSEYE).find(Wanted("tflite-runtime", "==2.14.0", "")) is None


def test_everything_that_is_missing_is_named_at_once(tmp_path):
    with pytest.raises(DependencyError) as missing:
        Wheels(tmp_path, _BOOKWORM).require(wanted("litert", _BOOKWORM))
    assert missing.value.code == "EK831"
    assert missing.value.exit_code == 3
    assert "ai-edge-litert==2.3.0 and numpy>=1.23.2" in missing.value.message
    assert str(tmp_path) in missing.value.message


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder in the place of the package index, for the real pip."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_pip_fetches_for_the_other_machine_what_the_folder_has_not(tmp_path, index):
    engine = "ai_edge_litert-2.3.0-cp311-cp311-manylinux_2_27_aarch64.whl"
    for name in (
        engine,
        "ai_edge_litert-2.3.0-cp311-cp311-manylinux_2_27_x86_64.whl",
        "numpy-2.9.9-cp311-cp311-manylinux_2_28_aarch64.whl",
    ):
        write_wheel(index, name, {})
    have = write_wheel(tmp_path / "cache", "numpy-2.4.6-cp311-cp311-manylinux_2_27_aarch64.whl", {})
    seen = []
    source = Wheels(tmp_path / "cache", _BOOKWORM)
    found = source.fetch(wanted("litert", _BOOKWORM), progress=lambda *state: seen.append(state))
    # The numpy that is there serves: it is not replaced by whatever is newest today.
    assert found == [tmp_path / "cache" / engine, have]
    assert found[0].read_bytes() == (index / engine).read_bytes()
    assert seen == [(0, 1), (1, 1)]
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {engine, have.name}


def test_an_index_without_a_fitting_wheel(tmp_path, index):
    write_wheel(index, "ai_edge_litert-2.3.0-cp311-cp311-manylinux_2_27_x86_64.whl", {})
    with pytest.raises(DependencyError) as missing:
        Wheels(tmp_path / "cache", _BOOKWORM).fetch(wanted("litert", _BOOKWORM))
    assert missing.value.code == "EK833"
    assert "ai-edge-litert==2.3.0" in missing.value.message
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_index_that_does_not_answer(tmp_path, index, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(DependencyError) as unreachable:
        Wheels(tmp_path / "cache", _BOOKWORM).fetch(wanted("litert", _BOOKWORM))
    assert unreachable.value.code == "EK832"
    assert unreachable.value.exit_code == 3
    assert "--wheels" in unreachable.value.hint
    assert list((tmp_path / "cache").iterdir()) == []
