"""Commands found by name, options before and after it, and an exit code for every kind of failure."""

import json
import re

import pytest

from edgekit.cli._group import run


def test_without_arguments_help_is_shown(edgekit):
    done = edgekit()
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: edgekit [OPTIONS]")
    assert "explain" in done.stdout


def test_without_command_but_json_it_is_a_usage_error(edgekit):
    done = edgekit("--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "EK902"


def test_a_command_of_another_package_is_found_by_its_entry_point(edgekit):
    commands = edgekit("--help").stdout
    assert re.search(r"^  awkward +Misbehave in the way that ACT names\.$", commands, re.MULTILINE)


def test_the_nearest_command_is_named(edgekit):
    done = edgekit("explian", "EK601")
    assert done.returncode == 2
    assert done.stderr == (
        "error EK902: No such command 'explian'. Did you mean 'explain'?\n  hint: See `edgekit --help`.\n"
    )


def test_the_nearest_option_is_named(edgekit):
    done = edgekit("awkward", "long", "--wher", "x")
    assert done.returncode == 2
    assert "No such option" in done.stderr
    assert "--where" in done.stderr
    assert "hint: See `edgekit awkward --help`." in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--json", "explain", "EK601"),
        ("explain", "--json", "EK601"),
        ("explain", "EK601", "--json"),
        ("--json", "--no-color", "-q", "explain", "--json", "EK601"),
    ],
)
def test_shared_options_stand_before_or_after_the_command(capsys, arguments):
    assert run(arguments) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["command"] == "explain"
    assert document["result"]["title"] == "The output is a folder"


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (("--json", "nonsense"), "nonsense"),
        (("explain", "--json"), "explain"),
        (("explain", "EK601", "--jsn", "--json"), "explain"),
        (("explain", "EK999", "--json"), "explain"),
        (("--nonsense", "--json"), ""),
    ],
)
def test_usage_errors_are_json_documents_too(capsys, arguments, command):
    assert run(arguments) == 2
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert document["status"] == "error"
    assert document["command"] == command
    assert document["error"]["message"]
    assert document["error"]["hint"]
    assert shown.err == ""


@pytest.mark.parametrize(
    ("act", "exit_code", "code", "message"),
    [
        ("defect", 10, "EK910", "ValueError"),
        ("end_of_file", 10, "EK910", "EOFError"),
        ("leave", 10, "EK910", "SystemExit"),
        ("closed_pipe", 10, "EK910", "BrokenPipeError"),
        ("group", 10, "EK910", "the first"),
        ("memory", 10, "EK911", "memory"),
        ("missing", 3, "EK609", "a_package_that_nobody_has"),
        ("full", 2, "EK604", "disk is full"),
    ],
)
def test_every_failure_is_one_sentence_with_a_hint_and_a_code(edgekit, act, exit_code, code, message):
    done = edgekit("awkward", act)
    assert done.returncode == exit_code
    assert done.stdout == ""
    sentence, hint = done.stderr.splitlines()
    assert sentence.startswith(f"error {code}: ")
    assert message in sentence
    assert hint.startswith("  hint: ")


def test_verbose_adds_the_traceback(edgekit):
    done = edgekit("-v", "awkward", "defect")
    assert done.returncode == 10
    assert "Traceback (most recent call last)" in done.stderr
    assert "seven is not eight" in done.stderr


def test_verbose_shows_where_an_error_of_edgekits_own_came_from(edgekit):
    done = edgekit("-v", "explain", "EK000")
    assert done.returncode == 2
    assert "There is no code named 'EK000'" in done.stderr
    assert 'findings.py", line' in done.stderr
    assert 'findings.py", line' not in edgekit("explain", "EK000").stderr


def test_verbose_adds_the_traceback_beside_the_json_document(edgekit):
    done = edgekit("-v", "awkward", "defect", "--json")
    assert json.loads(done.stdout)["error"]["code"] == "EK910"
    assert "Traceback (most recent call last)" in done.stderr


def test_explain_takes_codes_in_any_case(capsys):
    assert run(["explain", "ek602"]) == 0
    assert "edgekit never replaces a file unless told to." in capsys.readouterr().out
