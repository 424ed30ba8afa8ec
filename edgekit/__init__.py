"""edgekit takes a trained model to a device and proves that it is still good there.

Every command of the command line is a public function here, loaded when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Artifact": "edgekit.artifact",
    "Baseline": "edgekit.baseline",
    "Budget": "edgekit.budget",
    "Dataset": "edgekit.data",
    "EdgekitError": "edgekit.errors",
    "Finding": "edgekit.findings",
    "Format": "edgekit.artifact",
    "Recipe": "edgekit.recipe",
    "Target": "edgekit.target",
    "TensorSpec": "edgekit.artifact",
    "auto_quantize": "edgekit.workflows.auto",
    "before_and_after": "edgekit.workflows.before_after",
    "benchmark": "edgekit.verbs.benchmark",
    "check": "edgekit.workflows.check",
    "cluster": "edgekit.verbs.cluster",
    "compare": "edgekit.workflows.compare",
    "compat": "edgekit.verbs.compat",
    "compile": "edgekit.verbs.compile",
    "convert": "edgekit.verbs.convert",
    "create_baseline": "edgekit.workflows.baseline",
    "debug": "edgekit.verbs.debug",
    "deploy": "edgekit.verbs.deploy",
    "device_add": "edgekit.verbs.device",
    "device_clean": "edgekit.verbs.device",
    "device_list": "edgekit.verbs.device",
    "device_probe": "edgekit.verbs.device",
    "device_remove": "edgekit.verbs.device",
    "device_setup": "edgekit.verbs.device_setup",
    "device_setup_native": "edgekit.verbs.device_setup_native",
    "distill": "edgekit.verbs.distill",
    "doctor": "edgekit.verbs.doctor",
    "evaluate": "edgekit.verbs.evaluate",
    "explain": "edgekit.findings",
    "inspect": "edgekit.verbs.inspect",
    "lint": "edgekit.verbs.lint",
    "open_artifact": "edgekit.formats",
    "open_dataset": "edgekit.data",
    "promote": "edgekit.workflows.baseline",
    "prune": "edgekit.workflows.prune",
    "qat": "edgekit.verbs.qat",
    "quantize": "edgekit.verbs.quantize",
    "report": "edgekit.workflows.report",
    "rollback": "edgekit.verbs.rollback",
    "run": "edgekit.workflows.run",
    "schema": "edgekit.verbs.schema",
    "search": "edgekit.workflows.search",
    "sensitivity": "edgekit.workflows.sensitivity",
    "status": "edgekit.verbs.status",
    "target_list": "edgekit.verbs.targets",
    "target_show": "edgekit.verbs.targets",
    "target_validate": "edgekit.verbs.targets",
    "toolchain_doctor": "edgekit.verbs.toolchain",
    "toolchain_install": "edgekit.verbs.toolchain",
    "toolchain_list": "edgekit.verbs.toolchain",
    "toolchain_remove": "edgekit.verbs.toolchain",
}

__all__ = [
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

if TYPE_CHECKING:
    from edgekit.artifact import Artifact, Format, TensorSpec
    from edgekit.baseline import Baseline
    from edgekit.budget import Budget
    from edgekit.data import Dataset, open_dataset
    from edgekit.errors import EdgekitError
    from edgekit.findings import Finding, explain
    from edgekit.formats import open_artifact
    from edgekit.recipe import Recipe
    from edgekit.target import Target
    from edgekit.verbs.benchmark import benchmark
    from edgekit.verbs.cluster import cluster
    from edgekit.verbs.compat import compat
    from edgekit.verbs.compile import compile  # noqa: A004 - the command's name
    from edgekit.verbs.convert import convert
    from edgekit.verbs.debug import debug
    from edgekit.verbs.deploy import deploy
    from edgekit.verbs.device import device_add, device_clean, device_list, device_probe, device_remove
    from edgekit.verbs.device_setup import device_setup
    from edgekit.verbs.device_setup_native import device_setup_native
    from edgekit.verbs.distill import distill
    from edgekit.verbs.doctor import doctor
    from edgekit.verbs.evaluate import evaluate
    from edgekit.verbs.inspect import inspect
    from edgekit.verbs.lint import lint
    from edgekit.verbs.qat import qat
    from edgekit.verbs.quantize import quantize
    from edgekit.verbs.rollback import rollback
    from edgekit.verbs.schema import schema
    from edgekit.verbs.status import status
    from edgekit.verbs.targets import target_list, target_show, target_validate
    from edgekit.verbs.toolchain import toolchain_doctor, toolchain_install, toolchain_list, toolchain_remove
    from edgekit.workflows.auto import auto_quantize
    from edgekit.workflows.baseline import create_baseline, promote
    from edgekit.workflows.before_after import before_and_after
    from edgekit.workflows.check import check
    from edgekit.workflows.compare import compare
    from edgekit.workflows.prune import prune
    from edgekit.workflows.report import report
    from edgekit.workflows.run import run
    from edgekit.workflows.search import search
    from edgekit.workflows.sensitivity import sensitivity


def __getattr__(name: str) -> Any:
    # Importing numpy alone would cost half of what `edgekit --help` may take.
    if name not in _HOME:
        raise AttributeError(f"module 'edgekit' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
