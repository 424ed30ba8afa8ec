"""What users install: the wheel's contents, and edgekit at work in a clean environment without TensorFlow."""

import functools
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

import edgekit
from edgekit.catalog import names

pytestmark = pytest.mark.slow

_ROOT = Path(__file__).parent.parent
_MAKE_ONNX = """
import sys
from onnx import TensorProto, helper, save
x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), sys.argv[1])
"""


@functools.cache
def _interpreters() -> dict[str, str]:
    """The Pythons of this machine that edgekit supports and that can make environments, by version."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    current = f"3.{sys.version_info.minor}"
    found = {current: sys.executable}
    for version in ("3.11", "3.12", "3.13"):
        candidates = [shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}.*/bin/python3"))]
        for candidate in filter(None, candidates):
            probe = "import ensurepip, sys, venv; print('3.%d' % sys.version_info.minor)"
            done = subprocess.run([candidate, "-c", probe], capture_output=True, text=True, check=False)
            if done.stdout.strip() == version:
                found.setdefault(version, str(candidate))
    return found


@pytest.fixture(scope="session")
def distributions(build_once) -> dict[str, Path]:
    """The built wheel and source distribution."""
    if not (_ROOT / "pyproject.toml").is_file():
        pytest.skip("needs a checkout")

    def build(folder: Path) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "build", "--outdir", str(folder), str(_ROOT)],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    folder = build_once("dist", build)
    [wheel], [source] = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return {"wheel": wheel, "source": source}


@dataclass(frozen=True)
class Installed:
    """An environment that holds the wheel and nothing else, and a folder to work in."""

    folder: Path
    work: Path
    version: str

    def run(self, program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        clean = {name: text for name, text in os.environ.items() if not name.startswith(("PYTHON", "PIP_"))}
        return subprocess.run(
            [self.folder / "bin" / program, *arguments],
            cwd=self.work,
            env=clean,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def pip(self, *arguments: str) -> None:
        # Compiling everything takes longer than compiling what is imported.
        done = subprocess.run(
            [self.folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-compile", *arguments],
            cwd=self.work,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def edgekit(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return self.run("edgekit", *arguments)


def _environment(folder: Path, version: str, requirement: str) -> Installed:
    subprocess.run([_interpreters()[version], "-m", "venv", folder / "venv"], check=True)
    (folder / "work").mkdir()
    made = Installed(folder / "venv", folder / "work", version)
    made.pip(requirement)
    return made


@pytest.fixture(params=["3.11", "3.12", "3.13"])
def installed(request, distributions, build_once) -> Installed:
    version = request.param
    if version not in _interpreters():
        pytest.skip(f"Python {version} is not on this machine")
    folder = build_once(
        f"python{version}", lambda folder: _environment(folder, version, str(distributions["wheel"]))
    )
    return Installed(folder / "venv", folder / "work", version)


@pytest.fixture
def digits(installed) -> Path:
    """The model and data that the wheel ships."""
    [folder] = (installed.folder / "lib").glob("python3.*/site-packages/edgekit/_data/examples/digits")
    return folder


def test_the_wheel_holds_the_package_and_its_data(distributions):
    with zipfile.ZipFile(distributions["wheel"]) as archive:
        held = set(archive.namelist())
    source_files = {
        str(file.relative_to(_ROOT))
        for file in (_ROOT / "edgekit").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert source_files <= held
    assert {"edgekit/py.typed", "edgekit/worker.py"} <= held
    for kind in ("targets", "calibration", "examples/digits"):
        shipped = [file for file in (_ROOT / kind).iterdir() if file.is_file()]
        assert shipped
        assert {f"edgekit/_data/{kind}/{file.name}" for file in shipped} <= held
    assert not [name for name in held if not name.startswith(("edgekit/", "edgekit-")) or ".pyc" in name]


def test_the_source_distribution_holds_all_that_the_tests_need(distributions):
    with tarfile.open(distributions["source"]) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "LICENSE", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "pyproject.toml", "tests/conftest.py",
        "targets/linux-x86-64.toml", "examples/digits/train.py",
    } <= held  # fmt: skip
    assert not [name for name in held if "__pycache__" in name or name.startswith((".ci", "shared"))]


def test_help_and_version(installed):
    shown = installed.edgekit("--help")
    assert shown.returncode == 0, shown.stderr
    for name in names("cli"):
        assert f"\n  {name} " in shown.stdout
    assert installed.edgekit("--version").stdout.split()[-1] == edgekit.__version__


def test_doctor_finds_a_core_that_loads_and_no_tensorflow(installed):
    done = installed.edgekit("doctor", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(done.stdout)
    assert document["status"] == "ok"
    assert document["result"]["python_version"].startswith(installed.version)
    packages = {package["name"]: package for package in document["result"]["packages"]}
    assert packages["onnxruntime"]["problem"] == ""
    assert packages["tensorflow"]["version"] is None
    assert packages["tensorflow"]["install"] == 'pip install "edgekit[tensorflow]"'


def test_inspect_reads_both_formats(installed, digits):
    made = installed.run("python", "-c", _MAKE_ONNX, "relu.onnx")
    assert made.returncode == 0, made.stderr
    for model in ("relu.onnx", str(digits / "model.tflite")):
        done = installed.edgekit("inspect", model, "--json")
        assert done.returncode == 0, done.stdout
        assert json.loads(done.stdout)["status"] == "ok"


def test_the_main_job_works_without_tensorflow(installed, digits):
    done = installed.edgekit(
        "quantize", str(digits / "model.tflite"), "-o", "int8.tflite", "--overwrite", "--json",
        "--calibration", str(digits / "calibration.npz"), "--evaluate", str(digits / "test.npz"),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    result = json.loads(done.stdout)["result"]
    assert result["artifact"]["size_bytes"] < result["source"]["size_bytes"] / 2
    assert result["evaluation"]["before"] > 0.98
    assert result["evaluation"]["drop"] < 0.01


def test_a_command_that_needs_tensorflow_names_the_pip_line(installed, digits):
    done = installed.edgekit("inspect", str(digits / "model.keras"))
    assert done.returncode == 3
    assert 'pip install "edgekit[tensorflow]"' in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif("demo" not in names("cli"), reason="there is no demo yet")
def test_the_demo_runs(installed):
    done = installed.edgekit("demo", f"demo-{installed.version}")
    assert done.returncode == 0, done.stderr
    assert list((installed.work / f"demo-{installed.version}").glob("*.html"))


@pytest.mark.skipif("3.11" not in _interpreters(), reason="there is no tflite-runtime for Python 3.12")
def test_the_old_runtime_resolves_loads_and_runs(distributions, tmp_path_factory):
    folder = tmp_path_factory.mktemp("old_runtime")
    environment = _environment(folder, "3.11", f"{distributions['wheel']}[tflite-runtime]")
    [digits] = (environment.folder / "lib").glob("python3.*/site-packages/edgekit/_data/examples/digits")
    done = environment.edgekit(
        "evaluate", str(digits / "model.tflite"), "--data", str(digits / "test.npz"),
        "--runtime", "tflite_runtime", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    result = json.loads(done.stdout)["result"]
    assert result["runtime"] == "tflite_runtime"
    assert result["value"] > 0.98
