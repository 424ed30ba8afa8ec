"""A delegate that takes operators, in worker.py on a device: where they run is told, and the outputs are its own."""

import sys

import numpy as np
import pytest
from devicelab.command_line import CommandLine, codes
from faulty_links import QUICK, device_of, failing

from edgekit.devices.device import Device
from edgekit.devices.installed_runtimes import InstalledRuntime, record
from edgekit.devices.session import DeviceSession
from edgekit.devices.shell import Shell
from edgekit.errors import TargetError
from edgekit.formats import open_artifact
from edgekit.interleaved import Delegate
from edgekit.worker_process import WORKER

_TAKING = {"mode": "classic"}


@pytest.fixture(params=["local", "ssh"])
def shell(request):
    """This machine, once without a link and once behind an SSH server, with LiteRT."""
    if request.param == "local":
        with Shell(Device("here", "local"), QUICK) as shell:
            yield shell
        return
    with Shell(device_of(request.getfixturevalue("sshd").access), QUICK) as shell:
        record(shell, InstalledRuntime("litert", "1", (sys.executable, str(WORKER))))
        yield shell


def test_its_operators_run_in_it_and_the_rest_elsewhere(shell, sum_model, delegate_library):
    inputs = {"left": np.full((3, 4), 5, np.float32), "right": np.full((3, 4), 16, np.float32)}
    delegate = Delegate(str(delegate_library), _TAKING)
    with DeviceSession(shell, open_artifact(sum_model), delegate=delegate) as session:
        found = session.run(inputs)
        session.close()
    assert session.opened["delegate"] == "libtests_delegate.so"
    assert session.opened["placement"] == {
        "accelerated_pct": 50.0,
        "ops": [{"op": "ADD", "accelerated": True}, {"op": "SQRT", "accelerated": False}],
    }
    # It adds 100, so it was asked; the square root of that comes from the CPU.
    np.testing.assert_array_equal(found["sum"], np.full((3, 4), 121, np.float32))
    np.testing.assert_array_equal(found["root"], np.full((3, 4), 11, np.float32))


@pytest.mark.parametrize(
    ("library", "options", "words"),
    [
        ("libc.so.6", {}, "libc.so.6 gives no delegate"),
        ("/nowhere/libnpu.so", {}, "/nowhere/libnpu.so"),
        (None, {"mode": "none"}, "there is no such accelerator"),
        (None, {"mode": "refuse"}, "libtests_delegate.so refuses the model"),
    ],
)
def test_a_library_that_gives_no_delegate(shell, sum_model, delegate_library, library, options, words):
    delegate = Delegate(library or str(delegate_library), options)
    with failing("EK536", within_s=8, kind=TargetError) as caught:
        DeviceSession(shell, open_artifact(sum_model), delegate=delegate)
    assert words in caught[0].message


@pytest.fixture
def user(tmp_path):
    return CommandLine(tmp_path)


@pytest.mark.slow
def test_a_partial_delegation_is_told_and_may_be_refused(user, sum_model, delegate_library):
    words = ("benchmark", sum_model, "--device", "local", "--delegate", f"{delegate_library},mode=classic")
    words = (*words, "--runs", "5", "--warmup", "2")
    partial = user.run(*words, "--require-placement", "50")
    assert partial["result"]["delegate"] == "libtests_delegate.so"
    [told] = [finding for finding in partial["findings"] if finding["code"] == "EK512"]
    assert (told["level"], "took 50% of the operators; outside: 1 SQRT" in told["message"]) == (
        "warning",
        True,
    )
    refused = user.run(*words, "--require-placement", "51", expect=4)
    assert "EK515" in codes(refused)


def test_evaluation_tells_it_too(user, sum_model, delegate_library, tmp_path):
    data = tmp_path / "data.npz"
    ones = np.ones((6, 4), np.float32)
    np.savez(data, left=ones, right=ones)
    words = ("evaluate", sum_model, "--data", data, "--reference", sum_model, "--device", "local")
    found = user.run(*words, "--delegate", f"{delegate_library},mode=classic")
    assert "EK512" in codes(found)
    assert found["result"]["delegate"] == "libtests_delegate.so"
    # The host adds without 100.
    assert found["result"]["agreement"]["max_abs"] == pytest.approx(100)


def test_no_delegate_without_a_device(user, sum_model, tmp_path):
    np.savez(tmp_path / "data.npz", left=np.ones((2, 4)), right=np.ones((2, 4)))
    for command in ("evaluate", "debug"):
        words = (command, sum_model, "--data", tmp_path / "data.npz", "--delegate", "gpu")
        document = user.run(*words, expect=2)
        assert document["error"]["code"] == "EK544"
