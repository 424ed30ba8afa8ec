"""What of the wheels reaches a device, and what no wheel may hold."""

import stat
import tarfile
import zipfile

import pytest
from wheel_files import write_wheel

from edgekit.devices import runtime_bundle
from edgekit.devices.runtime_bundle import Bundle
from edgekit.errors import DataError

_NAME = "ai_edge_litert-2.3.0-cp311-cp311-manylinux_2_27_aarch64.whl"
_WANTED = {
    "ai_edge_litert/__init__.py": "",
    "ai_edge_litert/interpreter.py": "x = 1\n",
    "ai_edge_litert/libLiteRt.so": b"\x7fELF" + bytes(5000),
    "numpy.libs/libgfortran-1.so.5.0.0": b"\x7fELF",
    "numpy/testing/__init__.py": "",
}
_UNWANTED = {
    "ai_edge_litert/libLiteRtWebGpuAccelerator.so": b"\x7fELF",
    "ai_edge_litert/aot/core/types.py": "",
    "numpy/_core/tests/test_multiarray.py": "",
    "numpy/_core/include/numpy/arrayobject.h": "",
    "numpy/f2py/src/fortranobject.c": "",
    "numpy/__init__.pyi": "",
    "onnxruntime/capi/libonnxruntime.so.1.32.0": b"\x7fELF",
    "onnxruntime/transformers/optimizer.py": "",
}


def _contents(path):
    with tarfile.open(path) as archive:
        return {entry.name: archive.extractfile(entry).read() for entry in archive}


def test_a_device_gets_what_inference_needs(tmp_path):
    wheel = write_wheel(tmp_path, _NAME, _WANTED | _UNWANTED)
    bundle = Bundle([wheel])
    bundle.write(tmp_path / "bundle.tar.gz")
    found = _contents(tmp_path / "bundle.tar.gz")
    metadata = {name for name in found if ".dist-info/" in name}
    # The version of a runtime is read from there.
    assert "ai_edge_litert-2.3.0.dist-info/METADATA" in metadata
    assert set(found) - metadata == set(_WANTED)
    assert found["ai_edge_litert/libLiteRt.so"] == _WANTED["ai_edge_litert/libLiteRt.so"]
    assert bundle.unpacked_bytes == sum(map(len, found.values()))


def test_the_webgpu_accelerator_comes_on_demand_alone(tmp_path):
    wheel = write_wheel(tmp_path, _NAME, _WANTED | _UNWANTED)
    bundle = Bundle([wheel], with_webgpu=True)
    bundle.write(tmp_path / "bundle.tar.gz")
    assert "ai_edge_litert/libLiteRtWebGpuAccelerator.so" in _contents(tmp_path / "bundle.tar.gz")
    assert bundle.digest != Bundle([wheel]).digest


def test_the_same_wheels_give_the_same_bytes(tmp_path):
    wheel = write_wheel(tmp_path, _NAME, _WANTED)
    for name in ("a", "b"):
        Bundle([wheel]).write(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    other = write_wheel(tmp_path / "other", _NAME, _WANTED | {"ai_edge_litert/more.py": ""})
    assert Bundle([other]).digest != Bundle([wheel]).digest


@pytest.mark.parametrize(
    "name", ["../escape.py", "/etc/cron.d/escape", "a/../../escape.py", "a\\..\\escape.py", "a\nb.py"]
)
def test_names_that_lead_elsewhere_are_refused(tmp_path, name):
    wheel = write_wheel(tmp_path, _NAME, {name: "x"})
    with pytest.raises(DataError, match="holds the name") as refused:
        Bundle([wheel])
    assert refused.value.code == "EK835"


def test_links_are_refused(tmp_path):
    wheel = write_wheel(tmp_path, _NAME, {})
    link = zipfile.ZipInfo("ai_edge_litert/link.py")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DataError, match="no plain file"):
        Bundle([wheel])


def test_two_wheels_with_the_same_file_are_refused(tmp_path):
    first = write_wheel(tmp_path, _NAME, {"shared.py": "1"})
    second = write_wheel(tmp_path, "numpy-2.4.6-cp311-cp311-manylinux_2_27_aarch64.whl", {"shared.py": "2"})
    with pytest.raises(DataError, match="twice"):
        Bundle([first, second])


def test_a_wheel_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime_bundle, "_MOST_BYTES", 1 << 20)
    wheel = tmp_path / _NAME
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ai_edge_litert/zeros.bin", bytes(2 << 20))
    assert wheel.stat().st_size < 1 << 14
    with pytest.raises(DataError, match="more than"):
        Bundle([wheel])


@pytest.mark.parametrize("damage", ["cut", "flipped", "text"])
def test_a_damaged_wheel_is_refused(tmp_path, damage):
    wheel = write_wheel(tmp_path, _NAME, _WANTED)
    content = bytearray(wheel.read_bytes())
    if damage == "cut":
        del content[len(content) // 2 :]
    elif damage == "flipped":
        content[content.index(b"\x7fELF") + 100] ^= 1
    else:
        content = bytearray(b"<html>Not found</html>")
    wheel.write_bytes(content)
    with pytest.raises(DataError) as refused:
        Bundle([wheel]).write(tmp_path / "bundle.tar.gz")
    assert refused.value.code == "EK835"
    assert wheel.name in refused.value.message
