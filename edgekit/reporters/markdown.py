"""Markdown for a comment on a pull request: the verdict first, then numbers, then conditions and findings.

Names of models, files and classes come from whoever opened the pull request. They can neither break the table nor
become links, HTML or mentions of people.
"""

import re
from collections.abc import Iterator

from edgekit.reporters import _words
from edgekit.reporters._words import Document, Facts, one_line

MARKER = "<!-- edgekit -->"
"""The first line, by which a workflow finds the comment that it wrote before."""

_SIGNS = {
    "pass": "\N{WHITE HEAVY CHECK MARK} pass",
    "fail": "\N{CROSS MARK} fail",
    "inconclusive": "\N{BLACK QUESTION MARK ORNAMENT} inconclusive",
    "error": "\N{CROSS MARK} error",
}
_HEADINGS = ("gate", "baseline", "candidate", "difference", "95% interval", "limit", "samples", "verdict")
_SPECIAL = re.compile(r"[^\w\s.,;:()%+/=-]|_")
# GitHub links what follows these, also without any markup.
_LINKING = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?<=gh)(?=-\d)|(?<=&#64;)|(?<=&#35;)", re.IGNORECASE)
# A comment holds 65,536 characters; these keep it below a half of that.
_SHOWN_CLASSES = 10
_SHOWN_FINDINGS = 20


def render(document: Document) -> str:
    """The document of a check, or of an error, as GitHub's and GitLab's Markdown."""
    error = document.get("error")
    verdict = "error" if error else document["result"].get("verdict") or document["status"]
    lines = [MARKER, f"## edgekit {document['command']}: {_SIGNS.get(verdict, verdict)}", ""]
    if error:
        lines += [f"{code(error['code'])}: {prose(error['message'])}", "", f"hint: {prose(error['hint'])}"]
        return "\n".join(lines).rstrip() + "\n"
    lines += [*_subject(document), *_table(document), *_reasons(document), *_details(document)]
    return "\n".join(lines).rstrip() + "\n"


def code(text: object) -> str:
    """A name as a code span, where nothing is markup; two characters that could end it look only alike."""
    plain = (
        one_line(text, 120).replace("`", "\N{MODIFIER LETTER GRAVE ACCENT}").replace("|", "\N{BROKEN BAR}")
    )
    return f"`{plain or ' '}`"


def prose(text: object) -> str:
    """A sentence in which nothing is markup."""
    escaped = _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", one_line(text))
    return _LINKING.sub("&#8203;", escaped)


def _subject(document: Document) -> Iterator[str]:
    result = document["result"]
    if "baseline" in result:
        yield f"{code(result['model']['path'])} against {code(result['baseline']['path'])}"
        yield ""


def _table(document: Document) -> Iterator[str]:
    found = _words.gates(document)
    if not found:
        return
    yield f"| {' | '.join(_HEADINGS)} |"
    yield f"|---|{'---:|' * (len(_HEADINGS) - 2)}---|"
    for gate in found:
        cells = (
            _words.title(gate),
            _words.value(gate["baseline"], gate["unit"]),
            _words.value(gate["candidate"], gate["unit"]),
            _words.difference(gate["difference"], gate["unit"]),
            _words.interval(gate),
            _words.limit(gate),
            _words.samples(gate),
        )
        yield f"| {' | '.join(map(prose, cells))} | {_SIGNS[gate['verdict']]} |"
    yield ""


def _reasons(document: Document) -> Iterator[str]:
    """Why it did not pass; reasons of passed gates stand among the details."""
    open_gates = [gate for gate in _words.gates(document) if gate["verdict"] != "pass"]
    yield from (f"- {_reason(gate)}" for gate in open_gates)
    if open_gates:
        yield ""


def _reason(gate: Facts) -> str:
    return f"**{prose(_words.title(gate))}**: {prose(gate['reason'])}"


def _details(document: Document) -> Iterator[str]:
    findings = document["findings"]
    yield "<details><summary>Conditions and findings</summary>"
    yield ""
    yield from (f"- {_reason(gate)}" for gate in _words.gates(document) if gate["verdict"] == "pass")
    yield from (f"- {line}" for line in _conditions(document))
    yield ""
    yield from _classes(document)
    for finding in findings[:_SHOWN_FINDINGS]:
        yield f"- {finding['level']} {finding['code']}: {prose(finding['message'])} {prose(finding['hint'])}".rstrip()
    if len(findings) > _SHOWN_FINDINGS:
        yield f"- and {len(findings) - _SHOWN_FINDINGS} more findings"
    yield ""
    yield "</details>"


def _conditions(document: Document) -> Iterator[str]:
    result = document["result"]
    if "baseline" in result:
        for name, model in (("model", result["model"]), ("baseline's model", result["baseline"]["model"])):
            size, packed = (_words.value(model[key], "bytes") for key in ("size_bytes", "gzip_bytes"))
            facts = (
                f"{prose(model['format'])}, {size}, {packed} after gzip, sha256 {code(model['sha256'][:12])}"
            )
            yield f"{name}: {code(model['path'])}, {facts}"
        yield f"baseline: made {prose(result['baseline']['created'])}"
        yield (
            f"{result['n']:,} samples of {code(result['data'])}, metric {prose(result['metric'])}, "
            f"error rate {result['alpha_spent']:.3g} for each verdict, power {result['power']:g}"
        )
        if result["look"] is not None:
            yield f"look {result['look']} at the baseline, of an error rate of {result['alpha']:g} in all"
        yield f"method: {prose(result['method'])}"
    yield f"edgekit {prose(document['edgekit_version'])}"


def _classes(document: Document) -> Iterator[str]:
    """The classes that lost the most, where classes were judged."""
    judged = [item for gate in _words.gates(document) for item in gate["details"].get("classes", ())]
    worst = sorted(judged, key=lambda item: -item["drop"])
    if not judged:
        return
    yield "| class | samples | baseline | candidate | drop | broken | fixed | verdict |"
    yield f"|---|{'---:|' * 6}---|"
    for item in worst[:_SHOWN_CLASSES]:
        shares = [_words.value(item[key], "fraction") for key in ("baseline", "candidate")]
        cells = [
            f"{item['n']:,}",
            *shares,
            _words.difference(item["drop"], "fraction"),
            item["broken"],
            item["fixed"],
        ]
        yield f"| {code(item['name'])} | {' | '.join(map(prose, cells))} | {_SIGNS[item['verdict']]} |"
    yield ""
    if len(worst) > _SHOWN_CLASSES:
        yield f"The {_SHOWN_CLASSES} of {len(worst)} classes that lost the most."
        yield ""
