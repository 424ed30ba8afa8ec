"""What holds for every report: it is a pure function of the document, and never damages a file."""

import io
import json

import jsonschema
import pytest

import edgekit
from edgekit.catalog import names
from edgekit.errors import OutputError, UsageError
from edgekit.reporters import Reports, render

every_reporter = pytest.mark.parametrize("name", names("reporters"))


def test_the_documents_of_these_tests_have_the_form_of_real_ones(documents):
    schema = edgekit.schema("check")
    for document in documents.values():
        if document["command"] == "check":
            jsonschema.validate(document, schema)


@every_reporter
def test_the_same_document_gives_the_same_text_and_is_not_changed(name, documents):
    for document in documents.values():
        before = json.dumps(document)
        text = render(name, document)
        assert text == render(name, document)
        assert json.dumps(document) == before
        text.encode()


@every_reporter
def test_no_control_character_gets_through(name, documents):
    for document in documents.values():
        assert "\x1b" not in render(name, document)
        assert "\u202e" not in render(name, document)


def test_an_unknown_format_names_the_nearest():
    with pytest.raises(UsageError) as caught:
        render("junitt", {})
    assert "Did you mean junit?" in caught.value.hint


def test_files_that_exist_are_refused_before_any_work(tmp_path):
    path = tmp_path / "report.xml"
    path.write_text("kept")
    with pytest.raises(OutputError, match="exists already"):
        Reports(junit=path).check()
    Reports(junit=path).check(overwrite=True)
    assert path.read_text() == "kept"


def test_two_reports_in_one_file_are_refused(tmp_path):
    reports = Reports(junit=tmp_path / "report", sarif=tmp_path / "sub" / ".." / "report")
    (tmp_path / "sub").mkdir()
    with pytest.raises(UsageError, match="--junit and --sarif") as caught:
        reports.check()
    assert caught.value.code == "EK462"


def test_each_report_is_what_its_format_renders(tmp_path, documents):
    paths = {name: tmp_path / name for name in ("junit", "sarif", "markdown")}
    stream = io.StringIO()
    findings = Reports(**paths).write(documents["failed"], environment={}, annotations=stream)
    assert findings == ()
    assert stream.getvalue() == ""
    for name, path in paths.items():
        assert path.read_text(encoding="utf-8") == render(name, documents["failed"])
