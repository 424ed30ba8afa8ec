"""The gate in pytest: ``assert_no_regression``, the fixture ``edgekit_check``, and a summary of what was checked.

pytest loads this file whenever it starts, so nothing heavy is imported before a model is checked.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

import edgekit
from edgekit.errors import EdgekitError

if TYPE_CHECKING:
    from edgekit.workflows.check import Check

Inconclusive = Literal["fail", "skip", "pass"]

_PROPERTY = "edgekit"
# What the test that runs now has checked; its report takes it along, from pytest-xdist's workers too.
_checked: list[str] = []


def assert_no_regression(
    model: str | Path,
    baseline: str | Path,
    data: str | Path | None = None,
    *,
    max_drop: float | None = None,
    budget: str | Path | None = None,
    limits: Mapping[str, float] | None = None,
    alpha: float | None = None,
    inconclusive: Inconclusive = "fail",
    **options: Any,
) -> "Check":
    """Assert that a model is as good as its baseline: ``edgekit check`` as a test.

    Args:
        model: The candidate.
        baseline: What ``edgekit baseline create`` wrote.
        data: The samples; where the baseline found them when None.
        max_drop: The largest drop that passes, in the metric's unit: 0.01 is one point. That of the budget when
            None, else 0.01 for accuracy.
        budget: A TOML file of limits.
        limits: More limits by name: ``{"size_bytes": 300_000}``.
        alpha: The error rate of each verdict; 0.05 when None.
        inconclusive: What becomes of the test where the samples do not tell: ``"fail"``, ``"skip"`` or ``"pass"``.
        options: More options of ``edgekit.check``: ``samples``, ``workers``, ``sequential`` and so on.

    Returns:
        The check, with its gates and numbers.

    Raises:
        AssertionError: A gate failed; the message says which, and by how much.
        ValueError: ``inconclusive`` is none of the three.
        pytest.fail.Exception: The model, the data or the baseline cannot be used, or the verdict is inconclusive.
    """
    __tracebackhide__ = True
    if inconclusive not in {"fail", "skip", "pass"}:
        raise ValueError(f"inconclusive is {inconclusive!r}; it must be 'fail', 'skip' or 'pass'")
    given = {"max_drop": max_drop, "alpha": alpha}
    asked = dict(limits or {}) | {name: value for name, value in given.items() if value is not None}
    try:
        found: Check = edgekit.check(model, baseline, data=data, budget=budget, limits=asked, **options)
    except EdgekitError as error:
        # The sentence says it all; edgekit's insides below it would only hide it.
        pytest.fail(f"{error.code}: {error.message}\nhint: {error.hint}", pytrace=False)
    verdict, name = str(found.verdict), Path(model).name
    _checked.extend(f"{name} {gate.name}: {gate.verdict}. {gate.reason}" for gate in found.gates)
    if verdict == "fail":
        raise AssertionError(f"{name}: {found.sentence()}")
    if verdict == "inconclusive" and inconclusive == "fail":
        pytest.fail(f"{name}: {found.sentence()}", pytrace=False)
    if verdict == "inconclusive" and inconclusive == "skip":
        pytest.skip(f"{name}: {found.sentence()}")
    return found


@pytest.fixture
def edgekit_check() -> "Callable[..., Check]":
    """``assert_no_regression`` for tests: ``edgekit_check("model.tflite", "baseline.json", max_drop=0.01)``."""
    return assert_no_regression


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> None:
    """Put what was checked into the report of the test, and so into pytest's JUnit file."""
    item.user_properties.extend((_PROPERTY, line) for line in _checked)
    _checked.clear()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List every gate that was checked, in the order of the tests."""
    lines: dict[str, list[str]] = {}
    for report in (report for group in terminalreporter.stats.values() for report in group):
        if isinstance(report, pytest.TestReport):
            own = [str(line) for name, line in report.user_properties if name == _PROPERTY]
            # Every phase of a test has a report, and the last one has what all checked.
            lines[report.nodeid] = max(own, lines.get(report.nodeid, []), key=len)
    if any(lines.values()):
        terminalreporter.section("edgekit")
        for line in (line for checked in lines.values() for line in checked):
            terminalreporter.write_line(line)
