"""The native runner, compiled for this machine with sanitizers and for arm64, and libraries for it to open."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import platformdirs
import pytest
from ai_edge_litert import schema_py_generated as schema
from handmade import Made

import edgekit
from edgekit.devices import native_library, native_runner

_WORKER = Path(edgekit.__file__).with_name("worker.py")
_TEST_FLAGS = (
    *("-std=c11", "-D_POSIX_C_SOURCE=200809L", "-g", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion"),
    *("-Wshadow", "-Wstrict-prototypes", "-Wmissing-prototypes", "-Werror"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"),
)
# LiteRT's wheels for x86-64 have no C API; this package has TensorFlow's own C library inside.
_X86_LIBRARY = ("pymicro-wakeword==2.5.0", "pymicro_wakeword/lib/libtensorflowlite_c.so")


@pytest.fixture(scope="session")
def python_worker():
    """The command of worker.py, which the runner has to match."""
    return [sys.executable, str(_WORKER)]


@pytest.fixture(scope="session")
def asan_runner(build_once):
    """The runner for this machine, which ends at the first wrong access or undefined behaviour."""
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc")
    sources = [path for path in native_runner.SOURCES.glob("*.c") if path.name != "old_glibc.c"]

    def build(folder):
        command = ["gcc", *_TEST_FLAGS, "-o", folder / "runner", *sources, "-ldl"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    return build_once("asan", build) / "runner"


@pytest.fixture(scope="session")
def host_library(tmp_path_factory):
    """A TFLite library with the C API for this machine."""
    if platform.machine() == "aarch64":
        return _litert_library(tmp_path_factory)
    package, member = _X86_LIBRARY
    wheel = _fetch(package, "manylinux_2_35_x86_64", "--implementation", "py")
    folder = tmp_path_factory.mktemp("library")
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(member, folder))


@pytest.fixture(scope="session")
def arm_library(tmp_path_factory):
    """LiteRT's own library for arm64, as it goes to devices."""
    return _litert_library(tmp_path_factory)


@pytest.fixture(scope="session")
def litert_wheel():
    return _fetch(f"ai-edge-litert=={native_library.WHEEL_VERSION}", "manylinux_2_17_aarch64")


def _litert_library(tmp_path_factory):
    wheel = _fetch(f"ai-edge-litert=={native_library.WHEEL_VERSION}", "manylinux_2_17_aarch64")
    path = tmp_path_factory.mktemp("litert") / "libLiteRtRuntimeCApi.so"
    native_library.from_wheel(wheel, path)
    return path


def _fetch(package, tag, *more):
    """A wheel from the lab's cache, or into it from the package index; else the test is skipped."""
    cache = Path(os.environ.get("EDGEKIT_LAB_CACHE") or platformdirs.user_cache_dir("edgekit-lab")) / "wheels"
    name, version = package.split("==")
    cache.mkdir(parents=True, exist_ok=True)
    pattern = f"{name.replace('-', '_')}-{version}-*{tag}*.whl"
    if not list(cache.glob(pattern)):
        options = ["--no-deps", "--only-binary=:all:", "--python-version", "3.11", "--platform", tag, *more]
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(cache), package]
        subprocess.run(command, capture_output=True, check=False)
    found = sorted(cache.glob(pattern))
    if not found:
        pytest.skip(f"{package} is neither in {cache} nor to be had from the package index")
    return found[0]


@pytest.fixture(scope="session")
def runner(asan_runner, host_library):
    """The command of the runner on this machine."""
    return [asan_runner, host_library]


@pytest.fixture(scope="session")
def arm_runner(tmp_path_factory, arm_library):
    """The command of the runner as it is built for devices, on an emulated Cortex-A72."""
    for program in ("aarch64-linux-gnu-gcc", "qemu-aarch64-static"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program}")
    target = native_runner.NativePlatform("linux", "aarch64")
    program = native_runner.build(target, cache=tmp_path_factory.mktemp("arm"))
    return ["qemu-aarch64-static", "-cpu", "cortex-a72", "-L", "/usr/aarch64-linux-gnu", program, arm_library]


@pytest.fixture(scope="session")
def sum_model(tmp_path_factory):
    """``sum = left + right``, then its square root; two inputs and two outputs with a signature."""
    model = Made()
    left = model.tensor("l:0", "float32", (1, 4))
    right = model.tensor("r:0", "float32", (1, 4))
    total = model.tensor("t:0", "float32", (1, 4))
    root = model.tensor("q:0", "float32", (1, 4))
    model.graph.inputs, model.graph.outputs = [right, left], [total, root]
    model.operator("ADD", [left, right], [total], schema.AddOptionsT())
    model.operator("SQRT", [total], [root])
    model.signature({"left": left, "right": right}, {"sum": total, "root": root})
    path = tmp_path_factory.mktemp("sum") / "sum.tflite"
    path.write_bytes(model.bytes())
    return path


@pytest.fixture(scope="session")
def recurrent_model(tmp_path_factory):
    """``state = state + x``, which is also the output: what it gives depends on the runs before."""
    model = Made()
    x = model.tensor("x", "float32", (1, 2))
    weights = model.tensor("w", "float32", (2, 2), values=[[1, 0], [0, 1]])
    bias = model.tensor("b", "float32", (2,), values=[0, 0])
    state = model.tensor("state", "float32", (1, 2))
    model.graph.tensors[state].isVariable = True
    y = model.tensor("y", "float32", (1, 2))
    model.graph.inputs, model.graph.outputs = [x], [y]
    model.operator("RNN", [x, weights, weights, bias, state], [y], schema.RNNOptionsT())
    path = tmp_path_factory.mktemp("rnn") / "rnn.tflite"
    path.write_bytes(model.bytes())
    return path


@pytest.fixture(scope="session")
def delegate_library(tmp_path_factory):
    """A library of delegates that refuse, that are not there, and that take every ADD."""
    path = tmp_path_factory.mktemp("delegate") / "libtests_delegate.so"
    source = Path(__file__).with_name("delegate.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", path, source, "-ldl"], check=True, capture_output=True)
    return path


@pytest.fixture
def made():
    return Made()


@pytest.fixture(scope="session")
def bare_library(tmp_path_factory, host_library):
    """A library with no more functions than the runner cannot do without; they pass on to ``host_library``'s."""
    if platform.machine() != "x86_64":
        pytest.skip("its few instructions are those of x86-64")
    listed = (native_runner.SOURCES / "tflite.h").read_text()
    names = re.findall(r"X\(1, [^,]*, (\w+),", listed)
    folder = tmp_path_factory.mktemp("bare")
    lines = [f'__asm__(".text\\n.globl {name}\\n{name}: jmp *to_{name}(%rip)");' for name in names]
    lines = [f'__attribute__((visibility("hidden"))) void *to_{name};' for name in names] + lines
    found = " ".join(f'to_{name} = dlsym(library, "{name}");' for name in names)
    library = json.dumps(str(host_library))
    start = f"void *library = dlopen({library}, RTLD_NOW | RTLD_LOCAL); {found}"
    lines = [
        "#include <dlfcn.h>",
        *lines,
        f"__attribute__((constructor)) static void start(void) {{ {start} }}",
    ]
    (folder / "bare.c").write_text("\n".join(lines) + "\n")
    path = folder / "libbare.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", path, folder / "bare.c"], check=True)
    return path
