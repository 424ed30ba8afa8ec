"""The health check of deployments to an emulated phone: the real adb, the native runner, and a library gone wrong."""

import json
import subprocess
from pathlib import Path

import pytest
from devicelab.processes import UnavailableError, find_program, wait_until
from served_release import digest_served, make_model, residue
from wheel_files import CACHE

import edgekit
from edgekit.cli._group import run
from edgekit.devices import native_library
from edgekit.devices.device import Device
from edgekit.devices.wheels import Platform, Wanted, Wheels
from edgekit.errors import DependencyError

pytestmark = pytest.mark.devicelab

_DATA = Path(edgekit.__file__).parent.parent / "examples/digits/test.npz"
_RIGHT = "libLiteRtRuntimeCApi.so"
# Stands before the right library, whose other functions are found through it.
_WRONG = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
int TfLiteTensorCopyToBuffer(const void *tensor, void *bytes, size_t size) {
    int (*right)(const void *, void *, size_t);
    *(void **)&right = dlsym(RTLD_NEXT, "TfLiteTensorCopyToBuffer");
    int status = right(tensor, bytes, size);
    for (size_t i = 0; i < size / sizeof(float); i++)
        ((float *)bytes)[i] *= -1;
    return status;
}
"""


@pytest.fixture
def phone(fake_phone, tmp_path, monkeypatch):
    """A phone of the inventory with the native runner; what it keeps, as this machine sees it."""
    try:
        find_program("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu")
        package = Wanted("ai-edge-litert", f"=={native_library.WHEEL_VERSION}", "")
        Wheels(CACHE, Platform((3, 11), "aarch64", (2, 36))).fetch([package])
    except (UnavailableError, DependencyError) as error:
        pytest.skip(f"no native runner to test with: {error}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    edgekit.device_add(Device("phone", fake_phone.url), connect=False)
    edgekit.device_setup_native("phone", wheels=CACHE)
    return fake_phone.machine.root / "data/local/tmp/edgekit"


def break_library(folder: Path, work: Path) -> None:
    """Let the library on the phone give every number the wrong sign."""
    [library] = (folder / "runtimes").glob("native-*/libtflite.so")
    right = library.rename(library.with_name(_RIGHT))
    (work / "wrong.c").write_text(_WRONG)
    command = ["aarch64-linux-gnu-gcc", "-shared", "-fPIC", "-o", library, work / "wrong.c"]
    linking = ["-Wl,--no-as-needed", f"-L{right.parent}", f"-l:{_RIGHT}", "-Wl,-rpath,$ORIGIN"]
    subprocess.run([*command, *linking, "-Wl,--allow-shlib-undefined"], check=True, capture_output=True)


def test_a_good_release_goes_into_service_and_a_bad_one_does_not(phone, fake_phone, tmp_path, capsys):
    def deployed(model: Path, *words: str) -> tuple[int, dict]:
        status = run(["deploy", str(model), "--device", "phone", *words, "--json"])
        return status, json.loads(capsys.readouterr().out)

    status, document = deployed(make_model(tmp_path), "--health-check", str(_DATA))
    assert status == 0
    health = document["result"]["health"]
    assert (health["ok"], health["runtime"], health["samples"]) == (True, "native", 8)
    # None stands for infinite: both answer the same.
    assert health["snr_db"] is None or health["snr_db"] > 60
    good = document["result"]["release"]
    assert digest_served(phone) == good

    break_library(phone, tmp_path)
    status, document = deployed(make_model(tmp_path, 1), "--health-check", str(_DATA))
    assert (status, document["error"]["code"]) == (5, "EK845")
    assert f"{good[:12]} stays in service" in document["error"]["message"]
    assert "-6.0 dB SNR" in document["error"]["message"]
    assert digest_served(phone) == good
    assert [path.name for path in (phone / "releases").iterdir()] == [good]
    assert {name for name in residue(phone) if name not in {"runtimes", "setup"}} == set()
    wait_until(lambda: not fake_phone.programs(), "the end of all that was started there")
