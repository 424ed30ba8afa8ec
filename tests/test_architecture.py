"""Imports point down, heavy packages are imported late, and files and functions stay small."""

import ast
import functools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import edgekit

_PACKAGE = Path(edgekit.__file__).parent
_ROOT = _PACKAGE.parent
_SOURCES = sorted(_PACKAGE.rglob("*.py"))
_MODULE_LINES = 400
# The one file that is sent to devices, which can import nothing.
_LONG = {"worker.py"}
_BODY_LINES = 60
_POSITIONAL = 5


def _name(file: Path) -> str:
    return str(file.relative_to(_PACKAGE))


def _body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function's body without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


@functools.cache
def _nodes(file: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))


def _functions(file: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in _nodes(file) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


@pytest.mark.skipif(not (_ROOT / "pyproject.toml").is_file(), reason="needs a checkout")
def test_imports_point_down():
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("file", _SOURCES, ids=_name)
def test_files_and_functions_stay_small(file):
    assert file.name in _LONG or len(file.read_text(encoding="utf-8").splitlines()) <= _MODULE_LINES
    sizes = {function.name: _body_lines(function) for function in _functions(file)}
    assert {name: size for name, size in sizes.items() if size > _BODY_LINES} == {}


@pytest.mark.parametrize("file", _SOURCES, ids=_name)
def test_few_positional_parameters_and_full_annotations(file):
    for function in _functions(file):
        positional = [
            a for a in [*function.args.posonlyargs, *function.args.args] if a.arg not in {"self", "cls"}
        ]
        # Click passes every option of a command by name.
        is_command = function.name == "command"
        assert is_command or len(positional) <= _POSITIONAL, function.name
        assert function.returns is not None, function.name


def test_no_file_is_a_drawer_for_everything():
    banned = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}
    assert [_name(file) for file in _SOURCES if file.stem.lower() in banned] == []


def test_every_package_that_is_imported_is_required():
    """By the core, by an extra or by a toolchain: what comes along with another package may be gone tomorrow."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = [
        *project["dependencies"],
        *(line for lines in project["optional-dependencies"].values() for line in lines),
        *(
            line
            for file in _PACKAGE.glob("toolchains/*.txt")
            for line in re.findall(".+==.+", file.read_text())
        ),
    ]
    modules = {re.split(r"[^\w.-]", line)[0].replace("-", "_") for line in required}
    modules = {
        {"pillow": "PIL", "rknn_toolkit2": "rknn", "scikit_learn": "sklearn"}.get(name, name)
        for name in modules
    }
    imported = {}
    for file in _SOURCES:
        for node in _nodes(file):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            imported |= {name.split(".")[0]: _name(file) for name in names}
    foreign = set(imported) - set(sys.stdlib_module_names) - {"edgekit"}
    assert {name: imported[name] for name in foreign - modules} == {}


def test_no_verb_or_command_brings_tensorflow_into_its_own_process():
    code = """
import importlib, pkgutil, sys
import edgekit.cli, edgekit.verbs, edgekit.workflows
for package in (edgekit.cli, edgekit.verbs, edgekit.workflows):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
        heavy = {"tensorflow", "keras"} & sys.modules.keys()
        assert not heavy, (module.name, heavy)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
