"""The tree drawn in errors.py is the tree of its classes."""

import re

import pytest

from edgekit import errors


def _classes(root: type) -> list[type]:
    return [root] + [inner for child in root.__subclasses__() for inner in _classes(child)]


def _drawn() -> dict[str, tuple[str, int]]:
    """Each class that the docstring draws, with its parent's name and its exit code."""
    drawn: dict[str, tuple[str, int]] = {}
    above = ["EdgekitError"]
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"([│ ]*)[├└]── (\w+) +exit (\d+)", line)
        if found:
            depth = len(found[1]) // 4 + 1
            drawn[found[2]] = (above[depth - 1], int(found[3]))
            above[depth:] = [found[2]]
    return drawn


def test_the_drawn_tree_matches_the_classes():
    real = {
        child.__name__: (child.__base__.__name__, child.exit_code)
        for child in _classes(errors.EdgekitError)
        if child is not errors.EdgekitError and child.__module__ == "edgekit.errors"
    }
    assert real == _drawn()
    assert len(real) == 10


@pytest.mark.parametrize(
    ("name", "exit_code"),
    [
        ("UsageError", 2),
        ("OutputError", 2),
        ("DependencyError", 3),
        ("TargetError", 4),
        ("DeviceError", 5),
        ("InconclusiveError", 6),
        ("InputError", 7),
        ("ModelError", 7),
        ("DataError", 7),
        ("InternalError", 10),
    ],
)
def test_exit_codes(name, exit_code):
    assert getattr(errors, name).exit_code == exit_code


def test_an_error_carries_code_sentence_hint_and_detail():
    error = errors.ModelError("EK101", "It is broken.", "Mend it.", detail="raw text")
    assert (error.code, error.message, error.hint, error.detail) == (
        "EK101",
        "It is broken.",
        "Mend it.",
        "raw text",
    )
    assert str(error) == "It is broken."
