"""The lab's fixtures, for tests in any folder."""

import pytest

from devicelab.processes import UnavailableError
from devicelab.sshd import Sshd


@pytest.fixture
def make_sshd(tmp_path_factory):
    """Start servers of tier 1 with the options of ``Sshd``; all end with the test."""
    started = []

    def make(**options) -> Sshd:
        try:
            started.append(Sshd(tmp_path_factory.mktemp("sshd"), **options))
        except UnavailableError as error:
            pytest.skip(f"no sshd to test with: {error}")
        return started[-1]

    yield make
    for server in started:
        server.close()


@pytest.fixture
def sshd(make_sshd) -> Sshd:
    """This machine as a device, over a real sshd on loopback."""
    return make_sshd()
