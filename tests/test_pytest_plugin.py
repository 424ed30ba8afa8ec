"""The gate as a test: pytest in a process of its own, with edgekit's plugin and the real check."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from lxml import etree

import edgekit

_DIGITS = Path(__file__).parents[1] / "examples" / "digits"
_MODEL = _DIGITS / "model.tflite"


@pytest.fixture(scope="module")
def baseline(tmp_path_factory):
    path = tmp_path_factory.mktemp("baseline") / "baseline.json"
    edgekit.create_baseline(_MODEL, _DIGITS / "test.npz", path, latency=False, workers=1)
    return path


@pytest.fixture
def outcome(tmp_path, baseline):
    """Runs calls of ``assert_no_regression`` as a test each; returns pytest's exit code, output and JUnit file."""

    def run(*calls):
        lines = []
        for number, arguments in enumerate(calls):
            lines += [
                f"def test_model_{number}(edgekit_check):",
                f"    found = edgekit_check({str(_MODEL)!r}, {str(baseline)!r}, workers=1, {arguments})",
                "    assert found.exit_code in (0, 6)",
                "    assert found.gates",
            ]
        (tmp_path / "test_it.py").write_text("\n".join(lines))
        # Without the entry point, which would load the plugin a second time where it is installed.
        own = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "NO_COLOR": "1", "COLUMNS": "200"}
        words = [
            "pytest",
            "-p",
            "edgekit.pytest_plugin",
            "-W",
            "error",
            "-rA",
            "--junitxml=junit.xml",
            "test_it.py",
        ]
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=tmp_path,
            env=own,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr, etree.parse(tmp_path / "junit.xml")

    return run


def results(junit):
    """What became of each test: None where it passed, else failure or skipped."""
    ends = [case.xpath("failure | error | skipped") for case in junit.iter("testcase")]
    return [end[0].tag if end else None for end in ends]


def test_a_model_as_good_as_its_baseline_passes_and_is_in_the_summary(outcome):
    code, text, junit = outcome("max_drop=0.02")
    assert code == 0, text
    summary = text.partition("= edgekit =")[2].splitlines()
    assert summary[1].startswith("model.tflite accuracy: pass. ")
    assert junit.find(".//property[@name='edgekit']").get("value") == summary[1]


def test_a_failed_gate_fails_the_test_with_its_sentence_alone(outcome):
    code, text, junit = outcome("limits={'size_bytes': 1000}")
    assert code == 1
    message = junit.find(".//failure").get("message")
    assert (
        message == "AssertionError: model.tflite: fail. size_bytes: 80,128 bytes: above the limit of 1,000."
    )
    assert "pytest_plugin.py" not in text
    assert "model.tflite size_bytes: fail." in text.partition("= edgekit =")[2]


def test_the_limits_of_a_budget_count(outcome, tmp_path):
    (tmp_path / "budget.toml").write_text("gzip_bytes = 1000")
    assert "gzip_bytes: 72,578 bytes" in outcome("budget='budget.toml'")[1]


def test_an_inconclusive_verdict_ends_as_asked(outcome):
    few = "samples=20, max_drop=0.001, inconclusive="
    code, text, junit = outcome(f"{few}'fail'", f"{few}'skip'", f"{few}'pass'")
    assert code == 1, text
    assert results(junit) == ["failure", "skipped", None]
    assert text.partition("= edgekit =")[2].count("accuracy: inconclusive") == 3


def test_alpha_is_that_of_the_check(outcome):
    assert results(outcome("max_drop=0.0065, alpha=0.5", "max_drop=0.0065, alpha=0.001")[2]) == [
        None,
        "failure",
    ]


def test_what_cannot_be_used_fails_with_a_sentence_and_a_hint(outcome):
    code, text, junit = outcome("budget='gone.toml'", "inconclusive='maybe'")
    assert code == 1
    assert results(junit) == ["failure", "failure"]
    assert "EK475: gone.toml cannot be read as a budget" in text
    assert "hint: " in text
    assert "Traceback" not in text
    assert "check.py" not in text
    assert "ValueError: inconclusive is 'maybe'" in text


def test_a_run_without_checks_has_no_summary(tmp_path):
    (tmp_path / "test_it.py").write_text("def test_nothing():\n    pass\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "edgekit.pytest_plugin", "test_it.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "edgekit =" not in done.stdout


def test_loading_the_plugin_imports_nothing_heavy():
    script = (
        "import pytest, sys; before = set(sys.modules); import edgekit.pytest_plugin; "
        "print(sorted({'numpy', 'click', 'rich', 'scipy', 'onnx', 'tensorflow'} & (set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_pytest_finds_the_plugin_by_its_entry_point():
    import tomllib

    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["entry-points"]["pytest11"] == {"edgekit": "edgekit.pytest_plugin"}
