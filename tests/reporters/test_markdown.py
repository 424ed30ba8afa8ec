"""Markdown, read back with a parser: its tables, and that no name becomes markup."""

import re

import pytest
from markdown_it import MarkdownIt

from edgekit.reporters.markdown import code, prose, render

_PARSER = MarkdownIt("commonmark").enable("table")


def inline_tokens(text):
    return [child for token in _PARSER.parse(text) for child in token.children or ()]


def tables(text):
    """The texts of the cells of every row of every table."""
    found, row = [], None
    for token in _PARSER.parse(text):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            row = []
            found[-1].append(row)
        elif token.type == "inline" and row is not None:
            row.append("".join(child.content for child in token.children))
        elif token.type == "table_close":
            row = None
    return found


def test_the_verdict_comes_first(documents):
    heads = {name: render(document).splitlines()[1] for name, document in documents.items()}
    assert heads["passed"] == "## edgekit check: \N{WHITE HEAVY CHECK MARK} pass"
    assert heads["failed"] == "## edgekit check: \N{CROSS MARK} fail"
    assert heads["inconclusive"].endswith("inconclusive")
    assert heads["error"].endswith("error")


def test_the_table_has_the_numbers_that_people_read(documents):
    (table,) = tables(render(documents["failed"]))
    assert table[1][:7] == [
        "accuracy", "98.67%", "98.50%", "+0.17 points", "-0.47 to +0.94", "+1.00 points", "600"
    ]  # fmt: skip
    assert table[2][6] == "56, needs 1,300"
    assert table[3][1:6] == ["80.1 kB", "23.2 kB", "-56.9 kB", "-", "20.0 kB"]
    assert [row[7].split()[-1] for row in table[1:]] == ["pass", "inconclusive", "fail"]


def test_an_interval_may_be_open_on_one_side(documents):
    (table,) = tables(render(documents["one-sided"]))
    assert table[1][3:6] == ["+1.5 dB", "unbounded to +2 dB", "+3 dB"]


def test_reasons_of_what_did_not_pass_stand_above_the_details(documents):
    above, _, details = render(documents["failed"]).partition("<details>")
    assert "The reason of size&#95;bytes." in above
    assert "The reason of accuracy." not in above
    assert "The reason of accuracy." in details
    assert "EK401: Some scores are equal. Use float outputs." in details


def test_an_error_has_its_code_and_hint(documents):
    assert render(documents["error"]).splitlines()[3:] == [
        "`EK470`: baseline.json is no baseline.",
        "",
        "hint: Make it anew.",
    ]


@pytest.mark.parametrize("name", ["hostile", "hostile error"])
def test_names_cannot_break_the_table_nor_become_html_links_or_mentions(name, documents):
    text = render(documents[name])
    tokens = inline_tokens(text)
    assert {token.type for token in tokens} <= {
        "text", "code_inline", "text_special", "strong_open", "strong_close", "softbreak"
    }  # fmt: skip
    assert all(len({len(row) for row in table}) == 1 for table in tables(text))
    outside_of_code = "".join(token.content for token in tokens if token.type != "code_inline")
    assert re.search(r"@\w|#\d|://|www\.", outside_of_code) is None
    blocks = [token.content for token in _PARSER.parse(text) if token.type == "html_block"]
    assert not any("script" in block for block in blocks)


@pytest.mark.parametrize("text", ["a\\|b", "`", "``", "\\", "a\\", " ", "", "x\ny", "|", "\\`|`\\"])
def test_a_code_span_is_one_cell_whatever_it_holds(text):
    (table,) = tables(f"| a | b |\n|---|---|\n| {code(text)} | end |\n")
    assert table[1][1] == "end"
    (token,) = [child for child in inline_tokens(code(text)) if child.type == "code_inline"]
    assert "`" not in token.content


def test_prose_reads_as_it_was_written():
    text = "2 * 3 < 7 [x](y) _z_ a|b ~~c~~ $d$ & \"e\" 'f' \\g !"
    rendered = "".join(token.content for token in inline_tokens(prose(text)))
    assert rendered == text


def test_a_comment_stays_below_the_limit_of_github(documents, hostile):
    document = documents["hostile"]
    document["findings"] *= 500
    document["result"]["gates"][0]["details"]["classes"] *= 100
    document["result"]["gates"][0]["reason"] = hostile * 1000
    document["result"]["model"]["path"] = "x" * 100_000
    text = render(document)
    assert len(text.encode()) < 65_536
    assert "and 480 more findings" in text
    assert "The 10 of 1200 classes that lost the most." in text
