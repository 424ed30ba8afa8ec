"""The lab's fixtures, for tests in any folder.

Tests that use an emulated device carry the marker ``devicelab``; those with ``sshd`` are ordinary ones. Tests with
``vm`` carry the markers ``devicelab`` and ``vm``, and skip unless EDGEKIT_LAB_VM=1.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import edgekit
from devicelab.fake_phone import AdbNetwork, FakePhone
from devicelab.fake_pi import FakePi
from devicelab.processes import UnavailableError
from devicelab.software_gpu import software_gpu
from devicelab.sshd import Sshd
from devicelab.vm import Vm


@pytest.fixture
def make_sshd(tmp_path_factory):
    """Start servers of tier 1 with the options of ``Sshd``; all end with the test."""
    started = []

    def make(**options) -> Sshd:
        started.append(_built("sshd", lambda: Sshd(tmp_path_factory.mktemp("sshd"), **options)))
        return started[-1]

    yield make
    for server in started:
        server.close()


@pytest.fixture
def sshd(make_sshd) -> Sshd:
    """This machine as a device, over a real sshd on loopback."""
    return make_sshd()


@pytest.fixture(scope="session")
def make_fake_pi(tmp_path_factory):
    """Build emulated Pis with the options of ``FakePi``; all end with the session, if not sooner."""
    built = []

    def make(**options) -> FakePi:
        built.append(_built("emulated Pi", lambda: FakePi(tmp_path_factory.mktemp("pi"), **options)))
        return built[-1]

    yield make
    for pi in built:
        pi.close()


@pytest.fixture(scope="session")
def session_pi(make_fake_pi) -> FakePi:
    """The one Pi behind ``fake_pi``: tests of one file that build on each other may share it as it is."""
    return make_fake_pi()


@pytest.fixture
def fake_pi(session_pi) -> FakePi:
    """An emulated Raspberry Pi 4 with Python 3.11, as good as new."""
    session_pi.reset()
    return session_pi


@pytest.fixture(scope="session")
def _session_old_pi(make_fake_pi) -> FakePi:
    return make_fake_pi(suite="bullseye", alias="oldpi")


@pytest.fixture
def old_pi(_session_old_pi) -> FakePi:
    """An emulated Raspberry Pi 4 with Python 3.9 and glibc 2.31, as good as new."""
    _session_old_pi.reset()
    return _session_old_pi


@pytest.fixture(scope="session")
def session_adb(tmp_path_factory):
    network = _built("adb", lambda: AdbNetwork(tmp_path_factory.mktemp("adb")))
    yield network
    network.close()


@pytest.fixture(scope="session")
def make_fake_phone(tmp_path_factory, session_adb):
    built = []

    def make(port: int) -> FakePhone:
        folder = tmp_path_factory.mktemp("phone")
        built.append(_built("emulated phone", lambda: FakePhone(folder, session_adb, port=port)))
        return built[-1]

    yield make
    for phone in built:
        phone.close()


@pytest.fixture(scope="session")
def _session_phone(make_fake_phone) -> FakePhone:
    return make_fake_phone(5611)


@pytest.fixture(scope="session")
def _session_second_phone(make_fake_phone) -> FakePhone:
    return make_fake_phone(5613)


@pytest.fixture
def adb_network(session_adb, monkeypatch) -> AdbNetwork:
    """adb's server without a device; ``adb`` in PATH reaches it for the test and the processes that it starts."""
    monkeypatch.setenv("PATH", f"{session_adb.programs}:{os.environ['PATH']}")
    for name in (
        "ADB_SERVER_SOCKET",
        "ANDROID_ADB_SERVER_ADDRESS",
        "ANDROID_ADB_SERVER_PORT",
        "ANDROID_SERIAL",
    ):
        monkeypatch.delenv(name, raising=False)
    session_adb.start_server()
    session_adb.disconnect_all()
    return session_adb


@pytest.fixture
def fake_phone(adb_network, _session_phone) -> FakePhone:
    """An emulated phone, as good as new, the only device that ``adb`` sees."""
    adb_network.disconnect_all()
    _session_phone.reset()
    return _session_phone


@pytest.fixture
def second_phone(fake_phone, _session_second_phone) -> FakePhone:
    """One more emulated phone on the same adb server."""
    _session_second_phone.reset()
    fake_phone.connect()
    return _session_second_phone


@pytest.fixture(scope="session")
def _session_vm(tmp_path_factory):
    if os.environ.get("EDGEKIT_LAB_VM") != "1":
        pytest.skip("no virtual machine to test with: set EDGEKIT_LAB_VM=1 to build one")
    vm = _built("virtual machine", lambda: Vm(tmp_path_factory.mktemp("vm")))
    yield vm
    vm.close()


@pytest.fixture
def vm(_session_vm) -> Vm:
    """A whole emulated arm64 machine, switched on, with an empty home."""
    _session_vm.reset()
    return _session_vm


@pytest.fixture
def gpu(monkeypatch) -> dict[str, str]:
    """A GPU that the processor plays, in the environment of the test and of what it starts."""
    environment = _built("GPU", software_gpu)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return environment


@pytest.fixture
def onnx_gpu(gpu, build_once, monkeypatch) -> Path:
    """ONNX Runtime for that GPU, installed once for all processes: the cache that has the toolchain, which is used."""

    def install(folder: Path) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
        edgekit.toolchain_install("onnxruntime-webgpu")

    cache = build_once("onnxruntime-webgpu", install)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return cache


def _built(what: str, build: Callable):
    try:
        return build()
    except UnavailableError as error:
        pytest.skip(f"no {what} to test with: {error}")
