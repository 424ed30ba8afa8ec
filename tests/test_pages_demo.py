import itertools
import math
import re
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgekit.pages import milliseconds
from edgekit.pages.demo import page
from edgekit.pages.svg import Datum, nice_ticks, place_labels, scatter


def model(name, *, size=20_000, latency=0.0085, drop=0.001667, ratio=0.455):
    evaluation = {"metric": "top1", "value": 0.985, "ci95": [0.9717, 0.9921], "n": 600, "runtime": "litert"}
    if drop is not None:
        evaluation |= {"drop": drop, "drop_ci95": [-0.0047, 0.0094], "broken": 1, "fixed": 0, "n": 600}
    latency_ms = {"median": latency, "ci95_median": [0.0084, 0.0086], "runs": 30_000, "warmup_runs": 900}
    lineage = {
        "source_path": "model.keras",
        "source_sha256": "ab" * 32,
        "recipe": "static_wi8_ai8",
        "engine": "tensorflow",
        "seed": 0,
        "calibration": {"data": "calibration.npz", "sha256": "cd" * 32, "count": 160},
        "versions": {"edgekit": "0.1.0", "numpy": "2.4.6"},
    }
    return {
        "artifact": {
            "path": f"demo/{name}",
            "size_bytes": size,
            "gzip_bytes": size - 2_600,
            "sha256": "ef" * 32,
        },
        "recipe": "static_wi8_ai8",
        "engine": "tensorflow" if drop is not None else None,
        "ops": None,
        "evaluation": evaluation,
        "latency_ms": latency_ms if latency else None,
        "noise": {"verdict": "stable", "reason": "", "next_step": ""},
        "runtime": "litert",
        "runtime_version": "2.3.0",
        "delegate": "xnnpack",
        "threads": 1,
        "ratio": {"median_ratio": ratio, "ci95": [ratio - 0.01, ratio + 0.01]} if ratio else None,
        "lineage": lineage if drop is not None else None,
    }


def document(**changes):
    shipped = model("model.keras", size=124_000, latency=None, drop=None, ratio=None)
    baseline = model("model.tflite", size=80_100, latency=0.0187, drop=None, ratio=None)
    unknown = dict.fromkeys(("cpu_model", "governor", "temperature_c", "kernel", "virtualized"))
    conditions = {**unknown, "cores": 4, "architecture": "aarch64"}
    return {
        "folder": "demo",
        "page": "demo/demo.html",
        "models": [shipped, baseline, model("int8.tflite", size=23_194)],
        "conditions": {"before": conditions, "after": conditions, "throttled": None, "other_cpu_pct": None},
        "system": "Linux-6.1",
        "commands": ["edgekit benchmark model.tflite"],
        "next": ["edgekit quantize MODEL -o small.tflite"],
        "seconds": 31.0,
        **changes,
    }


FINDING = {"code": "EK506", "level": "note", "message": "<script>alert(1)</script> & more", "hint": ""}


class Shown(HTMLParser):
    """The text of a page, its table rows by their first cell, and its tags."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.rows, self.words = [], [], {}, []
        self._row = None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "tr":
            self._row = dict(attrs).get("id")
            self.rows.setdefault(self._row, [])

    def handle_endtag(self, tag):
        if tag == "tr":
            self._row = None

    def handle_data(self, data):
        if data.strip():
            self.words.append(data.strip())
            if self._row:
                self.rows[self._row].append(data.strip())


def test_each_number_of_the_document_stands_in_its_row():
    rows = Shown(page(document(), [FINDING])).rows
    assert rows["int8.tflite"] == [
        "int8.tflite", "static_wi8_ai8", "23.2", "20.6", "98.50%", "97.17% to 99.21%",
        "+0.17", "\N{MINUS SIGN}0.47 to +0.94", "0.00850", "0.00840 to 0.00860", "0.46", "0.45 to 0.47", "tensorflow",
    ]  # fmt: skip
    assert rows["model.tflite"][-5:] == ["\N{EN DASH}", "0.0187", "0.00840 to 0.00860", "1", "shipped"]
    assert rows["model.keras"][-4:] == ["\N{EN DASH}", "\N{EN DASH}", "\N{EN DASH}", "shipped"]


def test_it_needs_no_script_no_network_and_no_other_file():
    shown = Shown(page(document(), [FINDING]))
    assert not {"script", "link", "img", "iframe", "object"} & set(shown.tags)
    assert not [value for name, value in shown.attributes if name in {"src", "href"} or name.startswith("on")]
    policies = [value for name, value in shown.attributes if name == "content"]
    assert len(policies) == 2
    assert policies[1].startswith("default-src 'none'; style-src 'sha256-")
    assert "script-src" not in policies[1]
    assert "url(" not in page(document(), [])


def test_texts_from_files_cannot_become_markup():
    evil = document(commands=["<img src=x>"], next=["<b>"], folder="<i>")
    shown = Shown(page(evil, [FINDING]))
    assert not {"script", "img", "b", "i"} & set(shown.tags)
    assert any("<script>alert(1)</script> & more" in word for word in shown.words)


def test_a_drop_that_chance_explains_is_called_so():
    def headline(candidate):
        shipped, baseline, _ = document()["models"]
        text = " ".join(Shown(page(document(models=[shipped, baseline, candidate]), [])).words)
        return re.sub(r"\s+", " ", text)

    assert "which 600 samples cannot tell from none" in headline(model("int8.tflite"))
    clear = model("int8.tflite", drop=0.05)
    clear["evaluation"]["drop_ci95"] = [0.03, 0.07]
    assert "a drop of +5.00 points (95% interval +3.00 to +7.00)." in headline(clear)
    assert "cannot tell" not in headline(clear)


def test_latencies_without_interval_are_shown_alone():
    found = document()
    for entry in found["models"][1:]:
        entry["latency_ms"]["ci95_median"] = None
        if entry["ratio"]:
            entry["ratio"]["ci95"] = None
    assert Shown(page(found, [])).rows["int8.tflite"][-3:] == ["0.00850", "0.46", "tensorflow"]


def test_a_plot_puts_values_where_its_axes_say():
    data = [Datum(name, name, size, 0.985, None, (0.9717, 0.9921)) for name, size in (("a", 20), ("b", 80))]
    panel = scatter(data, "size, kB", "top-1", lambda share: f"{100 * share:g}%")
    ticks = {text: place for place, text in panel.x_ticks}
    assert [point.x for point in panel.points] == [ticks["20"], ticks["80"]]
    assert ticks["0"] == panel.left
    heights = {text: place for place, text in panel.y_ticks}
    assert heights["99%"] < panel.points[0].y < heights["98%"]
    assert panel.top <= panel.points[0].y_interval[1] < panel.points[0].y < panel.points[0].y_interval[0]


@pytest.mark.parametrize(
    ("value", "text"), [(0.008523, "0.00852"), (0.1, "0.100"), (12.34, "12.3"), (345.6, "346"), (0.0, "0")]
)
def test_milliseconds_have_three_digits(value, text):
    assert milliseconds(value) == text


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_even_and_enclose_the_values(low, span):
    ticks = nice_ticks(low, low + span)
    steps = {round((b - a) / (ticks[1] - ticks[0]), 3) for a, b in itertools.pairwise(ticks)}
    assert steps == {1.0}
    slack = 1e-6 * span + math.ulp(max(abs(low), abs(low + span)))
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + span - slack
    assert 2 <= len(ticks) <= 8


@given(st.lists(st.tuples(st.floats(52, 384), st.floats(16, 256)), min_size=1, max_size=4))
@example([(52.0, 164.0), (52.0, 178.0), (52.0, 236.0), (52.0, 237.0)])
def test_labels_never_cover_one_another(marks):
    texts = ["float16.tflite", "model.tflite", "int8.tflite", "dynamic.tflite"][: len(marks)]
    boxes = []
    for (x, y, anchor), text in zip(place_labels(marks, texts), texts, strict=True):
        width = 6.6 * len(text)
        boxes.append((x if anchor == "start" else x - width, y, width))
    for number, (left, row, width) in enumerate(boxes):
        assert left >= 0
        assert left + width <= 400
        for other_left, other_row, other_width in boxes[:number]:
            apart = left >= other_left + other_width or other_left >= left + width
            assert apart or abs(row - other_row) > 14.8
