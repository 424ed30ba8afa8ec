"""``edgekit device setup`` as a command: its options, its documents, its exit codes."""

import json
import os
import sys
from pathlib import Path

import jsonschema
import pytest
from wheel_files import PYTHON, bare_python, installed_wheel, write_wheel

from edgekit.cli._group import run
from edgekit.devices import runtime_bundle
from edgekit.verbs.schema import schema

_TAG = f"{PYTHON}-{PYTHON}-manylinux_2_17_{os.uname().machine}"


@pytest.fixture
def setup(tmp_path, monkeypatch, capsys):
    """Run ``edgekit device setup`` on this machine as a device; gives the exit code and the checked document."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home/config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home/cache"))
    monkeypatch.setattr(runtime_bundle, "_LEVEL", 1)

    def ask(*options: str) -> tuple[int, dict]:
        # The Python that the wheels of these tests are for, whatever python3 is.
        python = () if "--python" in options else ("--python", sys.executable)
        code = run(["device", "setup", "local", *options, *python, "--json"])
        document = json.loads(capsys.readouterr().out)
        jsonschema.Draft202012Validator(schema("device")).validate(document)
        return code, document

    return ask


@pytest.fixture
def stubs(tmp_path) -> Path:
    """A folder with wheels that fit and do nothing."""
    folder = tmp_path / "wheels"
    write_wheel(folder, f"ai_edge_litert-2.3.0-{_TAG}.whl", {"ai_edge_litert/__init__.py": ""})
    write_wheel(folder, f"numpy-2.4.6-{_TAG}.whl", {"numpy/__init__.py": ""})
    return folder


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--runtime", "litert", "--native"),
        ("--runtime", "litert", "--library", "x.so"),
        ("--runtime", "litterd"),
    ],
)
def test_options_that_say_nothing_clear(setup, options):
    code, document = setup(*options)
    assert code == 2
    assert document["status"] == "error"
    if "litterd" in options:
        assert "Did you mean litert?" in document["error"]["hint"]


def test_a_plan(setup, stubs):
    code, document = setup("--runtime", "litert", "--wheels", str(stubs), "--dry-run")
    assert code == 0
    result = document["result"]
    assert result["dry_run"] is True
    assert [package["wheel"] for package in result["packages"]] == [
        f"ai_edge_litert-2.3.0-{_TAG}.whl",
        f"numpy-2.4.6-{_TAG}.whl",
    ]
    assert "installed" not in result
    assert not (Path(os.environ["HOME"]) / ".local").exists()


def test_a_plan_without_wheels_reaches_nothing(setup):
    code, document = setup("--runtime", "litert", "--dry-run")
    assert code == 0
    assert [package["wheel"] for package in document["result"]["packages"]] == [None, None]


def test_missing_wheels(setup, tmp_path):
    (tmp_path / "empty").mkdir()
    code, document = setup("--runtime", "litert", "--wheels", str(tmp_path / "empty"))
    assert code == 3
    assert document["error"]["code"] == "EK831"
    assert "ai-edge-litert==2.3.0 and numpy" in document["error"]["message"]


def test_fetching_alone_fills_the_folder(setup, stubs, tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(stubs))
    target = tmp_path / "carried"
    code, document = setup("--runtime", "litert", "--wheels", str(target), "--fetch-only")
    assert code == 0
    assert document["result"]["fetch_only"] is True
    assert sorted(path.name for path in target.iterdir()) == sorted(path.name for path in stubs.iterdir())
    assert not (Path(os.environ["HOME"]) / ".local").exists()


def test_a_runtime_that_does_not_work(setup, stubs):
    code, document = setup("--runtime", "litert", "--wheels", str(stubs))
    assert code == 5
    assert document["error"]["code"] == "EK837"
    # The stub has no interpreter.
    assert "ai_edge_litert" in document["error"]["message"]


def test_a_setup(setup, tmp_path):
    folder = tmp_path / "wheels"
    folder.mkdir()
    for package in ("ai-edge-litert", "numpy"):
        installed_wheel(package, folder)
    python = str(bare_python(tmp_path))
    code, document = setup("--runtime", "litert", "--wheels", str(folder), "--python", python)
    assert code == 0
    installed = document["result"]["installed"]
    assert installed["trial"]["delegate"] == "xnnpack"
    record = Path(os.environ["HOME"]) / ".local/share/edgekit/device/runtimes/litert.json"
    assert json.loads(record.read_text()) == installed["runtime"]


@pytest.mark.parametrize(
    ("numpy", "wheels"),
    [
        ("1.24.2", ["tflite-runtime"]),
        ("2.2.0", ["tflite-runtime", "numpy"]),
        (None, ["tflite-runtime", "numpy"]),
    ],
)
def test_a_32_bit_pi_uses_the_numpy_of_its_distribution(setup, tmp_path, numpy, wheels):
    """Debian's numpy serves where it is old enough: no index has a wheel for that processor."""
    answer = {
        "implementation": "cpython",
        "version": [3, 11, 2],
        "machine": "aarch64",
        "bits": 32,
        "libc": "glibc 2.36",
        "numpy": numpy,
        "lse": False,
    }
    python = tmp_path / "python32"
    python.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
    python.chmod(0o755)
    options = ("--runtime", "tflite_runtime", "--wheels", str(tmp_path), "--python", str(python))
    code, document = setup(*options, "--dry-run")
    assert code == 0
    result = document["result"]
    assert result["platform"]["architecture"] == "armv7l"
    assert [package["package"] for package in result["packages"]] == wheels
    assert result["device_numpy"] == (numpy if len(wheels) == 1 else None)
