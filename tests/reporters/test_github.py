"""GitHub Actions: files and lines read back as the runner reads them."""

import io

import pytest

from edgekit.errors import OutputError
from edgekit.reporters import Reports, github, markdown


def outputs(text):
    """The step's outputs, as the runner takes the file apart."""
    found, lines = {}, iter(text.splitlines())
    for line in lines:
        name, end = line.split("<<")
        value = []
        for part in lines:
            if part == end:
                break
            value.append(part)
        found[name] = "\n".join(value)
    return found


def annotations(text):
    """Kind, title and message of every line; a line that is no command fails."""
    found = []
    for line in text.splitlines():
        _, head, message = line.split("::", 2)
        kind, _, properties = head.partition(" ")
        found.append((kind, properties.removeprefix("title="), message))
    return found


@pytest.fixture
def runner(tmp_path):
    """The environment of a step, whose files may hold something already."""
    (tmp_path / "summary").write_text("# before\n")
    (tmp_path / "output").write_text("other<<x\n1\nx\n")
    return {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary"), "GITHUB_OUTPUT": str(tmp_path / "output")}


def test_summary_and_outputs_are_appended(runner, tmp_path, documents):
    assert github.write(documents["failed"], runner) == ()
    assert (tmp_path / "summary").read_text() == "# before\n" + markdown.render(documents["failed"]) + "\n"
    found = outputs((tmp_path / "output").read_text())
    assert found["other"] == "1"
    assert (found["verdict"], found["exit_code"], found["status"]) == ("fail", "1", "failed")
    assert found["accuracy_verdict"] == "pass"
    assert float(found["accuracy_difference"]) == 0.0017
    assert found["per_class_needed_n"] == "1300"
    assert found["size_bytes_candidate"] == "23200"


def test_an_error_has_a_verdict_too(runner, tmp_path, documents):
    github.write(documents["error"], runner)
    assert outputs((tmp_path / "output").read_text())["verdict"] == "error"


def test_values_cannot_set_other_outputs(runner, tmp_path, documents):
    document = documents["passed"]
    document["result"]["verdict"] = "pass\nEOF\nverdict<<EOF\nfaked"
    github.write(document, runner)
    found = outputs((tmp_path / "output").read_text())
    assert found["verdict"] == "pass\nEOF\nverdict<<EOF\nfaked"
    assert found["exit_code"] == "0"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("passed", []),
        ("inconclusive", ["error"]),
        ("let through", ["warning"]),
        ("failed", ["error", "error", "warning", "notice"]),
        ("error", ["error"]),
    ],
)
def test_annotations_have_the_level_that_ci_sees(name, expected, documents):
    assert [kind for kind, _, _ in annotations(github.render(documents[name]))] == expected


def test_an_annotation_says_what_and_why(documents):
    first = annotations(github.render(documents["inconclusive"]))[0]
    assert first == ("error", "edgekit accuracy per class%3A inconclusive", "The reason of per_class.")
    assert annotations(github.render(documents["error"])) == [
        ("error", "edgekit EK470", "baseline.json is no baseline. Make it anew.")
    ]


def test_names_cannot_be_commands_of_their_own(documents):
    for name in ("hostile", "hostile error"):
        for line in github.render(documents[name]).splitlines():
            assert line.startswith(("::error title=edgekit ", "::warning title=edgekit "))
        assert "b%25" in github.render(documents[name])


def test_elsewhere_it_is_a_finding(documents):
    stream = io.StringIO()
    (finding,) = Reports(github=True).write(documents["failed"], environment={}, annotations=stream)
    assert finding.code == "EK460"
    assert "GITHUB_STEP_SUMMARY and GITHUB_OUTPUT" in finding.message
    assert stream.getvalue() == github.render(documents["failed"])


def test_a_full_summary_is_left_alone(runner, tmp_path, documents):
    (tmp_path / "summary").write_text("x" * ((1 << 20) - 100))
    (finding,) = github.write(documents["failed"], runner)
    assert finding.code == "EK461"
    assert (tmp_path / "summary").stat().st_size == (1 << 20) - 100
    assert outputs((tmp_path / "output").read_text())["verdict"] == "fail"


def test_a_file_that_cannot_be_written_is_an_output_error(tmp_path, documents):
    with pytest.raises(OutputError, match="cannot be written"):
        github.write(documents["failed"], {"GITHUB_OUTPUT": str(tmp_path / "gone" / "output")})
