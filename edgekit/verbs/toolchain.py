"""The isolated environments of compilers and converters: listed, installed, tried and removed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.errors import DependencyError
from edgekit.findings import Finding
from edgekit.toolchain import Progress, Toolchain, names


@dataclass(frozen=True)
class ToolchainHealth:
    """What a toolchain's health test said, and whether it was what is expected."""

    toolchain: Toolchain
    ok: bool
    said: str

    def describe(self) -> dict[str, Any]:
        """The answer as it stands in JSON documents."""
        return {"name": self.toolchain.name, "ok": self.ok, "said": self.said}


def toolchain_list() -> tuple[Toolchain, ...]:
    """Every toolchain that edgekit knows; each says whether it is installed."""
    return tuple(Toolchain.load(name) for name in names())


def toolchain_install(
    name: str, *, pip_options: Sequence[str] = (), progress: Progress | None = None
) -> Toolchain:
    """Make a toolchain's environment from its pinned requirements, and try it.

    Args:
        name: ``"vela"``.
        pip_options: More options for pip, ``["--find-links=wheels/"]``.
        progress: Told what is being done.

    Raises:
        UsageError: There is no such toolchain.
        DependencyError: It cannot be installed, or does not work.
        OutputError: The cache cannot be written.
    """
    toolchain = Toolchain.load(name)
    toolchain.install(progress, options=pip_options)
    return toolchain


def toolchain_remove(name: str) -> bool:
    """Remove a toolchain's environment; gives whether there was one.

    Raises:
        UsageError: There is no such toolchain.
    """
    return Toolchain.load(name).remove()


def toolchain_doctor() -> tuple[tuple[ToolchainHealth, ...], tuple[Finding, ...]]:
    """Try every toolchain that is installed; gives what each said, and findings of those that do not work."""
    tried, findings = [], []
    for toolchain in toolchain_list():
        if not toolchain.is_installed:
            continue
        try:
            tried.append(ToolchainHealth(toolchain, True, toolchain.check()))
        except DependencyError as error:
            tried.append(ToolchainHealth(toolchain, False, error.detail))
            findings.append(Finding(error.code, error.message, error.hint))
    return tuple(tried), tuple(findings)
