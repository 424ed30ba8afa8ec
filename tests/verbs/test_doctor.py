"""``edgekit doctor`` on this environment, and on one that has been damaged."""

import json
import os
import subprocess
import sys

import pytest

import edgekit
from edgekit.cli._group import run
from edgekit.verbs import doctor as module


def _doctor(folder, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "edgekit", "doctor", *arguments],
        env=os.environ | {"PYTHONPATH": str(folder), "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def _installed(folder, name: str, version: str, source: str = "") -> None:
    """Put a package before the real one of that name."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (folder / f"{name}.py").write_text(source)


def test_this_environment_is_described():
    environment = edgekit.doctor(imports=False)
    versions = {package.name: package.version for package in environment.packages}
    assert versions["numpy"].split(".")[0] in {"1", "2"}
    assert versions["ai-edge-litert"] == "2.3.0"
    assert "pytest" not in versions
    assert environment.python_version == ".".join(map(str, sys.version_info[:3]))
    assert 1 <= environment.processor.usable_cores <= environment.processor.cores
    assert environment.memory_bytes > 1 << 28
    assert [finding for finding in environment.findings if finding.code != "EK621"] == []


def test_the_command_prints_versions_and_pip_lines(capsys):
    assert run(["doctor", "--no-imports"]) == 0
    shown = capsys.readouterr().out
    assert edgekit.__version__ in shown
    assert "ai-edge-quantizer" in shown
    assert "==0.10.0" in shown


def test_a_wrong_version_of_the_core_is_exit_3(tmp_path):
    _installed(tmp_path, "jinja2", "2.0")
    done = _doctor(tmp_path, "--no-imports", "--json")
    assert done.returncode == 3, done.stderr
    document = json.loads(done.stdout)
    assert document["status"] == "failed"
    [finding] = [finding for finding in document["findings"] if finding["code"] == "EK620"]
    assert finding["level"] == "error"
    assert finding["message"] == "jinja2: version 2.0 is installed, but >=3.1 is needed."
    assert finding["hint"] == 'pip install --force-reinstall "jinja2>=3.1"'


def test_a_wrong_version_in_an_extra_is_a_warning(tmp_path):
    _installed(tmp_path, "keras", "2.0")
    done = _doctor(tmp_path, "--no-imports", "--json")
    assert done.returncode == 0, done.stderr
    [finding] = [finding for finding in json.loads(done.stdout)["findings"] if finding["code"] == "EK620"]
    assert finding["level"] == "warning"
    assert finding["hint"] == 'pip install "edgekit[tensorflow]"'


def test_a_package_that_is_not_installed(monkeypatch):
    def version(name: str) -> str:
        raise module.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(module.metadata, "version", version)
    environment = edgekit.doctor(imports=False)
    assert all(package.version is None and package.problem for package in environment.packages)
    # Packages of extras may be missing: they stand in the table, and are no finding.
    named = {finding.message.split(":")[0] for finding in environment.findings}
    assert "onnx" in named
    assert "tensorflow" not in named


def test_each_way_in_which_an_import_can_fail_is_told(tmp_path, monkeypatch):
    (tmp_path / "raises.py").write_text("raise ImportError('libx.so is missing')")
    (tmp_path / "crashes.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    (tmp_path / "prints.py").write_text("print('hello')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert module._import_problems(["prints", "raises", "crashes", "json"]) == {
        "prints": "",
        "raises": "ImportError: libx.so is missing",
        "crashes": "its import ends Python with status -11",
    }


def test_an_import_that_hangs_is_ended(tmp_path, monkeypatch):
    (tmp_path / "hangs.py").write_text("import time; time.sleep(600)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(module, "_IMPORT_DEADLINE_S", 1)
    assert module._import_problems(["json", "hangs"]) == {
        "json": "",
        "hangs": "its import takes longer than 1 s",
    }


def test_a_disk_nearly_full_is_a_finding(monkeypatch):
    usage = module.shutil.disk_usage("/")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=5 << 20))
    [finding] = edgekit.doctor(imports=False).findings
    assert finding.code == "EK621"
    assert finding.message.startswith("Only 5 MiB are free in ")


@pytest.mark.slow
def test_all_packages_of_this_environment_load():
    seen = []
    environment = edgekit.doctor(progress=lambda done, total: seen.append((done, total)))
    assert [package.problem for package in environment.packages if package.version] == [""] * len(
        [package for package in environment.packages if package.version]
    )
    assert seen[-1] == (len(environment.packages), len(environment.packages))
