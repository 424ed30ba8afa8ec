"""Which runtimes can run where, and the sentence that says why not."""

from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.devices.facts import DeviceFacts, read, split
from edgekit.devices.probe_texts import Libc
from edgekit.devices.support import platform_tags, support
from edgekit.devices.wheels import Platform

_PROBES = Path(__file__).parent / "probes"


def facts_of(name: str) -> DeviceFacts:
    return read(split((_PROBES / f"{name}.txt").read_text(encoding="utf-8"), "MARK"))


def answers(facts: DeviceFacts) -> dict[str, tuple[bool, str | None, str]]:
    return {found.name: (found.possible, found.version, found.reason) for found in support(facts)}


def with_platform(facts: DeviceFacts, platform: Platform) -> DeviceFacts:
    assert facts.python is not None
    libc = Libc("glibc", ".".join(map(str, platform.glibc or ())))
    return replace(facts, python=replace(facts.python, platform=platform), libc=libc)


def test_a_pi_4_runs_all_without_the_accelerator_that_ends_it():
    found = answers(facts_of("pi4"))
    assert all(possible for possible, _version, _reason in found.values())
    assert found["litert"][1] == "2.3.0"
    assert "WebGPU" in found["litert"][2]
    assert found["tflite_runtime"] == (True, "2.14.0", "")
    assert found["native"] == (True, "1.4.0", "")


def test_a_laptop_keeps_the_accelerator():
    assert answers(facts_of("x86_laptop"))["litert"] == (True, "2.3.0", "")


@pytest.mark.parametrize(
    ("glibc", "litert", "onnxruntime", "tflite_runtime", "native"),
    [
        # Debian 12, 11 and 10, and Ubuntu 18.04.
        ((2, 36), "2.3.0", True, True, True),
        ((2, 31), "1.4.0", True, True, True),
        ((2, 28), None, True, True, True),
        ((2, 27), None, False, True, True),
        ((2, 13), None, False, False, False),
    ],
)
def test_an_older_glibc_runs_less(glibc, litert, onnxruntime, tflite_runtime, native):
    found = answers(with_platform(facts_of("pi4"), Platform((3, 11), "aarch64", glibc)))
    assert found["litert"][1] == litert
    assert [found[name][0] for name in ("onnxruntime", "tflite_runtime", "native")] == [
        onnxruntime,
        tflite_runtime,
        native,
    ]
    for possible, _version, reason in found.values():
        assert possible or "glibc" in reason


def test_a_python_too_old_or_too_new():
    old = answers(with_platform(facts_of("pi4"), Platform((3, 8), "aarch64", (2, 36))))
    assert old["tflite_runtime"] == (False, None, "tflite-runtime 2.14.0 is for Python 3.9 to 3.11")
    assert not any(old[name][0] for name in ("litert", "onnxruntime"))
    assert old["native"][0]
    new = answers(with_platform(facts_of("pi4"), Platform((3, 13), "aarch64", (2, 36))))
    assert new["litert"][0]
    assert not new["tflite_runtime"][0]


def test_32_bit_programs_have_tflite_runtime_alone():
    found = answers(facts_of("pi_zero2_32bit"))
    assert [name for name, answer in found.items() if answer[0]] == ["tflite_runtime"]
    assert "aarch64" in found["litert"][2]


def test_a_32_bit_processor_needs_vfpv4():
    pi = facts_of("pi_zero2_32bit")
    without = replace(pi, machine="armv7l", processor=replace(pi.processor, features=("neon",)))
    assert answers(without)["tflite_runtime"] == (
        False,
        None,
        "its wheels need a processor with VFPv4, such as a Cortex-A7",
    )
    having = replace(without, processor=replace(pi.processor, features=("neon", "vfpv4")))
    assert answers(having)["tflite_runtime"][0]


def test_a_phone_runs_the_native_runner_with_a_library_of_its_own():
    found = answers(facts_of("android_phone"))
    assert found["litert"] == (False, None, "it needs Python, and there is no python3")
    assert found["native"] == (
        True,
        None,
        "with a TFLite library for Android that you name, and Android's NDK",
    )
    assert platform_tags(facts_of("android_phone")) == []


def test_the_native_runner_needs_a_library_where_litert_has_none():
    assert answers(facts_of("x86_laptop"))["native"] == (True, None, "with a TFLite library that you name")
    old = answers(with_platform(facts_of("pi4"), Platform((3, 7), "aarch64", (2, 28))))
    assert old["native"] == (
        True,
        None,
        "with a TFLite library that you name: LiteRT's own needs glibc 2.30",
    )
    phone = facts_of("android_phone")
    assert not answers(replace(phone, userland="armv7l"))["native"][0]


def test_musl_is_named():
    writable = replace(
        facts_of("alpine"), disk=replace(facts_of("alpine").disk, writable=True, executable=True)
    )
    for possible, version, reason in answers(writable).values():
        assert (possible, version) == (False, None)
        assert "musl 1.2.4_git20230717" in reason


@pytest.mark.parametrize(("name", "words"), [("alpine", "cannot be written"), ("pi5", "nothing can be run")])
def test_a_disk_where_nothing_can_be_run(name, words):
    for possible, _version, reason in answers(facts_of(name)).values():
        assert not possible
        assert words in reason


def test_another_python_than_cpython():
    pi = facts_of("pi4")
    assert pi.python is not None
    found = answers(replace(pi, python=replace(pi.python, implementation="pypy")))
    assert found["litert"] == (False, None, "it needs CPython, and /usr/bin/python3 is pypy")


def test_tags_of_wheels_that_fit():
    tags = platform_tags(facts_of("pi_zero2_32bit"))
    assert tags[0] == "manylinux_2_36_armv7l"
    assert "manylinux2014_armv7l" in tags
    assert not any("aarch64" in tag for tag in tags)
