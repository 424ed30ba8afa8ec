"""Reports: the page shows the document's numbers, and files that cannot be shown are refused in one sentence."""

import copy
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.cli._group import run
from edgekit.errors import DataError, EdgekitError, OutputError, UsageError
from edgekit.measurement import Conditions, Measurement, Record

STORED = Path(__file__).parent.parent / "data" / "comparison_v1.json"


class Shown(HTMLParser):
    """A page's tables as rows of (text, value) by their captions, its words, its tags and its attributes."""

    def __init__(self, html):
        super().__init__()
        self.tables, self.words, self.tags, self.attributes = {}, [], [], []
        self._rows = self._cell = None
        self._caption = ""
        self._in_caption = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag == "table":
            self._rows, self._caption = [], ""
        elif tag == "caption":
            self._in_caption = True
        elif tag == "tr" and self._rows is not None:
            self._rows.append([])
        elif tag in {"td", "th"}:
            self._cell = ["", dict(attrs).get("data-value")]

    def handle_endtag(self, tag):
        if tag == "caption":
            self._in_caption = False
            self.tables[self._caption.strip()] = self._rows
        elif tag in {"td", "th"}:
            self._rows[-1].append((" ".join(self._cell[0].split()), self._cell[1]))
            self._cell = None

    def handle_data(self, data):
        if self._in_caption:
            self._caption += data
        if self._cell is not None:
            self._cell[0] += data
        if data.strip():
            self.words.append(data.strip())

    def table(self, start):
        [found] = [rows for caption, rows in self.tables.items() if caption.startswith(start)]
        return found

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="session")
def saved(pair, tmp_path_factory) -> Path:
    """A comparison of three models with latencies, saved."""
    folder = tmp_path_factory.mktemp("saved")
    data = pair.data(folder / "d.npz", 600, broken=20, fixed=4)
    third = pair.linear(folder / "third.onnx", np.vstack([np.eye(3)[:, ::-1], np.zeros(3)]))
    found = edgekit.compare([pair.baseline, pair.candidate, third], data, max_seconds=0.05, workers=1)
    found.save(folder / "run.json")
    return folder / "run.json"


@pytest.fixture
def document(saved):
    return json.loads(saved.read_text())


def render(document, folder, name="run.json"):
    (folder / name).write_text(json.dumps(document))
    edgekit.report([folder / name], folder / "page.html", overwrite=True)
    return Shown((folder / "page.html").read_text(encoding="utf-8"))


def refused(document, folder):
    with pytest.raises(DataError) as caught:
        render(document, folder)
    assert caught.value.exit_code == 7
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 400
    return caught.value


def test_each_number_of_the_models_stands_in_its_row(document, tmp_path):
    shown = render(document, tmp_path).table("Small print")
    assert len(shown) == 4
    for row, model in zip(shown[1:], document["result"]["models"], strict=True):
        drop, speed, ratio = model["drop"] or {}, model["benchmark"], model["ratio"] or {}
        assert row[0] == (model["name"], model["name"])
        expected = [
            model["artifact"]["size_bytes"],
            model["artifact"]["gzip_bytes"],
            model["evaluation"]["value"],
            drop.get("drop"),
            drop.get("broken"),
            drop.get("fixed"),
            speed["latency_ms"]["median"],
            ratio.get("median_ratio"),
        ]
        assert [None if value is None else float(value) for _, value in row[1:9]] == expected
        low, high = (f"{100 * end:.2f}%" for end in model["evaluation"]["ci95"])
        assert row[3][0] == f"{100 * model['evaluation']['value']:.2f}% {low} to {high}"
        assert row[9][0] == ("yes" if model["pareto"] else "no")
    minus = "\N{MINUS SIGN}"
    low, high = (f"{100 * end:+.2f}" for end in document["result"]["models"][1]["drop"]["drop_ci95"])
    assert shown[2][4][0] == f"+2.67 {low} to {high}".replace("-", minus)


def test_classes_and_confusions_are_those_of_the_document(document, tmp_path):
    shown = render(document, tmp_path)
    for model in document["result"]["models"][1:]:
        rows = shown.table(f"{model['name']} against")[1:]
        per_class = {item["name"]: item for item in model["drop"]["per_class"]}
        assert {row[0][0] for row in rows} == set(per_class)
        for row in rows:
            item = per_class[row[0][0]]
            values = [float(value) for _, value in (*row[1:5], *row[6:])]
            keys = ("n", "before", "after", "drop", "broken", "fixed")
            assert values == [item[key] for key in keys]
        changed = shown.table(f"What {model['name']} confuses")[1:]
        assert [[text for text, _ in row[:4]] for row in changed] == [
            [change["label"], change["predicted"], str(change["before"]), str(change["after"])]
            for change in model["drop"]["confusion_changes"]
        ]


def test_latencies_conditions_and_findings_are_shown(document, tmp_path):
    shown = render(document, tmp_path)
    rows = shown.table("Milliseconds of a run")[1:]
    for row, model in zip(rows, document["result"]["models"], strict=True):
        latency = model["benchmark"]["latency_ms"]
        keys = ("min", "median", "p90", "p95", "p99", "runs")
        assert [float(value) for _, value in row[1:7]] == [latency[key] for key in keys]
    assert shown.tags.count("path") == 3
    cores = document["result"]["conditions"]["before"]["cores"]
    assert f"{cores} cores" in shown.text
    assert document["findings"]
    for finding in document["findings"]:
        assert finding["message"] in shown.text
        assert finding["code"] in shown.text


def test_what_was_not_kept_is_said_to_be_missing(document, tmp_path):
    document["benchmark"] = None
    shown = render(document, tmp_path)
    assert "The single runs were not kept" in shown.text
    for model in document["result"]["models"]:
        model |= {"benchmark": None, "ratio": None, "operators": None}
    document["result"] |= {"latency_baseline": None, "conditions": None, "broken_samples": []}
    shown = render(document, tmp_path)
    assert not [caption for caption in shown.tables if caption.startswith("Milliseconds")]
    assert "Samples that broke" not in shown.text


def test_it_is_one_file_without_network(document, tmp_path):
    html = (render(document, tmp_path), (tmp_path / "page.html").read_text())[1]
    shown = Shown(html)
    assert not {"link", "iframe", "object", "form", "base"} & set(shown.tags)
    assert not [item for item in shown.attributes if item[1].startswith("on") or item[1] == "style"]
    assert all(item[2].startswith("#") for item in shown.attributes if item[1] in {"href", "src"})
    [policy] = [value for tag, name, value in shown.attributes if (tag, name) == ("meta", "content")][1:]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert len(html) < 1_000_000


EVIL = "<img src=x onerror=alert(1)>.tflite"


def texts(value):
    """Every place in a document that holds a text that is free, as (container, key)."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if isinstance(item, str):
            yield value, key
        yield from texts(item)


def test_no_text_of_a_file_becomes_markup(document, tmp_path):
    keep = {
        "kind", "unit", "level", "code", "sha256", "picture", "answer", "format", "metric", "verdict", "unreadable",
    }  # fmt: skip
    for container, key in texts(document):
        if key not in keep and not (isinstance(container, dict) and key == "unit"):
            container[key] = EVIL
    for number, model in enumerate(document["result"]["models"]):
        model["name"] = f"{EVIL}{number}"
        model["lineage"] = {
            "source_path": EVIL,
            "recipe": [EVIL],
            "versions": {EVIL: EVIL},
            "seed": {"a": EVIL},
        }
    document["edgekit_version"] = EVIL
    shown = render(document, tmp_path)
    assert "img" not in shown.tags
    assert shown.text.count(EVIL) > 20
    assert not [item for item in shown.attributes if item[1].startswith("on")]


class TestBadFiles:
    def test_cut_short_anywhere(self, saved, tmp_path):
        content = saved.read_bytes().rstrip()
        for share in np.linspace(0, 0.999, 40):
            (tmp_path / "run.json").write_bytes(content[: int(share * len(content))])
            with pytest.raises(DataError, match="damaged: it is no whole JSON document"):
                edgekit.report([tmp_path / "run.json"], tmp_path / "page.html")
        assert not (tmp_path / "page.html").exists()

    def test_missing_and_no_run(self, tmp_path):
        for content, sentence in (
            (None, "does not exist"),
            ("[]", "is no saved run"),
            ("{}", "is no saved run"),
        ):
            if content:
                (tmp_path / "run.json").write_text(content)
            with pytest.raises(DataError, match=sentence):
                edgekit.report([tmp_path / "run.json"], tmp_path / "page.html")
        with pytest.raises(DataError, match="cannot be read"):
            edgekit.report([tmp_path], tmp_path / "page.html")

    @pytest.mark.parametrize("version", [0, -1, True, "1", None, 1.0])
    def test_a_strange_version(self, document, tmp_path, version):
        assert refused(document | {"schema_version": version}, tmp_path).code == "EK451"

    def test_a_newer_version_asks_for_an_update(self, document, tmp_path):
        error = refused(document | {"schema_version": 2}, tmp_path)
        assert error.code == "EK452"
        assert "schema version 2" in error.message

    @pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "9" * 30, "-1"])
    def test_numbers_that_are_none(self, saved, tmp_path, number):
        text = saved.read_text()
        value = f'"n": {json.loads(text)["result"]["n"]}'
        (tmp_path / "run.json").write_text(text.replace(value, f'"n": {number}', 1))
        with pytest.raises(DataError):
            edgekit.report([tmp_path / "run.json"], tmp_path / "page.html")

    def test_what_a_newer_edgekit_adds_within_a_version_is_let_through(self, document, tmp_path):
        document["result"]["models"][0]["carbon_g"] = 3
        document["result"]["weather"] = "fine"
        assert "baseline.onnx" in render(document, tmp_path).text

    @pytest.mark.parametrize(
        "picture",
        [
            "data:image/svg+xml;base64,PHN2Zy8+",
            "https://example.org/x.png",
            "data:image/png;base64,AAAA",
            "data:image/png;base64,!!!!",
            # A header that promises 60,000 by 60,000 pixels.
            "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAA6mAAAOpgCAYAAAA=",
        ],
    )
    def test_pictures_that_are_none(self, document, tmp_path, picture):
        document["result"]["broken_samples"][0]["picture"] = picture
        assert refused(document, tmp_path).code == "EK453"

    def test_parts_that_do_not_belong_together(self, document, tmp_path):
        def changed(change):
            other = copy.deepcopy(document)
            change(other["result"])
            return other

        changes = [
            lambda result: result["models"][0].update(drop=result["models"][1]["drop"]),
            lambda result: result["models"][1].update(drop=None),
            lambda result: result["models"][1].update(name=result["models"][0]["name"]),
            lambda result: result["broken_samples"][0].update(wrong=[7]),
            lambda result: result["broken_samples"][0].update(answers=["0"]),
            lambda result: result["models"][0]["evaluation"]["confusion"].pop(),
            lambda result: result["models"][0].update(benchmark=None),
            lambda result: result["models"].pop(),
            lambda result: result.update(models=result["models"][:1]),
        ]
        for change in changes:
            assert refused(changed(change), tmp_path).code == "EK453"

    @pytest.mark.slow
    def test_any_value_may_be_missing_or_of_another_type(self, document, tmp_path):
        """One sentence or a page, whatever is changed: never a traceback."""
        for model in document["benchmark"]["models"]:
            model["latency"]["blocks"] = [block[:2] for block in model["latency"]["blocks"][:6]]
            model["latency"] |= {"warmups": [], "starts_s": []}
        places = list(containers(document))
        rng = np.random.default_rng(5)
        chosen = rng.choice(len(places), 120, replace=False)
        outcomes = {"page": 0, "refused": 0}
        for number in chosen:
            changed = copy.deepcopy(document)
            container = changed
            *path, key = places[number]
            for step in path:
                container = container[step]
            value = [None, "text", -1, [], {}, True, 1e300, "\ud800"][rng.integers(8)]
            if rng.random() < 0.3 and isinstance(container, dict):
                del container[key]
            else:
                container[key] = value
            try:
                render(changed, tmp_path)
                outcomes["page"] += 1
            except EdgekitError as error:
                assert error.exit_code == 7  # noqa: PT017 - either outcome is fine
                outcomes["refused"] += 1
        assert min(outcomes.values()) > 5

    def test_an_output_that_exists_is_kept(self, saved, tmp_path):
        (tmp_path / "page.html").write_text("mine")
        with pytest.raises(OutputError):
            edgekit.report([saved], tmp_path / "page.html")
        with pytest.raises(DataError):
            edgekit.report([tmp_path / "none.json"], tmp_path / "page.html", overwrite=True)
        assert (tmp_path / "page.html").read_text() == "mine"

    def test_no_run(self, tmp_path):
        with pytest.raises(UsageError):
            edgekit.report([], tmp_path / "page.html")


def containers(value, path=()):
    """The path of everything in a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from containers(item, (*path, key))


def test_the_first_version_is_still_read(tmp_path):
    """The file was written when the form was new; later versions must read it."""
    shutil.copy(STORED, tmp_path / "run.json")
    edgekit.report([tmp_path / "run.json"], tmp_path / "page.html")
    shown = Shown((tmp_path / "page.html").read_text())
    assert [row[0][0] for row in shown.table("Small print")[1:]] == ["baseline.onnx", "candidate.onnx"]


@pytest.mark.slow
class TestOtherRuns:
    def test_documents_of_other_commands(self, pair, saved, tmp_path, capfd, monkeypatch):
        monkeypatch.chdir(tmp_path)
        data = pair.data(tmp_path / "d.npz", 300, broken=3)
        model = str(pair.candidate)
        commands = {
            "evaluate": ["evaluate", model, "--data", str(data)],
            "benchmark": [
                "benchmark",
                str(pair.baseline),
                model,
                "--max-seconds",
                "0.05",
                "--save",
                "record.json",
            ],
            "inspect": ["inspect", model],
            "check": ["check", model, "--baseline", "base.json", "--max-drop", "0.5"],
            "failed": ["evaluate", "nothing.onnx", "--data", str(data)],
            "compare": ["compare", str(pair.baseline), model, "--data", str(data), "--no-latency"],
        }
        assert run(["baseline", "create", str(pair.baseline), "--data", str(data), "-o", "base.json"]) == 0
        capfd.readouterr()
        documents = {}
        for name, command in commands.items():
            run([*command, "--json"])
            text = capfd.readouterr().out
            documents[name] = json.loads(text)
            (tmp_path / f"{name}.json").write_text(text)
        files = [f"{name}.json" for name in commands]
        written = edgekit.report([saved, "record.json", "base.json", *files], "page.html", title="All of it")
        assert [kind for _, kind in written.runs] == [
            "comparison", "benchmark", "baseline", "evaluate", "benchmark", "inspect", "check", "evaluate",
            "comparison",
        ]  # fmt: skip
        assert written.size_bytes == (tmp_path / "page.html").stat().st_size
        shown = Shown((tmp_path / "page.html").read_text(encoding="utf-8"))
        assert "All of it" in shown.words
        assert documents["failed"]["error"]["message"] in shown.text
        assert f"{documents['evaluate']['result']['value']:.4g}" in shown.words
        gates = documents["check"]["result"]["gates"]
        assert gates[0]["reason"] in shown.text
        assert documents["inspect"]["result"]["artifact"]["sha256"] in shown.words
        median = documents["benchmark"]["result"]["models"][0]["latency_ms"]["median"]
        assert f"{median:.4g}" in shown.words

    @pytest.mark.parametrize(
        "change",
        [
            {"result": {"value": "high"}},
            {"command": "juggle"},
            {"findings": [{"code": "<b>"}]},
            {"result": None},
        ],
    )
    def test_a_document_that_no_command_prints(self, pair, tmp_path, capfd, change):
        data = pair.data(tmp_path / "d.npz", 60)
        run(["evaluate", str(pair.baseline), "--data", str(data), "--json"])
        document = json.loads(capfd.readouterr().out)
        refused(document | change, tmp_path)

    def test_the_command_line(self, saved, tmp_path, capfd):
        import jsonschema

        page = tmp_path / "page.html"
        assert run(["report", str(saved), "--html", str(page)]) == 0
        assert "1 run" in capfd.readouterr().out
        assert run(["report", str(saved), "--html", str(page)]) == 2
        capfd.readouterr()
        assert run(["report", str(saved), "--html", str(page), "--overwrite", "--json"]) == 0
        printed = json.loads(capfd.readouterr().out)
        jsonschema.validate(printed, edgekit.schema("report"))
        assert printed["result"]["size_bytes"] == page.stat().st_size
        assert run(["report", str(tmp_path / "no.json"), "--html", str(page), "--overwrite"]) == 7
        assert "does not exist" in capfd.readouterr().err


def test_a_large_page_is_a_finding(document, tmp_path):
    names = [f"{'n' * 3000}{number}" for number in range(2000)]
    operators = document["result"]["models"][0]["operators"]
    operators["layers"] = [{**operators["layers"][0], "name": name} for name in names]
    long = {"code": "EK999", "level": "note", "message": "m" * 3000, "hint": ""}
    document["findings"] += [long] * 2500
    (tmp_path / "run.json").write_text(json.dumps(document))
    written = edgekit.report([tmp_path / "run.json"], tmp_path / "page.html")
    assert [finding.code for finding in written.findings] == ["EK454"]


def test_a_long_run_shows_its_course(tmp_path):
    blocks = tuple((1e6 * (10 + i),) * 3 for i in range(20))
    latency = Measurement("latency", "ns", blocks, (), tuple(2.0 * i for i in range(20)))
    moment = Conditions(0.0)
    Record("pi", (({"model": "m.tflite"}, latency),), moment, moment, "0.1").save(tmp_path / "run.json")
    edgekit.report([tmp_path / "run.json"], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "median latency of a block, ms over seconds under load" in page
    (path,) = re.findall(r'<path[^>]* d="(M[^"]+)"', page)
    heights = [float(point.split()[1]) for point in path[1:].split("L")]
    assert len(heights) == 20
    assert heights == sorted(heights, reverse=True)  # slower is higher, and up is less in SVG
