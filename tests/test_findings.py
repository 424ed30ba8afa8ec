"""Every code that edgekit's sources use is explained, once, and none is explained that nobody uses."""

import ast
import functools
import re
from pathlib import Path

import pytest

import edgekit
from edgekit.errors import UsageError
from edgekit.findings import CATALOG, Finding, Level, explain, worst

_PACKAGE = Path(edgekit.__file__).parent
_CODE = re.compile(r"EK\d{3}")


def _strings(file: Path) -> list[str]:
    """The string literals of a file that are no docstrings."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    ]


@functools.cache
def _used() -> dict[str, set[str]]:
    """Codes that stand in literals, with the files that use them."""
    used: dict[str, set[str]] = {}
    for file in _PACKAGE.rglob("*.py"):
        for code in _CODE.findall("\n".join(_strings(file))):
            used.setdefault(code, set()).add(file.name)
    return used


def test_every_code_in_use_is_in_the_catalogue():
    missing = {code: files for code, files in _used().items() if code not in CATALOG}
    assert not missing


def test_every_code_of_the_catalogue_is_in_use():
    assert sorted(set(CATALOG) - set(_used())) == []


def test_the_catalogue_is_in_the_order_of_its_codes():
    assert list(CATALOG) == sorted(CATALOG)


@pytest.mark.parametrize("code", sorted(CATALOG))
def test_an_entry_says_what_it_means_and_what_to_do(code):
    entry = CATALOG[code]
    assert entry.title
    assert not entry.title.endswith(".")
    assert entry.meaning.endswith(".")
    # Advice may end in a command, after which a full stop would be copied along.
    assert entry.advice.endswith(".") or "edgekit" in entry.advice.rsplit(": ", 1)[-1]


def test_a_finding_with_an_unknown_code_is_refused():
    with pytest.raises(ValueError, match="EK000"):
        Finding("EK000", "What is this?")


def test_a_finding_describes_itself():
    assert Finding("EK604", "Full.", "Empty it.", Level.ERROR).describe() == {
        "code": "EK604",
        "level": "error",
        "message": "Full.",
        "hint": "Empty it.",
    }


def test_explain_ignores_case_and_names_the_nearest_code():
    assert explain("ek601") is CATALOG["EK601"]
    with pytest.raises(UsageError) as caught:
        explain("EK6011")
    assert "Did you mean EK601?" in caught.value.hint


def test_the_worst_level():
    note, warning = Finding("EK604", "A.", level=Level.NOTE), Finding("EK604", "B.")
    assert worst([note, warning, note]) is Level.WARNING
    assert worst([note]) is Level.NOTE
    assert worst([]) is None
