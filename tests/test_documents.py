"""The documents say what is true: commands run as printed, the file map is complete, links lead somewhere.

``python tests/test_documents.py`` writes the file map of CONTRIBUTING.md anew.
"""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit import errors
from edgekit.budget import Budget
from edgekit.catalog import names
from edgekit.recipe import PRECISIONS

_ROOT = Path(__file__).parent.parent
_README = _ROOT / "README.md"
_CONTRIBUTING = _ROOT / "CONTRIBUTING.md"
_DOCUMENTS = [_README, _CONTRIBUTING, _ROOT / "CHANGELOG.md"]
_MAP = re.compile(r"(?<=### The code, file by file\n\n).*?(?=\n\n## )", re.DOTALL)


def file_map() -> str:
    """One line per file: its name, and the first sentence of its docstring."""
    lines = ["| file | what |", "|---|---|"]
    for file in sorted((_ROOT / "edgekit").rglob("*.py")):
        if not file.read_text(encoding="utf-8").strip():
            continue
        docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        sentence = re.split(r"(?<=\.)\s", " ".join(docstring.split("\n\n")[0].split()))[0]
        lines.append(f"| `{file.relative_to(_ROOT / 'edgekit')}` | {_cell(sentence)} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("``", "`").replace("|", "\\|")


def _blocks(document: Path) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def _table(document: Path, header: str) -> list[list[str]]:
    """The rows of the table whose first row begins with ``header``."""
    found = re.search(
        rf"^\| {re.escape(header)} .*\n\|[-|]+\n((?:\|.*\n)+)",
        document.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert found, header
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in found[1].splitlines()]


def test_the_file_map_is_complete():
    found = _MAP.search(_CONTRIBUTING.read_text(encoding="utf-8"))
    assert found
    assert found[0] == file_map(), "run: python tests/test_documents.py"


def test_the_first_screen_has_the_two_commands():
    first_screen = "\n".join(_README.read_text(encoding="utf-8").splitlines()[:25])
    assert re.search(r"^python3 -m venv \.venv && .* && \.venv/bin/edgekit demo$", first_screen, re.MULTILINE)
    assert re.search(r"^python3 -m venv \.venv && .* && \.venv/bin/pytest -n 3$", first_screen, re.MULTILINE)


def test_the_table_of_commands_is_that_of_the_commands():
    documented = {row[0].split()[1].strip("`") for row in _table(_README, "command")}
    assert documented == set(names("cli"))


def test_the_table_of_exit_codes_holds_those_of_every_error():
    documented = {int(row[0]) for row in _table(_README, "exit code")}
    raised = {
        value.exit_code
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.EdgekitError)
    }
    assert documented == raised | {0, 1, 130}


def test_the_recipes_named_exist():
    named = set(re.findall(r"`((?:static|dynamic|weight_only)_w\w+)`", _README.read_text(encoding="utf-8")))
    assert named
    assert named <= set(PRECISIONS)


@pytest.mark.parametrize("document", _DOCUMENTS, ids=lambda file: file.name)
def test_links_and_files_named_exist(document):
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (_ROOT / target).exists(), target
    for folder in re.findall(r"`((?:examples|calibration|targets|tests|cli|verbs)/[\w./-]*)`", text):
        assert (_ROOT / folder).exists() or (_ROOT / "edgekit" / folder).exists(), folder


def test_the_budget_of_the_readme_is_one(tmp_path):
    blocks = re.findall(r"^```toml\n(.*?)^```", _README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    (tmp_path / "budget.toml").write_text(next(block for block in blocks if "max_drop" in block))
    assert len(Budget.read(tmp_path / "budget.toml").limits) == 8


@pytest.mark.slow
def test_the_commands_of_the_readme_run(tmp_path):
    for file in (_ROOT / "examples" / "digits").iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path)
    lines = [line for block in _blocks(_README) for line in block.splitlines() if line.startswith("edgekit ")]
    # Those that need a device run on an emulated one, in tests/examples/test_raspberry_pi.py.
    lines = [line for line in lines if not re.search(r"--device|^edgekit device ", line)]
    assert len(lines) >= 4
    for line in lines:
        done = subprocess.run(
            [sys.executable, "-m", *shlex.split(line)],
            cwd=tmp_path,
            env=os.environ | {"NO_COLOR": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (line, done.stderr)


if __name__ == "__main__":
    page = _CONTRIBUTING.read_text(encoding="utf-8")
    _CONTRIBUTING.write_text(_MAP.sub(lambda _: file_map(), page), encoding="utf-8")
