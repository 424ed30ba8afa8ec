"""Values of a TOML file against annotations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from edgekit.option_types import fits, in_words, made


@dataclass(frozen=True)
class Teacher:
    model: str | Path
    temperature: float = 4.0


@pytest.mark.parametrize(
    ("value", "wanted", "expected"),
    [
        (3, int, True), (3.0, int, False), (True, int, False), (3, float, True), (True, float, False),
        (True, bool, True), (1, bool, False), ("a", str, True), (1, str, False), ("a", Path, True),
        (8, Literal[4, 8], True), (5, Literal[4, 8], False), (True, Literal[1], False), ("x", Literal["x"], True),
        (None, int | None, True), ("3", int | None, False), ("m", str | Path | None, True),
        (["a"], Sequence[str], True), ("a", Sequence[str], False), ([1], Sequence[str], False),
        ([1, 2], tuple[int, ...], True), ([["a", "b"]], Sequence[tuple[str, str]], True),
        ({"a": 1}, Mapping[str, Any], True), ([], Mapping[str, Any], False), (object(), Any, True),
        ({"model": "m", "temperature": 2}, str | Teacher, True), ({"temperature": 2}, str | Teacher, False),
        ({"model": "m", "heat": 2}, Teacher, False),
    ],
)  # fmt: skip
def test_fits(value, wanted, expected):
    assert fits(value, wanted) is expected


def test_in_words():
    assert in_words(Literal[4, 8]) == "4 or 8"
    assert in_words(int | None) == "a whole number"
    assert in_words(str | Path | None) == "a text or a path"
    assert in_words(Sequence[str]) == "a list"
    assert in_words(Mapping[str, Any]) == "a table"


def test_tables_become_what_the_argument_takes():
    assert made({"model": "m", "temperature": 2}, str | Path | Teacher) == Teacher("m", 2)
    assert made({"a": 1}, Mapping[str, Any]) == {"a": 1}
    assert made("m", str | Teacher) == "m"
