"""The examples for CI: they have the form that GitHub and GitLab ask for, and their commands run as they stand.

What GitHub's runner does is done here as far as the scripts can tell: inputs become environment variables, scripts
run in its bash, and `gh` is a script that writes down how it was called.
"""

import importlib.resources
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml
from lxml import etree

from edgekit.budget import Budget

_CI = Path(__file__).parents[2] / "examples" / "ci"
_DIGITS = _CI.parent / "digits"
_FORMS = {
    "action/action.yml": "github-actions",
    "workflow.yml": "github-workflows",
    "gitlab.yml": "gitlab-ci",
}
# What a runner runs scripts with where a step says `shell: bash`.
_BASH = ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c")
_GH = """#!/usr/bin/env bash
printf '%s\\n' "$*" >> "$GH_CALLS"
case "$*" in *--paginate*) printf '%s' "$GH_FOUND" ;; esac
"""


def read(name):
    return yaml.safe_load((_CI / name).read_text(encoding="utf-8"))


def blocks(language):
    text = (_CI / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def steps_of_the_action():
    """By id or name, the steps that run scripts."""
    steps = read("action/action.yml")["runs"]["steps"]
    return {step.get("id") or step["name"]: step for step in steps if "run" in step}


@pytest.mark.parametrize("name", _FORMS)
def test_each_file_has_the_form_that_its_reader_asks_for(name):
    schemas = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    schema = json.loads((schemas / f"{_FORMS[name]}.json").read_text(encoding="utf-8"))
    document = read(name)
    # YAML 1.1 takes the key `on` for a truth value.
    document = {("on" if key is True else key): value for key, value in document.items()}
    jsonschema.validators.validator_for(schema)(schema).validate(document)


def test_no_script_contains_what_others_wrote():
    steps = [*steps_of_the_action().values(), *read("workflow.yml")["jobs"]["check"]["steps"]]
    assert not any("${{" in step.get("run", "") for step in steps)


def test_the_workflow_uses_inputs_and_outputs_that_exist():
    action = read("action/action.yml")
    (step,) = [step for step in read("workflow.yml")["jobs"]["check"]["steps"] if step.get("id") == "edgekit"]
    assert set(step["with"]) <= set(action["inputs"])
    required = {name for name, item in action["inputs"].items() if item.get("required")}
    assert required <= set(step["with"])
    used = re.findall(r"inputs\.([\w-]+)", (_CI / "action" / "action.yml").read_text(encoding="utf-8"))
    assert set(used) == set(action["inputs"])


def test_the_budget_knows_every_limit():
    text = (_CI / "budget.toml").read_text(encoding="utf-8")
    # With the comment signs in front of limits taken away.
    everything = tomllib.loads(re.sub(r"^# (?=\w+ = )", "", text, flags=re.MULTILINE))
    budget = Budget(**everything)
    assert None not in vars(budget).values()
    assert set(Budget.read(_CI / "budget.toml").limits) == {"max_drop", "size_bytes", "gzip_bytes"}


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """The digits' files with a baseline and a quantized model, both made by the commands of the examples."""
    folder = tmp_path_factory.mktemp("repository")
    for name in ("model.keras", "calibration.npz", "test.npz"):
        shutil.copy(_DIGITS / name, folder)
    shutil.copy(_CI / "budget.toml", folder)
    tools = folder / "tools"
    tools.mkdir()
    (tools / "edgekit").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m edgekit "$@"\n')
    (tools / "gh").write_text(_GH)
    for tool in tools.iterdir():
        tool.chmod(0o755)
    first, *_ = blocks("sh")
    assert bash(folder, first).returncode == 0
    (quantize,) = [
        s["run"] for s in read("workflow.yml")["jobs"]["check"]["steps"] if s.get("name") == "Quantize"
    ]
    assert bash(folder, quantize).returncode == 0
    return folder


def bash(folder, script, **environment):
    own = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
    path = f"{folder / 'tools'}{os.pathsep}{own['PATH']}"
    return subprocess.run(
        [*_BASH, script],
        cwd=folder,
        env=own | {"PATH": path} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def run_action(folder, workplace, **inputs):
    """The action's install and check steps, as the example workflow uses it; returns the last step and its outputs."""
    action = read("action/action.yml")
    (step,) = [step for step in read("workflow.yml")["jobs"]["check"]["steps"] if step.get("id") == "edgekit"]
    defaults = {name: item.get("default", "") for name, item in action["inputs"].items()}
    given = defaults | step["with"] | inputs
    files = {name: str(workplace / name) for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT")}
    done = None
    for name in ("Install edgekit", "check"):
        found = steps_of_the_action()[name]
        values = {
            key: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda match: given[match[1]], text)
            for key, text in found["env"].items()
        }
        done = bash(folder, found["run"], **values, **files)
        if name != "check":
            assert done.returncode == 0, done.stderr
    return done, (workplace / "GITHUB_OUTPUT").read_text()


@pytest.mark.slow
def test_the_action_passes_the_quantized_model(repository, tmp_path):
    done, outputs = run_action(repository, tmp_path, reports=str(tmp_path / "reports"))
    assert done.returncode == 0, done.stderr
    assert "\npass\n" in outputs
    reports = tmp_path / "reports"
    assert {path.name for path in reports.iterdir()} == {
        "edgekit.json",
        "edgekit.xml",
        "edgekit.sarif",
        "edgekit.md",
    }
    document = json.loads((reports / "edgekit.json").read_text(encoding="utf-8"))
    assert [gate["name"] for gate in document["result"]["gates"]] == ["accuracy", "size_bytes", "gzip_bytes"]
    assert (reports / "edgekit.md").read_text() in (tmp_path / "GITHUB_STEP_SUMMARY").read_text()
    # Nothing but annotations reaches the log, where the runner looks for commands.
    assert done.stdout == ""
    assert all(line.startswith("::") for line in done.stderr.splitlines())


@pytest.mark.slow
def test_the_action_fails_with_the_exit_code_of_the_check(repository, tmp_path):
    (tmp_path / "small.toml").write_text("size_bytes = 1000")
    reports = str(tmp_path / "reports")
    done, outputs = run_action(repository, tmp_path, budget=str(tmp_path / "small.toml"), reports=reports)
    assert done.returncode == 1
    assert "::error title=edgekit size%3A fail::" in done.stderr
    assert "\nfail\n" in outputs
    assert etree.parse(tmp_path / "reports" / "edgekit.xml").find(".//failure").get("type") == "fail"


@pytest.mark.slow
def test_the_actions_inputs_reach_the_check(repository, tmp_path):
    reports = str(tmp_path / "reports")
    inputs = {"max-drop": "0.0001", "budget": "", "data": "", "reports": reports}
    assert run_action(repository, tmp_path, **inputs)[0].returncode == 6
    assert run_action(repository, tmp_path, **inputs, inconclusive="warn")[0].returncode == 0
    odd = {"model": '"; touch gone; $(touch gone) `touch gone`'}
    assert run_action(repository, tmp_path, **inputs, **odd)[0].returncode == 7
    assert not (repository / "gone").exists()


@pytest.mark.slow
def test_the_comment_is_written_once_and_then_replaced(repository, tmp_path):
    script = steps_of_the_action()["Comment on the pull request"]["run"]
    common = {
        "NUMBER": "7",
        "REPORTS": "reports",
        "GITHUB_REPOSITORY": "o/r",
        "GH_CALLS": str(tmp_path / "calls"),
    }
    assert bash(repository, script, **common, GH_FOUND="").returncode == 0
    assert bash(repository, script, **common, GH_FOUND="11\n12\n").returncode == 0
    calls = [line for line in (tmp_path / "calls").read_text().splitlines() if "--method" in line]
    assert calls == [
        "api --method POST repos/o/r/issues/7/comments -F body=@reports/edgekit.md --silent",
        "api --method PATCH repos/o/r/issues/comments/12 -F body=@reports/edgekit.md --silent",
    ]


@pytest.mark.slow
def test_the_commands_for_gitlab_and_of_the_readme_run(repository, tmp_path):
    own = tmp_path / "copy"
    shutil.copytree(repository, own)
    for path in own.glob("int8.tflite*"):
        path.unlink()
    install, *script = read("gitlab.yml")["model"]["script"]
    assert "pip install" in install
    done = bash(own, "\n".join(script))
    assert done.returncode == 0, done.stderr
    assert etree.parse(own / "edgekit.xml").getroot().get("failures") == "0"
    assert (own / "edgekit.md").read_text().startswith("<!-- edgekit -->")
    for name in ("int8.tflite", "int8.tflite.json", "edgekit.xml", "edgekit.md", "baseline.json"):
        (own / name).unlink()
    done = bash(own, "\n".join(blocks("sh")))
    assert done.returncode == 0, done.stderr
    assert (own / "edgekit.sarif").is_file()
    (own / "test_model.py").write_text("".join(blocks("python")))
    done = bash(own, f'"{sys.executable}" -m pytest test_model.py', PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert "1 passed" in done.stdout, done.stdout
