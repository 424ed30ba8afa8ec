"""SARIF 2.1.0: gates and findings as results of a static analysis, as code scanning shows them.

Passed gates are rules without a result. SARIF knows results of the kind "pass", but GitHub ignores kinds and would
open an alert for each; in the run's properties every gate has its verdict.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from edgekit.findings import explain
from edgekit.reporters import _words
from edgekit.reporters._words import Document, Facts, clean

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_NUMBERS = ("baseline", "candidate", "difference", "ci95", "limit", "unit", "n", "needed_n", "p_value")


def render(document: Document) -> str:
    """The document of any command as a SARIF log: failed and inconclusive gates, then findings.

    A model below the working folder is named relative to it, as GitHub expects.
    """
    rules = list(_rules(document))
    uri = _model_uri(document)
    run = {
        "tool": {
            "driver": {
                "name": "edgekit",
                "version": document["edgekit_version"],
                "semanticVersion": document["edgekit_version"],
                "rules": rules,
            }
        },
        # GitHub keeps one analysis per category, which is what stands before the last slash.
        "automationDetails": {"id": f"edgekit {document['command']}{f'/{uri}' if uri else ''}/"},
        "invocations": [_invocation(document)],
        "artifacts": _artifacts(document, uri),
        "results": list(_results(document, [rule["id"] for rule in rules], uri)),
        "properties": {
            "status": document["status"],
            "gates": {gate["name"]: gate["verdict"] for gate in _words.gates(document)},
        },
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _rules(document: Document) -> Iterator[dict[str, Any]]:
    for gate in _words.gates(document):
        name = _words.title(gate)
        yield _rule(
            f"gate/{gate['name']}",
            f"The gate of {name}",
            f"The {name} of the model must stay within the limit of the budget.",
            "Read the numbers of the result: a failed gate is beyond its limit, an inconclusive one needs more samples "
            "or a quieter machine.",
        )
    for code in dict.fromkeys(finding["code"] for finding in document["findings"]):
        entry = explain(code)
        yield _rule(code, entry.title, entry.meaning, entry.advice)


def _rule(name: str, title: str, meaning: str, advice: str) -> dict[str, Any]:
    return {
        "id": name,
        "name": name,
        "shortDescription": {"text": title},
        "fullDescription": {"text": meaning},
        "help": {"text": f"{meaning} {advice}", "markdown": f"{meaning}\n\n{advice}"},
    }


def _results(document: Document, rules: list[str], uri: str | None) -> Iterator[dict[str, Any]]:
    seen: Counter[str] = Counter()
    for rule, level, text, properties in _facts(document):
        seen[rule] += 1
        # By this GitHub knows an alert again; one rule may have several results.
        identity = hashlib.sha256(f"{uri}\0{rule}\0{seen[rule]}".encode()).hexdigest()[:16]
        result: dict[str, Any] = {
            "ruleId": rule,
            "ruleIndex": rules.index(rule),
            "kind": "fail",
            "level": level,
            "message": {"text": _message(text)},
            "partialFingerprints": {"primaryLocationLineHash": f"{identity}:1"},
            "properties": properties,
        }
        if uri is not None:
            artifact = {"uri": uri, "index": 0}
            # A model has no lines, but GitHub wants one.
            place = {"physicalLocation": {"artifactLocation": artifact, "region": {"startLine": 1}}}
            result["locations"] = [place]
        yield result


def _facts(document: Document) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Rule, level, text and properties of every result."""
    for gate in _words.gates(document):
        level = _words.severity(gate, document)
        if level is not None:
            numbers = {key: gate[key] for key in _NUMBERS if gate.get(key) is not None}
            text = f"{_words.title(gate)}: {gate['verdict']}. {gate['reason']}"
            yield f"gate/{gate['name']}", level, text, {"verdict": gate["verdict"], **numbers}
    for finding in document["findings"]:
        text = f"{finding['message']} {finding['hint']}".rstrip()
        yield finding["code"], finding["level"], text, {}


def _artifacts(document: Document, uri: str | None) -> list[dict[str, Any]]:
    if uri is None:
        return []
    model: Facts = document["result"]["model"]
    found: dict[str, Any] = {"location": {"uri": uri}, "roles": ["analysisTarget"]}
    if "sha256" in model:
        found |= {"hashes": {"sha-256": model["sha256"]}, "length": model["size_bytes"]}
    return [found]


def _invocation(document: Document) -> dict[str, Any]:
    error = document.get("error")
    if error is None:
        return {"executionSuccessful": True, "exitCode": _words.exit_code(document)}
    text = f"{error['message']} {error['hint']}".rstrip()
    notification = {
        "level": "error",
        "message": {"text": _message(text)},
        "descriptor": {"id": error["code"]},
    }
    return {"executionSuccessful": False, "toolExecutionNotifications": [notification]}


def _model_uri(document: Document) -> str | None:
    model = document.get("result", {}).get("model") or {}
    if "path" not in model:
        return None
    path, folder = Path(clean(model["path"])), Path.cwd()
    if path.is_absolute():
        if not path.is_relative_to(folder):
            return path.as_uri()
        path = path.relative_to(folder)
    return quote(path.as_posix())


def _message(text: str) -> str:
    """Text in which nothing is a link to elsewhere: SARIF reads ``[text](target)`` as one."""
    return clean(text).replace("](", "] (")
