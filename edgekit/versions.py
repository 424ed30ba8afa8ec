"""The versions of what results depend on, recorded beside them."""

import platform
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = (
    "edgekit",
    "numpy",
    "ai-edge-litert",
    "ai-edge-quantizer",
    "onnx",
    "onnxruntime",
    "tensorflow",
    "keras",
    "tf-keras",
    "tf2onnx",
)


def installed_versions() -> dict[str, str]:
    """Python's version, and that of each installed package that runs or quantizes models."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
