"""SARIF, checked against the classes that are generated from its schema, and against what GitHub asks beyond it."""

import json

import pytest
from pydantic import ValidationError
from pydantic_sarif.model import StaticAnalysisResultsFormatSarifVersion210JsonSchema as SarifLog

from edgekit.findings import explain
from edgekit.reporters.sarif import render


def run_of(document):
    log = json.loads(render(document))
    SarifLog.model_validate(log)
    (run,) = log["runs"]
    return run


def levels(document):
    return {result["ruleId"]: result["level"] for result in run_of(document)["results"]}


def test_every_document_fits_the_schema(documents):
    for document in documents.values():
        run_of(document)


def test_the_schema_refuses_what_is_no_sarif(documents):
    log = json.loads(render(documents["failed"]))
    log["runs"][0]["results"][0]["level"] = "fatal"
    with pytest.raises(ValidationError):
        SarifLog.model_validate(log)
    log["runs"][0]["results"][0] |= {"level": "error", "gate": "accuracy"}
    with pytest.raises(ValidationError):
        SarifLog.model_validate(log)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("passed", {}),
        ("failed", {"gate/per_class": "error", "gate/size_bytes": "error", "EK401": "note"}),
        ("inconclusive", {"gate/per_class": "error"}),
        ("let through", {"gate/per_class": "warning"}),
        ("other command", {"EK401": "warning"}),
    ],
)
def test_what_did_not_pass_is_a_result(name, expected, documents):
    assert levels(documents[name]) == expected


def test_passed_gates_are_rules_and_have_their_verdict_among_the_properties(documents):
    run = run_of(documents["failed"])
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == [
        "gate/accuracy",
        "gate/per_class",
        "gate/size_bytes",
        "EK401",
    ]
    assert run["properties"]["gates"] == {
        "accuracy": "pass",
        "per_class": "inconclusive",
        "size_bytes": "fail",
    }


def test_rules_of_findings_say_what_the_catalogue_says(documents):
    run = run_of(documents["failed"])
    rule, entry = run["tool"]["driver"]["rules"][-1], explain("EK401")
    assert rule["shortDescription"]["text"] == entry.title
    assert rule["fullDescription"]["text"] == entry.meaning
    assert rule["help"]["markdown"].endswith(entry.advice)


def test_results_point_to_their_rule_and_to_a_line_of_the_model(documents):
    run = run_of(documents["failed"])
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        (location,) = result["locations"]
        place = location["physicalLocation"]
        assert run["artifacts"][place["artifactLocation"]["index"]]["location"]["uri"] == "int8.tflite"
        assert place["region"]["startLine"] == 1
    prints = [result["partialFingerprints"]["primaryLocationLineHash"] for result in run["results"]]
    assert len(set(prints)) == len(prints)


def test_a_model_below_the_working_folder_is_relative_to_it(tmp_path, monkeypatch, documents):
    monkeypatch.chdir(tmp_path)
    document = documents["failed"]
    document["result"]["model"]["path"] = str(tmp_path / "models" / "a b:c#1.tflite")
    assert run_of(document)["artifacts"][0]["location"]["uri"] == "models/a%20b%3Ac%231.tflite"
    document["result"]["model"]["path"] = str(tmp_path.parent / "other.tflite")
    assert run_of(document)["artifacts"][0]["location"]["uri"] == (tmp_path.parent / "other.tflite").as_uri()


def test_an_error_is_a_failed_invocation(documents):
    (invocation,) = run_of(documents["error"])["invocations"]
    assert invocation["executionSuccessful"] is False
    (notification,) = invocation["toolExecutionNotifications"]
    assert notification["descriptor"]["id"] == "EK470"
    assert notification["message"]["text"] == "baseline.json is no baseline. Make it anew."
    assert run_of(documents["error"])["results"] == []


def test_names_are_no_links(documents):
    for result in run_of(documents["hostile"])["results"]:
        assert "](" not in result["message"]["text"]
