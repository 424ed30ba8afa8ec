"""Runs a toolchain on a model with a bound on its time."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from edgekit.artifact import Artifact
from edgekit.errors import ModelError
from edgekit.toolchain import Toolchain

TIMEOUT_S = 1800.0
_LOG = 8000


def run(
    toolchain: Toolchain, command: Sequence[str], artifact: Artifact, folder: Path
) -> "subprocess.CompletedProcess[str]":
    """Run one of the toolchain's programs in ``folder``.

    Raises:
        ModelError: It does not come to an end with this model.
        DependencyError: The toolchain is not installed.
    """
    try:
        return toolchain.run(command, timeout_s=TIMEOUT_S, folder=folder)
    except subprocess.TimeoutExpired as error:
        message = f"{toolchain.name} did not finish with {artifact.path} within {TIMEOUT_S:.0f} seconds."
        raise ModelError("EK391", message, "Compile a smaller model.") from error


def log_of(done: "subprocess.CompletedProcess[str]") -> str:
    """The end of what it printed."""
    return (done.stdout + done.stderr)[-_LOG:]
