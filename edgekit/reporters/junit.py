"""JUnit XML: one test case per gate, as GitLab, Jenkins, Azure and others show test results.

The form is that of Jenkins' ``junit-10.xsd``, the strictest in use: it has no properties of test cases, so the
numbers of all gates are properties of the suite, ``accuracy.difference`` and so on.
"""

from collections.abc import Iterator
from xml.etree import ElementTree as ET

from edgekit.reporters import _words
from edgekit.reporters._words import Document, Facts, clean

_NUMBERS = (
    "verdict",
    "baseline",
    "candidate",
    "difference",
    "ci95",
    "limit",
    "unit",
    "n",
    "needed_n",
    "p_value",
)
# An inconclusive gate, by the exit code: let pass, counted as a failure, or left to whoever reads the code.
_INCONCLUSIVE = {0: "skipped", 1: "failure"}


def render(document: Document) -> str:
    """The document as JUnit XML.

    A failed gate is a failure. An inconclusive one is skipped where CI is told to go on, else a failure or an
    error; a command that ended in an error is one test case with that error.
    """
    name = f"edgekit {document['command']}"
    suite = ET.Element("testsuite", name=name)
    properties = ET.SubElement(suite, "properties")
    for key, text in _properties(document):
        ET.SubElement(properties, "property", name=key, value=clean(text))
    outcomes = list(_cases(document))
    for case, outcome, kind, message, text in outcomes:
        element = ET.SubElement(suite, "testcase", name=clean(case), classname=name.replace(" ", "."))
        if outcome:
            found = ET.SubElement(element, outcome, type=kind, message=clean(message))
            found.text = clean(text)
    findings = [_finding(finding) for finding in document["findings"]]
    if findings:
        ET.SubElement(suite, "system-out").text = clean("\n".join(findings))
    found_outcomes = [outcome for _, outcome, *_ in outcomes]
    counts = {
        "tests": str(len(outcomes)),
        "failures": str(found_outcomes.count("failure")),
        "errors": str(found_outcomes.count("error")),
    }
    if "seconds" in document.get("result", {}):
        counts["time"] = f"{document['result']['seconds']:.3f}"
    suite.attrib |= counts | {"skipped": str(found_outcomes.count("skipped"))}
    suites = ET.Element("testsuites", {"name": name, **counts})
    suites.append(suite)
    ET.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suites, encoding="unicode") + "\n"


def _cases(document: Document) -> Iterator[tuple[str, str, str, str, str]]:
    """Name, outcome (empty where it passed), its type, message and text of every test case."""
    command = str(document["command"])
    error = document.get("error")
    if error is not None:
        yield command, "error", error["code"], error["message"], error["hint"]
        return
    found = _words.gates(document)
    if not found:
        outcome = {"failed": "failure", "inconclusive": "error"}.get(document["status"], "")
        yield command, outcome, document["status"], document["status"], ""
    for gate in found:
        outcome = {"pass": "", "fail": "failure"}.get(
            gate["verdict"], _INCONCLUSIVE.get(_words.exit_code(document), "error")
        )
        yield gate["name"], outcome, gate["verdict"], gate["reason"], _numbers(gate)


def _numbers(gate: Facts) -> str:
    rows = {
        "baseline": _words.value(gate["baseline"], gate["unit"]),
        "candidate": _words.value(gate["candidate"], gate["unit"]),
        "difference": _words.difference(gate["difference"], gate["unit"]),
        "95% interval": _words.interval(gate),
        "limit": _words.limit(gate),
        "samples": _words.samples(gate),
    }
    lines = [f"{name}: {text}" for name, text in rows.items() if text != "-"]
    return "\n".join([gate["reason"], *lines])


def _properties(document: Document) -> Iterator[tuple[str, object]]:
    result = document.get("result", {})
    yield "edgekit_version", document["edgekit_version"]
    yield "status", document["status"]
    for key in (
        "verdict",
        "exit_code",
        "data",
        "metric",
        "n",
        "alpha",
        "alpha_spent",
        "look",
        "power",
        "method",
    ):
        if result.get(key) is not None:
            yield key, result[key]
    for key in ("path", "sha256", "size_bytes"):
        if key in result.get("model", {}):
            yield f"model.{key}", result["model"][key]
    for key in ("path", "created", "value"):
        if key in result.get("baseline", {}):
            yield f"baseline.{key}", result["baseline"][key]
    for gate in _words.gates(document):
        for key in _NUMBERS:
            if gate.get(key) is not None:
                yield f"{gate['name']}.{key}", gate[key]


def _finding(finding: Facts) -> str:
    text = f"{finding['level']} {finding['code']}: {finding['message']}"
    return f"{text} ({finding['hint']})" if finding["hint"] else text
