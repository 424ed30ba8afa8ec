"""JUnit XML, checked against a schema and read back with another library's parser."""

from pathlib import Path

import pytest
from lxml import etree

from edgekit.reporters.junit import render

_SCHEMA = etree.XMLSchema(etree.parse(Path(__file__).parent.parent / "data" / "junit.xsd"))


def parsed(document):
    root = etree.fromstring(render(document).encode())
    _SCHEMA.assertValid(root)
    return root


def outcomes(document):
    """By test case, its outcome."""
    cases = parsed(document).findall(".//testcase")
    return {case.get("name"): case[0].tag if len(case) else "passed" for case in cases}


def test_every_document_fits_the_schema(documents):
    for document in documents.values():
        parsed(document)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("passed", {"accuracy": "passed"}),
        ("failed", {"accuracy": "passed", "per_class": "failure", "size_bytes": "failure"}),
        ("inconclusive", {"accuracy": "passed", "per_class": "error"}),
        ("let through", {"accuracy": "passed", "per_class": "skipped"}),
        ("refused", {"accuracy": "passed", "per_class": "failure"}),
        ("error", {"check": "error"}),
        ("other command", {"inspect": "passed"}),
    ],
)
def test_each_gate_is_a_test_case_with_the_outcome_that_ci_sees(name, expected, documents):
    assert outcomes(documents[name]) == expected


def test_the_counts_are_those_of_the_cases(documents):
    for document in documents.values():
        root, found = parsed(document), list(outcomes(document).values())
        for element in (root, root[0]):
            assert int(element.get("tests")) == len(found)
            assert int(element.get("failures")) == found.count("failure")
            assert int(element.get("errors")) == found.count("error")
        assert int(root[0].get("skipped")) == found.count("skipped")


def test_a_failure_says_why_in_words_and_numbers(documents):
    failure = parsed(documents["failed"]).find(".//testcase[@name='size_bytes']/failure")
    assert failure.get("message") == "The reason of size_bytes."
    assert failure.text.splitlines()[1:] == [
        "baseline: 80.1 kB",
        "candidate: 23.2 kB",
        "difference: -56.9 kB",
        "limit: 20.0 kB",
    ]
    unsure = parsed(documents["failed"]).find(".//testcase[@name='per_class']/failure")
    assert unsure.get("type") == "inconclusive"
    assert "samples: 56, needs 1,300" in unsure.text


def test_the_numbers_of_all_gates_are_properties_at_full_precision(documents):
    found = {item.get("name"): item.get("value") for item in parsed(documents["failed"]).iter("property")}
    assert float(found["accuracy.difference"]) == 0.0017
    assert found["size_bytes.candidate"] == "23200"
    assert found["model.sha256"] == "b" * 64
    assert parsed(documents["failed"]).get("time") == "1.250"


def test_an_error_is_a_case_with_the_sentence(documents):
    error = parsed(documents["error"]).find(".//error")
    assert (error.get("type"), error.get("message")) == ("EK470", "baseline.json is no baseline.")
    assert error.text == "Make it anew."


def test_findings_stand_in_the_output(documents):
    text = parsed(documents["failed"]).findtext(".//system-out")
    assert text.splitlines()[0] == "warning EK401: Some scores are equal. (Use float outputs.)"


def test_names_cannot_add_elements(documents, hostile):
    root = parsed(documents["hostile"])
    assert {element.tag for element in root.iter()} == {
        "testsuites", "testsuite", "properties", "property", "testcase", "error", "system-out"
    }  # fmt: skip
    assert "<script>x</script>" in root.find(".//error").get("message")
