"""What devices answer becomes facts: texts of real kinds of devices, and the real script in real shells."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.devices import facts, python_facts
from edgekit.devices.device import Device
from edgekit.devices.facts import FoundRuntime, clock_skew_s, probe, read, split
from edgekit.devices.processor import Cores
from edgekit.devices.shell import Shell
from edgekit.errors import DeviceError

_PROBES = Path(__file__).parent / "probes"
_SCRIPT = Path(facts.__file__).with_name("probe.sh")
_MIB = 1 << 20


def facts_of(name: str) -> facts.DeviceFacts:
    return read(split((_PROBES / f"{name}.txt").read_text(encoding="utf-8"), "MARK"))


def test_a_pi_4():
    found = facts_of("pi4")
    assert (found.model, found.soc) == ("Raspberry Pi 4 Model B Rev 1.5", "brcm,bcm2711")
    assert found.processor.cores == (Cores("Cortex-A72", 4),)
    assert found.processor.features == ("neon",)
    assert not found.has_lse
    assert found.memory.total_bytes == 3882228 * 1024
    assert (found.disk.path, found.disk.mount, found.disk.free_bytes) == ("/home/pi", "/", 23843276 * 1024)
    assert found.disk.writable
    assert found.disk.executable
    assert (found.os, found.kernel) == ("Debian GNU/Linux 12 (bookworm)", "Linux 6.6.31+rpt-rpi-v8")
    assert (found.machine, found.userland, str(found.libc)) == ("aarch64", "aarch64", "glibc 2.36")
    assert found.python is not None
    assert (found.python.version, found.python.numpy_version) == ("3.11.2", "1.24.2")
    assert found.python.platform.tags()[0] == "manylinux_2_36_aarch64"
    assert found.found_runtimes == (FoundRuntime("tflite_runtime", "2.14.0"),)
    assert found.benchmark_models == ("/home/pi/benchmark_model",)
    assert (found.clocks.governors, found.clocks.now_mhz, found.clocks.max_mhz) == (
        ("ondemand",),
        700.0,
        1800.0,
    )
    assert found.temperature_c == 48.312
    assert found.throttle_flags == 0x50005
    assert found.describe()["throttled_now"] == ("under_voltage", "throttled")
    assert found.load_average == (0.08, 0.03, 0.01)
    assert found.uptime_s == 90061.42
    assert found.battery is None


def test_a_pi_5_with_its_files_on_a_stick():
    found = facts_of("pi5")
    assert found.processor.features == ("neon", "fp16", "dotprod", "lse")
    assert found.has_lse
    assert (found.disk.writable, found.disk.executable) == (True, False)
    assert found.disk.problem == "Permission denied"
    assert found.throttle_flags == 0
    assert found.found_runtimes == (
        FoundRuntime("litert", "2.1.6", "ModuleNotFoundError: No module named 'numpy'"),
        FoundRuntime("onnxruntime", "1.23.2", "Illegal instruction"),
    )


def test_a_pi_zero_whose_programs_are_narrower_than_its_kernel():
    found = facts_of("pi_zero2_32bit")
    assert (found.machine, found.userland) == ("aarch64", "armv7l")
    assert found.python is not None
    assert found.python.platform.architecture == "armv7l"
    assert found.throttle_flags is None


def test_a_phone():
    found = facts_of("android_phone")
    assert (found.model, found.soc) == ("Google Pixel 6 Pro", "Google Tensor")
    assert found.processor.name == "4 x Cortex-A55 + 2 x Cortex-A76 + 2 x Cortex-X1"
    assert found.os == "Android 14"
    assert found.android is not None
    assert (found.android.sdk, found.android.security_patch) == (34, "2024-07-05")
    assert found.android.fingerprint.startswith("google/raven/raven:14/")
    assert str(found.libc) == "bionic"
    assert (found.python, found.python_problem) == (None, "there is no python3")
    assert found.battery is not None
    assert (found.battery.level_pct, found.battery.temperature_c, found.battery.powered) == (
        17.0,
        38.4,
        False,
    )
    assert (found.thermal_status, found.temperature_c, found.low_power_mode) == (2, 78.0, False)
    assert (found.clocks.limited_mhz, found.clocks.max_mhz) == (2048.0, 2802.0)
    assert found.disk.free_bytes == 52742808 * 1024


def test_a_laptop():
    found = facts_of("x86_laptop")
    assert found.model == "LENOVO 20XWCTO1WW"
    assert found.processor.model == "11th Gen Intel(R) Core(TM) i5-1135G7 @ 2.40GHz"
    assert "avx512_vnni" in found.processor.features
    assert found.has_lse, "what has no such thing needs none"
    assert found.throttle_events == 54
    assert found.temperature_c == 64.0
    assert found.battery is not None
    assert found.battery.powered
    assert found.found_runtimes == (FoundRuntime("onnxruntime", "1.19.2"),)


def test_alpine():
    found = facts_of("alpine")
    assert (found.os, str(found.libc)) == ("Alpine Linux v3.19", "musl 1.2.4_git20230717")
    assert found.python is not None
    assert found.python.platform.tags() == []
    assert (found.disk.writable, found.disk.problem) == (False, "Read-only file system")
    assert found.soc is None
    assert found.temperature_c is None


def test_a_board_behind_whose_kernel_no_device_tree_stands():
    answers = {"cpuinfo": "processor\t: 0\nmodel\t\t: 6\n\nModel\t\t: Raspberry Pi 4 Model B Rev 1.1\n"}
    assert read(answers).model == "Raspberry Pi 4 Model B Rev 1.1"
    assert read({"dmi": "To Be Filled By O.E.M.\nB450M Pro4"}).model == "B450M Pro4"


def test_a_device_that_answers_nothing_is_unknown_throughout():
    found = read({})
    assert found.describe()["model"] is None
    assert (found.memory.total_bytes, found.libc, found.load_average, found.uptime_s) == (
        None,
        None,
        None,
        None,
    )
    assert not found.disk.writable


def test_a_python_that_does_not_run():
    found = read({"python": "/usr/bin/python3\nFatal Python error: init_fs_encoding\nIllegal instruction\n"})
    assert found.python is None
    assert found.python_problem == "/usr/bin/python3 does not run: Illegal instruction"


@pytest.mark.parametrize("name", sorted(file.stem for file in _PROBES.glob("*.txt")))
def test_answers_that_are_cut_short_or_garbled_are_read_as_far_as_they_go(name):
    text = (_PROBES / f"{name}.txt").read_text(encoding="utf-8")
    for end in range(0, len(text), 37):
        read(split(text[:end], "MARK"))
        read(split(text[:end] + "9" * 40 + text[end + 40 :], "MARK"))


def test_numbers_that_are_none_are_an_error_of_the_device(tmp_path, monkeypatch):
    """More digits than Python turns into a number."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "df").write_text(f"#!/bin/sh\necho '/dev/x 1 1 {'9' * 5000} 1% /'\n")
    (programs / "df").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    with Shell(Device("odd", "local", str(tmp_path))) as shell, pytest.raises(DeviceError) as caught:
        probe(shell)
    assert caught.value.message == "odd answers with numbers that are none."


def test_control_characters_do_not_reach_the_terminal():
    answers = split("MARK model\n\x1b[2JEvil\x07 board\x00\n\nMARK end\n", "MARK")
    assert answers == {"model": "[2JEvil board", "end": ""}


@pytest.mark.parametrize(
    ("clock", "expected"),
    [("1000", 0.0), ("1001", 0.0), ("1003", 0.0), ("999", 0.0), ("1063", 60.0), ("939", -60.0), ("?", None)],
)
def test_the_clock_is_wrong_only_by_what_asking_does_not_explain(clock, expected):
    """Asked at 1000 s, answered at 1003 s; a clock in whole seconds shows 999 until 1000."""
    assert clock_skew_s(clock, 1000.0, 1003.0) == expected


def _shells() -> list[list[str]]:
    return [
        [path, *more]
        for name, *more in (["dash"], ["bash", "--posix"], ["busybox", "sh"], ["mksh"])
        if (path := shutil.which(name))
    ]


def _run(shell: list[str], folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*shell, "-s", "MARK", folder, python_facts.ASK, "pass"],
        input=_SCRIPT.read_text(encoding="utf-8"), capture_output=True, text=True, check=True, timeout=120,
        env=dict(os.environ) | environment,
    )  # fmt: skip


@pytest.mark.parametrize("shell", _shells(), ids=lambda words: Path(words[0]).name)
def test_every_shell_finds_what_python_finds(shell, tmp_path):
    done = _run(shell, tmp_path / "not" / "yet there")
    found = read(split(done.stdout, "MARK"))
    assert done.stderr == ""
    assert (found.kernel, found.machine) == (
        f"{platform.system()} {platform.release()}",
        platform.machine().lower(),
    )
    assert found.userland == ("armv7l" if sys.maxsize < 2**32 else found.machine)
    assert found.processor.online == os.cpu_count()
    assert found.memory.total_bytes == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert found.disk.path == str(tmp_path)
    assert found.disk.free_bytes == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.05)
    assert found.disk.executable
    kind, version = platform.libc_ver()
    if kind == "glibc":
        assert str(found.libc) == f"glibc {version}"
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_nothing_of_the_users_is_removed_or_run(tmp_path):
    """Neither a program that is found, nor what has a name like that of the attempt to write."""
    program = tmp_path / "benchmark_model"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (tmp_path / ".MARK").write_text("mine")
    for module in ("json", "numpy", "platform"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit('not this one')")
    done = subprocess.run(
        ["sh", "-s", "MARK", tmp_path, python_facts.ASK, "pass"],
        input=_SCRIPT.read_text(encoding="utf-8"), capture_output=True, text=True, check=True, timeout=120,
        cwd=tmp_path, env=dict(os.environ) | {"HOME": str(tmp_path)},
    )  # fmt: skip
    found = read(split(done.stdout, "MARK"))
    assert found.benchmark_models == (str(program),)
    assert found.python is not None, found.python_problem
    assert not found.disk.writable
    assert (tmp_path / ".MARK").read_text() == "mine"
    assert program.read_text() == "#!/bin/sh\n"


@pytest.mark.parametrize("programs", ["busybox", "toybox"])
def test_a_device_with_small_programs(programs, tmp_path):
    """Every program that the script calls is that of busybox or toybox, or is not there."""
    box, shell = shutil.which(programs), shutil.which("busybox" if programs == "busybox" else "mksh")
    if box is None or shell is None:
        pytest.skip(f"there is no {programs} here")
    listed = subprocess.run(
        [box, *(["--list"] if programs == "busybox" else [])], capture_output=True, text=True, check=True
    )
    (tmp_path / "bin").mkdir()
    for name in {*listed.stdout.split(), "sh"} - {"python3"}:
        (tmp_path / "bin" / name).symlink_to(shell if name == "sh" else box)
    words = [shell, "sh"] if programs == "busybox" else [shell]
    done = _run(words, tmp_path, PATH=str(tmp_path / "bin"))
    found = read(split(done.stdout, "MARK"))
    assert done.stderr == ""
    assert found.machine == platform.machine()
    assert found.processor.online == os.cpu_count()
    # toybox tells root of the blocks that others are kept from.
    space = os.statvfs(tmp_path)
    low, high = space.f_bavail * space.f_frsize, space.f_bfree * space.f_frsize
    assert 0.95 * low <= found.disk.free_bytes <= 1.05 * high
    assert found.disk.executable
    assert found.python_problem == "there is no python3"


def test_hardly_any_program_is_needed(tmp_path):
    """What is missing stays unknown, and the rest is still found."""
    for name in ("cat", "head", "uname", "sh", "rm"):
        (tmp_path / name).symlink_to(shutil.which(name))
    done = _run([shutil.which("dash") or "/bin/sh"], tmp_path, PATH=str(tmp_path))
    found = read(split(done.stdout, "MARK"))
    assert found.kernel == f"{platform.system()} {platform.release()}"
    assert found.disk.free_bytes is None
    assert found.disk.writable


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_may_not_be_written(tmp_path):
    tmp_path.chmod(0o500)
    found = read(split(_run(["sh"], tmp_path).stdout, "MARK"))
    assert (found.disk.writable, found.disk.problem) == (False, "Permission denied")


def test_this_machine(tmp_path):
    """Over a transport, with runtimes in a Python of its own."""
    with Shell(Device("here", "local", str(tmp_path / "device"))) as shell:
        found = probe(shell)
    assert found.clock_skew_s == 0.0
    assert found.python is not None
    assert found.python.platform.architecture == platform.machine()
    assert found.installed_runtimes == ()
    assert not (tmp_path / "device").exists()


def test_runtimes_are_tried_in_the_python_of_the_device(tmp_path, monkeypatch):
    """One loads, one does not, one ends Python; and nothing of the user's folder passes for them."""
    site = tmp_path / "site"
    bodies = {
        "ai_edge_litert": ("ai-edge-litert", "2.3.0", ""),
        "onnxruntime": ("onnxruntime", "1.20.0", "raise ImportError('libgomp.so.1: cannot open')"),
        "tflite_runtime": ("tflite-runtime", "2.14.0", "import os; os.kill(os.getpid(), 11)"),
    }
    for module, (package, version, body) in bodies.items():
        info = site / f"{module}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        (site / module).mkdir()
        (site / module / "__init__.py").write_text(body)
        (site / module / "interpreter.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    with Shell(Device("here", "local", str(tmp_path))) as shell:
        found = {runtime.name: runtime for runtime in probe(shell).found_runtimes}
    assert found["litert"] == FoundRuntime("litert", "2.3.0")
    assert found["onnxruntime"].problem == "ImportError: libgomp.so.1: cannot open"
    assert found["tflite_runtime"].version == "2.14.0"
    assert "139" in found["tflite_runtime"].problem or "fault" in found["tflite_runtime"].problem


def test_what_was_set_up_is_found_and_a_damaged_record_is_no_failure(tmp_path):
    runtimes = tmp_path / "runtimes"
    runtimes.mkdir()
    (runtimes / "native.json").write_text(
        '{"name": "native", "version": "1.4.0", "words": ["/x/runner"], "environment": {}}'
    )
    with Shell(Device("here", "local", str(tmp_path))) as shell:
        found = probe(shell)
        assert [(runtime.name, runtime.version) for runtime in found.installed_runtimes] == [
            ("native", "1.4.0")
        ]
        (runtimes / "litert.json").write_text("{")
        damaged = probe(shell)
    assert damaged.installed_runtimes == ()
    assert damaged.damaged_record == "A record of a runtime on here is damaged."


def test_a_device_that_answers_nothing_is_an_error():
    with Shell(Device("nobody", "null")) as shell, pytest.raises(DeviceError) as caught:
        probe(shell)
    assert caught.value.exit_code == 5


def test_over_ssh(sshd):
    """The login shell, quoting and the wire leave the answers as they are."""
    device = Device("lab", sshd.access.url, ssh_config=str(sshd.access.config))
    with Shell(device) as shell:
        found = probe(shell)
    assert found.disk.path == str(sshd.home)
    assert found.machine == platform.machine()
    assert list(sshd.home.iterdir()) == []
    assert sshd.programs() == []


def test_over_ssh_without_python(make_sshd):
    server = make_sshd(has_python=False)
    with Shell(Device("lab", server.access.url, ssh_config=str(server.access.config))) as shell:
        found = probe(shell)
    assert (found.python, found.python_problem) == (None, "there is no python3")
