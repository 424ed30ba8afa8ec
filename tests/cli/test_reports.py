"""`edgekit check` with its reports, on the digits model of the examples."""

import functools
import json
import os
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import pytest
from lxml import etree

import edgekit
from edgekit.cli._group import run
from edgekit.reporters import render

_DIGITS = Path(__file__).parents[2] / "examples" / "digits"


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """One command line in an empty folder, outside of whatever CI these tests run in."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("GITHUB_")]:
        monkeypatch.delenv(name)

    def command(*arguments, **environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return Done(run(arguments), *capsys.readouterr())

    return command


@pytest.fixture(scope="module")
def baseline(tmp_path_factory):
    """A baseline of the float model."""
    path = tmp_path_factory.mktemp("baseline") / "baseline.json"
    edgekit.create_baseline(_DIGITS / "model.tflite", _DIGITS / "test.npz", path, latency=False, workers=1)
    return path


@pytest.fixture
def check(baseline, command):
    """Checks the model against itself."""
    own = ("check", str(_DIGITS / "model.tflite"), "--baseline", str(baseline), "--workers", "1")
    return functools.partial(command, *own)


def test_reports_say_what_the_document_says(check, tmp_path):
    done = check("--junit", "c.xml", "--sarif", "c.sarif", "--markdown", "c.md", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    jsonschema.validate(document, edgekit.schema("check"))
    for name, file in {"junit": "c.xml", "sarif": "c.sarif", "markdown": "c.md"}.items():
        assert (tmp_path / file).read_text(encoding="utf-8") == render(name, document)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.md", "c.sarif", "c.xml"]


def test_a_failed_gate_is_reported_and_ends_with_1(check, tmp_path):
    done = check("--limit", "size_bytes=1000", "--junit", "c.xml", "--github", "--json")
    assert done.returncode == 1
    assert etree.parse(tmp_path / "c.xml").find(".//failure").get("message").startswith("80,128 bytes")
    # Annotations go where they do not disturb the document.
    document = json.loads(done.stdout)
    assert done.stderr.startswith("::error title=edgekit size%3A fail::80,128 bytes")
    assert [finding["code"] for finding in document["findings"]][-1] == "EK460"


def test_github_reads_its_files(check, tmp_path):
    files = {name: str(tmp_path / name) for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT")}
    done = check("--github", **files)
    assert done.returncode == 0
    assert "EK460" not in done.stderr
    assert (tmp_path / "GITHUB_STEP_SUMMARY").read_text().startswith("<!-- edgekit -->\n## edgekit check: ")
    assert "\npass\n" in (tmp_path / "GITHUB_OUTPUT").read_text()


def test_an_inconclusive_verdict_is_reported_as_ci_is_told_to_see_it(check, tmp_path):
    few = ("--samples", "20", "--max-drop", "0.001")
    for treatment, code, element in ((None, 6, "error"), ("warn", 0, "skipped"), ("fail", 1, "failure")):
        file = tmp_path / f"{element}.xml"
        options = () if treatment is None else ("--inconclusive", treatment)
        assert check(*few, *options, "--junit", file.name).returncode == code
        assert etree.parse(file).find(".//testcase")[0].tag == element


def test_an_error_is_reported_too(command, tmp_path):
    done = command("check", "m.tflite", "--baseline", "gone.json", "--junit", "c.xml", "--github")
    assert done.returncode == 7
    assert etree.parse(tmp_path / "c.xml").find(".//error").get("type") == "EK470"
    assert done.stderr.splitlines()[0].startswith("::error title=edgekit EK470::gone.json does not exist.")


def test_a_runner_whose_files_cannot_be_written_hides_no_error(check, command, tmp_path):
    gone = {name: str(tmp_path / "gone" / name) for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT")}
    done = check("--github", "--json", **gone)
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "EK605"
    done = command("check", "m.tflite", "--baseline", "gone.json", "--github", "--json", **gone)
    assert done.returncode == 7
    assert json.loads(done.stdout)["error"]["code"] == "EK470"


def test_a_report_that_exists_is_refused_and_kept(check, tmp_path):
    (tmp_path / "c.xml").write_text("kept")
    done = check("--junit", "c.xml", "--sarif", "c.sarif")
    assert done.returncode == 2
    assert "EK602" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["c.xml"]
    assert (tmp_path / "c.xml").read_text() == "kept"
    assert check("--junit", "c.xml", "--overwrite").returncode == 0
    assert (tmp_path / "c.xml").read_text().startswith("<?xml")


def test_a_plan_has_nothing_to_report(check, tmp_path):
    done = check("--plan", "--junit", "c.xml")
    assert done.returncode == 2
    assert "nothing to report" in done.stderr
    assert list(tmp_path.iterdir()) == []
