"""The public API is a list; what is not on it may change."""

import subprocess
import sys

import pytest

import edgekit

_PUBLIC = [
    "Artifact",
    "Baseline",
    "Budget",
    "Dataset",
    "EdgekitError",
    "Finding",
    "Format",
    "Recipe",
    "Target",
    "TensorSpec",
    "__version__",
    "auto_quantize",
    "before_and_after",
    "benchmark",
    "check",
    "cluster",
    "compare",
    "compat",
    "compile",
    "convert",
    "create_baseline",
    "debug",
    "deploy",
    "device_add",
    "device_clean",
    "device_list",
    "device_probe",
    "device_remove",
    "device_setup",
    "device_setup_native",
    "distill",
    "doctor",
    "evaluate",
    "explain",
    "inspect",
    "lint",
    "open_artifact",
    "open_dataset",
    "promote",
    "prune",
    "qat",
    "quantize",
    "report",
    "rollback",
    "run",
    "schema",
    "search",
    "sensitivity",
    "status",
    "target_list",
    "target_show",
    "target_validate",
    "toolchain_doctor",
    "toolchain_install",
    "toolchain_list",
    "toolchain_remove",
]


def test_all_is_this_list():
    assert edgekit.__all__ == _PUBLIC
    assert dir(edgekit) == _PUBLIC


@pytest.mark.parametrize("name", _PUBLIC)
def test_every_name_resolves_and_is_documented(name):
    thing = getattr(edgekit, name)
    assert thing is not None
    assert name == "__version__" or thing.__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'quantise'"):
        _ = edgekit.quantise


def test_importing_the_package_imports_nothing_heavy():
    script = "import sys, edgekit; print(sorted({'numpy', 'click', 'rich', 'tensorflow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
