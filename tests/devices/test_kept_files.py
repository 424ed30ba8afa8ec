"""What runs leave on a device: what is used stays, what is old goes, and nothing else is touched."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from faulty_links import QUICK, device_of

import edgekit
from edgekit.cli._group import run
from edgekit.devices import kept_files
from edgekit.devices.device import Device
from edgekit.devices.installed_runtimes import InstalledRuntime, record, start_worker
from edgekit.devices.session import DeviceSession, place
from edgekit.devices.shell import Shell
from edgekit.errors import DeviceError
from edgekit.formats import open_artifact
from edgekit.verbs.schema import schema
from edgekit.worker_process import WORKER, WorkerProcess

_DAY_S = 86_400


@pytest.fixture
def folder(tmp_path) -> Path:
    """edgekit's folder, with a name that needs quoting."""
    return tmp_path / "edge kit's $folder"


@pytest.fixture
def device(folder) -> Device:
    return Device("here", "local", folder=str(folder))


@pytest.fixture
def put(folder):
    """Put a file there that was last used so long ago."""

    def put(name: str, days: float = 0.0, size: int = 100) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))
        used = time.time() - days * _DAY_S
        os.utime(path, (used, used))
        return path

    return put


def model(number: int, suffix: str = ".tflite") -> str:
    """The name of a kept model."""
    return f"models/{number:064x}{suffix}"


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_old_models_and_pieces_go_and_all_else_stays(device, folder, put):
    stays = {
        model(1),
        f"models/{5:064x}.tflite.0123456789abcdef.part",
        "models/mine.tflite",
        "releases/abc/model.tflite",
        "releases/.abc.new/model.tflite",
        "runtimes/litert.json",
        "runtimes/litert-2.3.0.12345678/numpy/a.py",
        "tools/worker-123456789abc.py",
    }
    for name in stays:
        put(name, days=0 if name.startswith(("models/0", model(1))) else 9)
    goes = {
        model(2): 1000,
        model(3, ".odd name"): 10,
        f"models/{4:064x}.tflite.0123456789abcdef.part": 2000,
        "runtimes/litert-1.12345678.tar.gz": 30,
        "runtimes/litert-1.12345678.tar.gz.0123456789abcdef.part": 40,
        "runtimes/native-1.1234/libtflite.so.0123456789abcdef.part": 50,
        "runtimes/.trial-0011.tflite": 60,
        "tools/.edgekit-probe-77": 0,
    }
    for name, size in goes.items():
        put(name, days=2, size=size)
    (folder / "runtimes/litert-1.12345678.0a0b0c0d.new").mkdir()
    os.utime(folder / "runtimes/litert-1.12345678.0a0b0c0d.new", (0, 0))
    with Shell(device) as shell:
        before = kept_files.look(shell)
        assert names(folder) == stays | set(goes)
        assert kept_files.clean(shell) == tuple(
            replace(file, state="gone" if file.state == "may" else "stays") for file in before
        )
    sizes = {file.path: file.size_bytes for file in before if file.state == "may"}
    assert sizes.pop("runtimes/litert-1.12345678.0a0b0c0d.new") > 0
    assert sizes == goes
    assert names(folder) == stays
    assert not (folder / "runtimes/litert-1.12345678.0a0b0c0d.new").exists()


@pytest.mark.parametrize("programs", ["busybox", "toybox"])
def test_small_programs_do_the_same(programs, folder, put, tmp_path):
    """On a phone or a router, where every program is that of busybox or toybox."""
    box, shell = shutil.which(programs), shutil.which("busybox" if programs == "busybox" else "mksh")
    if box is None or shell is None:
        pytest.skip(f"there is no {programs} here")
    listed = subprocess.run(
        [box, *(["--list"] if programs == "busybox" else [])], capture_output=True, text=True, check=True
    )
    (tmp_path / "bin").mkdir()
    for name in {*listed.stdout.split(), "sh"}:
        (tmp_path / "bin" / name).symlink_to(shell if name == "sh" else box)
    for number, days in enumerate([0, 2, 3]):
        put(model(number), days=days)
    put(f"{model(9)}.0a.part", days=2)
    used = subprocess.Popen(["sleep", "100"], env={kept_files.IN_USE: f"{folder}/{model(1)}", "PATH": "/bin"})
    try:
        words = ["-c", kept_files._SWEEP, "edgekit", str(folder), "1440", "1440", "0", "remove"]
        done = subprocess.run(
            [tmp_path / "bin/sh", *words],
            capture_output=True,
            text=True,
            check=True,
            env={"PATH": str(tmp_path / "bin")},
        )
    finally:
        used.kill()
        used.wait()
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        f"stays model 100 {model(0)}",
        f"stays model 100 {model(1)}",
        f"gone model 100 {model(2)}",
        f"gone piece 100 {model(9)}.0a.part",
    ]
    assert names(folder) == {model(0), model(1)}


def test_a_model_that_a_worker_runs_stays_however_old_it_is(device, folder, put):
    used, other = put(model(1), days=9), put(model(2), days=9)
    runtime = InstalledRuntime("litert", "1", (sys.executable, str(WORKER)))
    with Shell(device) as shell:
        with WorkerProcess("a model", start_worker(shell, runtime, f"{shell.folder}/{model(1)}")):
            kept_files.clean(shell, everything=True)
            assert used.exists()
            assert not other.exists()
        kept_files.clean(shell, everything=True)
    assert not used.exists()


def test_everything_is_more_than_what_is_old(device, put):
    today, piece, old_piece = put(model(1)), put(f"{model(2)}.0a.part"), put(f"{model(3)}.0a.part", days=0.1)
    with Shell(device) as shell:
        kept_files.clean(shell)
        assert all(path.exists() for path in (today, piece, old_piece))
        kept_files.clean(shell, everything=True)
    assert [path.exists() for path in (today, piece, old_piece)] == [False, True, False]


def test_a_device_that_removes_nothing_says_so(device, put, tmp_path, monkeypatch):
    stuck = put(model(1), days=2)
    broken = tmp_path / "bin/rm"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(broken.parent), prepend=":")
    with Shell(device) as shell, pytest.raises(DeviceError, match=model(1)) as caught:
        kept_files.clean(shell)
    assert (caught.value.code, caught.value.exit_code) == ("EK819", 5)
    assert stuck.exists()


def test_a_new_model_takes_the_place_of_the_oldest(sshd, dense_onnx):
    kept = sshd.home / ".edgekit/models"
    kept.mkdir(parents=True)
    for number in range(6):
        (kept / f"{number:064x}.onnx").touch()
        os.utime(kept / f"{number:064x}.onnx", (number * 1000, number * 1000))
    artifact = open_artifact(dense_onnx)
    with Shell(device_of(sshd.access), QUICK) as shell:
        place(shell, artifact)
        newest = {f"{number:064x}.onnx" for number in (3, 4, 5)}
        assert {path.name for path in kept.iterdir()} == newest | {f"{artifact.sha256}.onnx"}
        # One that was there is used again: that counts, and removes nothing.
        os.utime(kept / f"{artifact.sha256}.onnx", (0, 0))
        place(shell, artifact)
        assert len(list(kept.iterdir())) == 4
        assert time.time() - (kept / f"{artifact.sha256}.onnx").stat().st_mtime < 60


def test_a_session_whose_model_was_removed_sends_it_again(sshd, dense_onnx):
    proxy = sshd.access.through_proxy()
    artifact = open_artifact(dense_onnx)
    x = np.random.default_rng(0).random((20, 4), dtype=np.float32)
    with Shell(device_of(sshd.access), replace(QUICK, patience_s=5)) as shell:
        record(shell, InstalledRuntime("onnxruntime", "1", (sys.executable, str(WORKER))))
        with DeviceSession(shell, artifact) as session:
            session.run({"x": x})
            [kept] = (sshd.home / ".edgekit/models").iterdir()
            kept.unlink()
            proxy.reset_once()
            found = session.run({"x": x})
            session.close()
        assert session.reconnections == 1
    np.testing.assert_allclose(found["y"], x @ np.ones((4, 3)), rtol=1e-6)
    assert kept.read_bytes() == dense_onnx.read_bytes()


def test_the_command_line(device, put, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    edgekit.device_add(device, connect=False)
    old, today = put(model(1), days=2, size=2000), put(model(2), size=1000)

    def told(*words: str) -> dict:
        assert run([*words, "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        jsonschema.Draft202012Validator(schema(words[0])).validate(document)
        return document

    status = told("status", "--device", "here")
    assert status["result"]["kept_files"] == {"count": 2, "size_bytes": 3000, "removable_bytes": 2000}
    assert [finding["code"] for finding in status["findings"]] == ["EK818"]
    assert run(["status", "--device", "here"]) == 0
    assert "0.0 MB of benchmarks, evaluations and set-ups lie there too." in capsys.readouterr().out

    plan = told("device", "clean", "here", "--dry-run")["result"]
    assert old.exists()
    done = told("device", "clean", "here")["result"]
    assert (plan.pop("dry_run"), done.pop("dry_run")) == (True, False)
    assert plan == done
    assert [file["path"] for file in done["removed"]] == [model(1)]
    assert (done["removed_bytes"], done["kept_bytes"]) == (2000, 1000)
    assert (old.exists(), today.exists()) == (False, True)
    assert run(["device", "clean", "here", "--all"]) == 0
    assert "removed 0.0 MB (1 of 1 files)" in capsys.readouterr().out
    assert not today.exists()
