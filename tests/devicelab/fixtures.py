"""The lab's fixtures, for tests in any folder.

Tests that use an emulated device carry the marker ``devicelab``; those with ``sshd`` are ordinary ones.
"""

from collections.abc import Callable

import pytest

from devicelab.fake_pi import FakePi
from devicelab.processes import UnavailableError
from devicelab.sshd import Sshd


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


def _built(what: str, build: Callable):
    try:
        return build()
    except UnavailableError as error:
        pytest.skip(f"no {what} to test with: {error}")
