"""Compiling the runner, and the libraries that it may open."""

import os
import platform
import stat
import subprocess
import sys
import zipfile

import pytest

from edgekit.devices import native_library, native_runner
from edgekit.devices.native_runner import NativePlatform
from edgekit.errors import DataError, DependencyError, OutputError, TargetError, UsageError

HERE = NativePlatform("linux", platform.machine())


def tool(path, *lines):
    """A program that stands for a compiler."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def only_tools(tmp_path, monkeypatch):
    """A folder that is all of PATH."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_compiles_once_for_each_source_and_compiler(tmp_path, monkeypatch):
    first = native_runner.build(HERE, cache=tmp_path)
    made = first.stat()
    assert native_runner.build(HERE, cache=tmp_path) == first
    assert first.stat().st_mtime_ns == made.st_mtime_ns
    assert made.st_mode & stat.S_IXUSR
    assert [path.name for path in first.parent.iterdir()] == [native_runner.PROGRAM]
    done = subprocess.run([first], capture_output=True, text=True, check=False)
    assert "LIBRARY" in done.stderr
    monkeypatch.setattr(native_runner, "_FLAGS", (*native_runner._FLAGS, "-O1"))
    assert native_runner.build(HERE, cache=tmp_path) != first


def test_starts_on_systems_older_than_this_one(tmp_path):
    content = native_runner.build(HERE, cache=tmp_path).read_bytes()
    assert native_library.needed_glibc(content) <= (2, 17)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (HERE, "apt install gcc libc6-dev"),
        (
            NativePlatform("linux", "aarch64" if HERE.machine == "x86_64" else "x86_64"),
            "libc6-dev-arm64-cross" if HERE.machine == "x86_64" else "libc6-dev-amd64-cross",
        ),
    ],
)
def test_a_missing_compiler_is_named_with_its_packages(only_tools, tmp_path, target, words):
    with pytest.raises(DependencyError) as caught:
        native_runner.build(target, cache=tmp_path / "cache")
    assert (caught.value.code, caught.value.exit_code) == ("EK590", 3)
    assert words in caught.value.hint
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (["[ $1 = --version ] && exit 0", "echo no headers >&2", "exit 1"], "no headers"),
        (["[ $1 = --version ] && exit 0", "kill -9 $$"], ""),
    ],
)
def test_a_compiler_that_fails_leaves_nothing(only_tools, tmp_path, body, detail):
    tool(only_tools / "gcc", *body)
    with pytest.raises(DependencyError) as caught:
        native_runner.build(HERE, cache=tmp_path / "cache")
    assert (caught.value.code, detail in caught.value.detail) == ("EK591", True)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_a_compiler_that_cannot_be_started(only_tools, tmp_path):
    tool(only_tools / "gcc").write_bytes(b"\x7fELF")
    with pytest.raises(DependencyError, match="gcc does not work"):
        native_runner.build(HERE, cache=tmp_path / "cache")


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(OutputError):
        native_runner.build(HERE, cache=tmp_path / "cache")


@pytest.mark.parametrize(
    ("system", "machine"),
    [("linux", "armv7l"), ("android", "x86_64"), ("darwin", "arm64"), ("linux", "riscv64")],
)
def test_devices_that_no_runner_is_made_for(tmp_path, system, machine):
    with pytest.raises(TargetError, match=machine) as caught:
        native_runner.build(NativePlatform(system, machine), cache=tmp_path)
    assert caught.value.code == "EK592"


def test_android_takes_the_clang_of_the_ndk(tmp_path, monkeypatch):
    # No NDK is at hand: what is tested is which compiler is asked, and for what.
    clang = tool(
        tmp_path / "ndk" / "toolchains/llvm/prebuilt/linux-x86_64/bin/clang",
        '[ "$2" = --version ] && exit 0',
        f'printf "%s\\n" "$@" > {tmp_path}/asked',
        'while [ "$1" != -o ]; do shift; done; echo made > "$2"',
    )
    monkeypatch.setenv("ANDROID_NDK_HOME", str(clang.parents[5]))
    program = native_runner.build(NativePlatform("android", "aarch64"), cache=tmp_path / "cache")
    assert program.read_text() == "made\n"
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[0] == "--target=aarch64-linux-android24"
    assert "-ldl" in asked
    assert not any("old_glibc" in word or "--wrap" in word for word in asked)


@pytest.mark.parametrize("home", [None, "/nowhere"])
def test_android_needs_the_ndk(tmp_path, monkeypatch, home):
    monkeypatch.delenv("ANDROID_NDK_HOME", raising=False)
    if home:
        monkeypatch.setenv("ANDROID_NDK_HOME", home)
    with pytest.raises(DependencyError, match="ANDROID_NDK_HOME") as caught:
        native_runner.build(NativePlatform("android", "aarch64"), cache=tmp_path)
    assert caught.value.code == "EK590"


def test_the_library_of_the_wheel_fits_arm64(litert_wheel, tmp_path):
    path = tmp_path / "lib.so"
    native_library.from_wheel(litert_wheel, path)
    with zipfile.ZipFile(litert_wheel) as archive:
        assert path.read_bytes() == archive.read(native_library.MEMBER)
    native_library.check(path, "aarch64", (2, 31))
    with pytest.raises(UsageError, match=r"needs glibc 2\.30, and the device has 2\.28"):
        native_library.check(path, "aarch64", (2, 28))
    with pytest.raises(UsageError, match="another C library"):
        native_library.check(path, "aarch64", None)
    with pytest.raises(UsageError, match="no library for x86_64"):
        native_library.check(path, "x86_64", (2, 31))


def test_libraries_that_do_not_fit(tmp_path, delegate_library):
    machine = platform.machine()
    with pytest.raises(UsageError, match="C API"):
        native_library.check(delegate_library, machine, (2, 36))
    text = tmp_path / "text.so"
    text.write_text("no library")
    with pytest.raises(UsageError, match="is no library"):
        native_library.check(text, machine, (2, 36))
    for path in (tmp_path / "missing.so", tmp_path):
        with pytest.raises(UsageError, match="cannot be read") as caught:
            native_library.check(path, machine, (2, 36))
        assert caught.value.code == "EK593"


def wheel(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_wheels_that_give_no_library(tmp_path, monkeypatch):
    good = b"\0TfLiteInterpreterCreate\0"
    library = native_library.MEMBER
    damaged = wheel(tmp_path / "damaged.whl", [(library, os.urandom(5000) + good)])
    content = bytearray(damaged.read_bytes())
    content[200] ^= 0xFF
    damaged.write_bytes(content)
    (tmp_path / "text.whl").write_text("no zip")
    wheels = [
        damaged,
        tmp_path / "text.whl",
        tmp_path / "missing.whl",
        wheel(tmp_path / "none.whl", [("other.so", good)]),
        wheel(tmp_path / "up.whl", [("../" + library, good)]),
        wheel(tmp_path / "two.whl", [(library, good), (library, good)]),
        wheel(tmp_path / "x86.whl", [(library, b"\x7fELF")]),
    ]
    for path in wheels:
        with pytest.raises(DataError, match=path.name) as caught:
            native_library.from_wheel(path, tmp_path / "out.so")
        assert caught.value.code == "EK594"
    monkeypatch.setattr(native_library, "_MOST_BYTES", 1000)
    with pytest.raises(DataError):
        native_library.from_wheel(
            wheel(tmp_path / "big.whl", [(library, bytes(1001) + good)]), tmp_path / "out.so"
        )
    assert not (tmp_path / "out.so").exists()


def test_needed_glibc_is_the_newest_that_is_named():
    content = b"x\0GLIBC_2.4\0GLIBC_2.17\0GLIBC_2.3.4\0GLIBCXX_3.4\0GLIBC_PRIVATE\0"
    assert native_library.needed_glibc(content) == (2, 17)
    assert native_library.needed_glibc(b"nothing") is None


def test_importing_it_is_cheap():
    program = (
        "import sys; from edgekit.devices import native_library, native_runner; "
        "print('platformdirs' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
