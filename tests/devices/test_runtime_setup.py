"""A runtime brought to a device, over this machine and a real sshd: real LiteRT, and small wheels that fail."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from wheel_files import PYTHON, bare_python, installed_wheel, write_wheel

from edgekit.devices import installed_runtimes, python_facts, runtime_bundle, runtime_setup, trial
from edgekit.devices.device import Device
from edgekit.devices.shell import Shell
from edgekit.errors import DeviceError
from edgekit.transports import Limits

# Whole runtimes are packed, sent and unpacked.
pytestmark = pytest.mark.slow

_PLATFORM = f"{PYTHON}-{PYTHON}-manylinux_2_17_{os.uname().machine}"
_CRASH = {
    "SIGSEGV": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "SIGILL": "import os, signal; os.kill(os.getpid(), signal.SIGILL)",
    "libstdc++": "raise ImportError('libstdc++.so.6: cannot open shared object file')",
    "exit status 3": "import sys; sys.exit(3)",
}


@pytest.fixture(autouse=True)
def _pack_quickly(monkeypatch):
    monkeypatch.setattr(runtime_bundle, "_LEVEL", 1)


@pytest.fixture(scope="session")
def litert_wheels(tmp_path_factory) -> list[Path]:
    """The LiteRT and the numpy that are installed here, as wheels."""
    folder = tmp_path_factory.mktemp("wheels")
    return [installed_wheel(name, folder) for name in ("ai-edge-litert", "numpy")]


@pytest.fixture
def broken(tmp_path):
    """A LiteRT that fails in a chosen way when it is imported."""

    def make(code: str, version: str = "2.3.0") -> list[Path]:
        name = f"ai_edge_litert-{version}-{_PLATFORM}.whl"
        files = {"ai_edge_litert/__init__.py": "", "ai_edge_litert/interpreter.py": f"{code}\n"}
        return [write_wheel(tmp_path / f"broken-{version}", name, files)]

    return make


@pytest.fixture
def device(tmp_path):
    """This machine, with a folder whose name needs quoting."""
    return Device("here", "local", folder=str(tmp_path / "edge kit's $folder"))


@pytest.fixture
def python(tmp_path) -> str:
    return str(bare_python(tmp_path))


def _set_up(shell, wheels, python, *, version="2.3.0", **options):
    found = python_facts.find(shell, python)
    return runtime_setup.set_up(shell, "litert", version, found, wheels, **options)


def _files(device) -> set[str]:
    folder = Path(device.folder)
    return {
        str(path.relative_to(folder)) for kind in ("runtimes", "tools") for path in (folder / kind).iterdir()
    }


def _works(shell) -> bool:
    return bool(trial.try_out(shell, installed_runtimes.installed(shell)["litert"]))


def test_litert_runs_where_only_its_own_files_are_found(device, python, litert_wheels):
    seen = []
    with Shell(device) as shell:
        done = _set_up(shell, litert_wheels, python, progress=lambda *state: seen.append(state))
        assert installed_runtimes.installed(shell) == {"litert": done.runtime}
        assert done.trial["delegate"] == "xnnpack"
        assert done.replaced is None
        assert seen[-1][0] == seen[-1][1] > 10 << 20
        assert done.bytes_sent >= seen[-1][1]
        folder = Path(done.runtime.environment["PYTHONPATH"])
        size = sum(
            path.stat().st_size for path in folder.rglob("*") if path.suffix != ".pyc" and path.is_file()
        )
        assert size == done.unpacked_bytes
        assert not list(folder.rglob("libLiteRtWebGpuAccelerator.so"))
        before = _files(device)
        worker = Path(done.runtime.words[1]).name
        assert before == {"runtimes/litert.json", f"runtimes/{folder.name}", f"tools/{worker}"}
        again = _set_up(shell, litert_wheels, python)
        assert again.bytes_sent == 0
        assert again.replaced == "2.3.0"
        assert _files(device) == before


@pytest.mark.parametrize("reason", _CRASH)
def test_a_runtime_that_fails_is_not_kept(device, python, broken, reason):
    with Shell(device) as shell:
        with pytest.raises(DeviceError) as failed:
            _set_up(shell, broken(_CRASH[reason]), python)
        assert failed.value.code == "EK837"
        assert failed.value.exit_code == 5
        assert reason in failed.value.message
        assert "\n" not in failed.value.message
        assert installed_runtimes.installed(shell) == {}
        assert {name for name in _files(device) if "litert" in name} == set()


def test_what_worked_before_stays_when_the_next_fails(device, python, litert_wheels, broken):
    with Shell(device) as shell:
        first = _set_up(shell, litert_wheels, python)
        before = _files(device)
        with pytest.raises(DeviceError, match="SIGSEGV"):
            _set_up(shell, broken(_CRASH["SIGSEGV"], "2.4.0"), python, version="2.4.0")
        assert installed_runtimes.installed(shell) == {"litert": first.runtime}
        assert _files(device) == before
        assert _works(shell)


def test_a_runtime_that_hangs_is_ended(device, python, broken, monkeypatch):
    monkeypatch.setattr(trial, "_OPEN_S", 3.0)
    with Shell(device) as shell:
        with pytest.raises(DeviceError, match="did not answer within 3 s"):
            _set_up(shell, broken("import time; time.sleep(600)"), python)
        workers = subprocess.run(["pgrep", "-f", device.folder], capture_output=True, check=False)
        assert workers.stdout == b""


def test_a_runtime_that_computes_nonsense_is_refused(device, python, litert_wheels, monkeypatch):
    with Shell(device) as shell:
        monkeypatch.setattr(trial, "_INPUT", trial._INPUT + 1)
        good = trial._WEIGHTS
        # The model keeps the weights; what is expected of it changes.
        content = trial.tflite()
        monkeypatch.setattr(trial, "tflite", lambda: content)
        monkeypatch.setattr(trial, "_WEIGHTS", good * 2)
        with pytest.raises(DeviceError, match="is right") as failed:
            _set_up(shell, litert_wheels, python)
        assert failed.value.code == "EK837"


def test_an_upgrade_removes_the_old_version_and_no_other_runtime(device, python, litert_wheels):
    with Shell(device) as shell:
        first = _set_up(shell, litert_wheels, python, version="2.2.0")
        runtimes, tools = (Path(device.folder) / kind for kind in ("runtimes", "tools"))
        other = runtimes / "onnxruntime-1.32.0.00000000"
        other.mkdir()
        for name in ("litert-2.1.0.11111111.abcd.new", "litert-2.1.0.11111111.tar.gz"):
            (runtimes / name).touch()
        (tools / "worker-000000000000.py").touch()
        done = _set_up(shell, litert_wheels, python, version="2.3.0")
        assert done.replaced == "2.2.0"
        assert not Path(first.runtime.environment["PYTHONPATH"]).exists()
        assert _files(device) == {
            f"runtimes/{name}"
            for name in ("litert.json", Path(done.runtime.environment["PYTHONPATH"]).name, other.name)
        } | {f"tools/{Path(done.runtime.words[1]).name}"}


def test_a_damaged_record_is_written_anew(device, python, litert_wheels):
    with Shell(device) as shell:
        _set_up(shell, litert_wheels, python)
        (Path(device.folder) / "runtimes" / "litert.json").write_text("{")
        done = _set_up(shell, litert_wheels, python)
        assert installed_runtimes.installed(shell) == {"litert": done.runtime}


def test_a_device_without_tar_unpacks_with_its_python(device, python, litert_wheels, tmp_path, monkeypatch):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in (
        "sh", "env", "cat", "df", "mv", "rm", "mkdir", "head", "tail", "wc", "awk", "sync", "dirname", "sha256sum",
        "tr", "grep", "ln", "sleep",
    ):  # fmt: skip
        (tools / name).symlink_to(shutil.which(name))
    monkeypatch.setenv("PATH", str(tools))
    with Shell(device) as shell:
        _set_up(shell, litert_wheels, python)
        assert _works(shell)


def test_a_file_in_the_place_of_the_folder(device, python, litert_wheels):
    Path(device.folder).write_text("mine")
    with Shell(device) as shell, pytest.raises(DeviceError) as failed:
        _set_up(shell, litert_wheels, python)
    assert failed.value.code == "EK808"
    assert Path(device.folder).read_text() == "mine"


def test_a_disk_that_is_too_small_for_what_is_unpacked(device, python, litert_wheels, monkeypatch):
    free = shutil.disk_usage(Path(device.folder).parent).free
    monkeypatch.setattr(runtime_setup, "_MARGIN_BYTES", free)
    with Shell(device) as shell, pytest.raises(DeviceError) as failed:
        _set_up(shell, litert_wheels, python)
    assert failed.value.code == "EK807"
    assert _files_below(device) == []


def _files_below(device) -> list[Path]:
    return [path for path in Path(device.folder).rglob("*") if path.is_file()]


def test_over_ssh_an_upload_goes_on_after_the_link_was_cut(sshd, python, litert_wheels, tmp_path):
    proxy = sshd.access.through_proxy()
    device = Device("lab", sshd.access.url, ssh_config=str(sshd.access.config))
    with Shell(device, Limits(keepalive_s=1.0)) as shell:
        found = python_facts.find(shell, python)
        proxy.cut_after(8 << 20)
        done = runtime_setup.set_up(shell, "litert", "2.3.0", found, litert_wheels)
        assert _works(shell)
    bundle = runtime_bundle.Bundle(litert_wheels)
    bundle.write(tmp_path / "bundle.tar.gz")
    # What came over before the cut is not sent again, except for what was under way.
    assert done.bytes_sent < (tmp_path / "bundle.tar.gz").stat().st_size + (6 << 20)
    assert (sshd.home / ".edgekit/runtimes/litert.json").is_file()


def test_over_ssh_without_python(make_sshd):
    server = make_sshd(has_python=False)
    device = Device("lab", server.access.url, ssh_config=str(server.access.config))
    with Shell(device) as shell, pytest.raises(DeviceError) as missing:
        python_facts.find(shell)
    assert missing.value.code == "EK836"
    assert missing.value.exit_code == 5
    assert "--native" in missing.value.hint


def test_a_program_that_is_no_python(device):
    with Shell(device) as shell, pytest.raises(DeviceError, match="does not run"):
        python_facts.find(shell, "/bin/true")
