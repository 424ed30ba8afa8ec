"""What holds for every command: help with an example, a place in the documents, and a light import."""

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

import edgekit
from edgekit.catalog import load, names

_ROOT = Path(edgekit.__file__).parent.parent
_HEAVY = (
    "tensorflow", "keras", "onnx", "onnxruntime", "ai_edge_quantizer", "ai_edge_litert", "scipy", "numpy",
    "rich", "torch", "PIL", "jinja2", "h5py",
)  # fmt: skip
_PROBE = f"""
import sys
from edgekit.__main__ import main
try:
    main()
except SystemExit as stop:
    assert stop.code == 0, stop.code
print("heavy:", *sorted(set({_HEAVY!r}) & set(sys.modules)))
"""

every_command = pytest.mark.parametrize("name", names("cli"))


def _help(name: str) -> str:
    command = load("cli", name).command
    return command.get_help(click.Context(command, info_name=f"edgekit {name}"))


@every_command
def test_it_has_one_sentence_of_help(name):
    command = load("cli", name).command
    assert command.help
    assert command.help.split("\n\n", maxsplit=1)[0].strip().endswith(".")
    # The list of commands shows it whole in a terminal of 80 columns.
    assert not command.get_short_help_str(63).endswith("...")


@every_command
def test_every_option_says_what_it_does(name):
    silent = [p.name for p in load("cli", name).command.params if isinstance(p, click.Option) and not p.help]
    assert silent == []


@every_command
def test_its_help_ends_with_an_example(name):
    last = [line.strip() for line in _help(name).splitlines() if line.strip()][-1]
    assert re.match(rf"(Example: )?edgekit {name}\b", last), last


@every_command
def test_its_module_is_named_by_its_docstring(name):
    assert f"edgekit {name}" in (load("cli", name).__doc__ or "")


@every_command
def test_it_is_documented(name):
    pages = [_ROOT / "README.md", *(_ROOT / "docs").glob("*.md")]
    if not pages[0].is_file():
        pytest.skip("needs a checkout")
    assert any(f"edgekit {name}" in page.read_text(encoding="utf-8") for page in pages)


@pytest.mark.parametrize(
    "arguments", [["--help"], *([name, "--help"] for name in names("cli"))], ids=" ".join
)
def test_help_imports_nothing_heavy(arguments):
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: edgekit")
    assert done.stdout.splitlines()[-1] == "heavy:"


def test_shell_completion_knows_the_commands():
    environment = {"_EDGEKIT_COMPLETE": "bash_complete", "COMP_WORDS": "edgekit expl", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "edgekit"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == ["plain,explain"]
