"""The report in a real Chromium: no error, no request, every button works, and the numbers are the document's."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.catalog import data_folder

pytestmark = pytest.mark.slow

EVIL = "<img src=x onerror=alert(1)>.tflite"
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser():
    """The system's Chromium, without any download."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield started
        started.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> tuple[Path, dict]:
    """The digits model, quantized in two ways, one of them under a hostile name, on disturbed digits."""
    folder = tmp_path_factory.mktemp("report")
    source = data_folder("examples") / "digits"
    shutil.copy(source / "model.tflite", folder / "model.tflite")
    edgekit.quantize(folder / "model.tflite", folder / "int4.tflite", recipe="weight_only_wi4_afp32")
    edgekit.quantize(
        folder / "model.tflite",
        folder / EVIL,
        recipe="static_wi8_ai8",
        calibration=source / "calibration.npz",
    )
    with np.load(source / "test.npz") as arrays:
        x, y = arrays["x"], arrays["y"]
    # Noise, so that the quantized models lose some of them.
    noisy = np.clip(x + np.random.default_rng(0).normal(0, 0.6, x.shape), 0, 1).astype(np.float32)
    np.savez(folder / "test.npz", x=noisy, y=y)
    models = [folder / "model.tflite", folder / "int4.tflite", folder / EVIL]
    found = edgekit.compare(models, folder / "test.npz", max_seconds=0.2)
    found.save(folder / "run.json")
    edgekit.report([folder / "run.json"], folder / "page.html")
    return folder / "page.html", json.loads((folder / "run.json").read_text())


@pytest.fixture
def opened(browser, report):
    """Open the page in a context; whatever the page asks for or complains about is collected."""
    contexts, troubles = [], []

    def start(viewport=DESKTOP, **options):
        context = browser.new_context(viewport=viewport, **options)
        contexts.append(context)
        page = context.new_page()
        uri = report[0].as_uri()
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
        page.on(
            "request",
            lambda request: (
                None
                if request.url.split("#")[0] == uri or request.url.startswith("data:image/png;base64,")
                else troubles.append(request.url)
            ),
        )
        page.goto(uri)
        return page

    yield start
    for context in contexts:
        context.close()
    assert troubles == []


def numbers(page, caption):
    """The rows of the table whose caption begins so, as its cells' values."""
    return page.evaluate(
        """(caption) => {
            const tables = [...document.querySelectorAll("table")];
            const table = tables.find((one) => one.caption.textContent.trim().startsWith(caption));
            return [...table.tBodies[0].rows].map((row) => [...row.cells].map((cell) => cell.dataset.value));
        }""",
        caption,
    )


def check_numbers(page, saved):
    for row, model in zip(numbers(page, "Small print"), saved["result"]["models"], strict=True):
        drop, ratio = model["drop"] or {}, model["ratio"] or {}
        assert row[0] == model["name"]
        assert [None if value is None else float(value) for value in row[1:9]] == [
            model["artifact"]["size_bytes"],
            model["artifact"]["gzip_bytes"],
            model["evaluation"]["value"],
            drop.get("drop"),
            drop.get("broken"),
            drop.get("fixed"),
            model["benchmark"]["latency_ms"]["median"],
            ratio.get("median_ratio"),
        ]
    for model in saved["result"]["models"][1:]:
        rows = numbers(page, f"{model['name']} against")
        lost = sorted(item["drop"] for item in model["drop"]["per_class"])
        assert sorted(float(row[4]) for row in rows) == lost


def visible_text(page):
    return page.evaluate("document.body.innerText")


def test_the_numbers_are_those_of_the_document(opened, report):
    page, (file, saved) = opened(), report
    check_numbers(page, saved)
    size = saved["result"]["models"][1]["artifact"]["size_bytes"]
    assert f"{size / 1000:.1f}" in visible_text(page)
    for finding in saved["findings"]:
        assert " ".join(finding["message"].split()) in " ".join(visible_text(page).split())
    assert file.stat().st_size < 6_000_000


def test_a_hostile_name_stays_text(opened, report):
    page = opened()
    assert EVIL in visible_text(page)
    shown = len(report[1]["result"]["broken_samples"])
    assert page.locator("img").count() == shown
    assert shown > 3
    assert page.locator("img").evaluate_all("(all) => all.every((one) => one.src.startsWith('data:'))")
    assert page.locator("img").evaluate_all("(all) => all.every((one) => one.naturalWidth === 8)")


def test_every_link_and_button_can_be_clicked(opened, report):
    page, saved = opened(), report[1]
    links = page.locator("nav a")
    assert links.count() >= 8
    for index in range(links.count()):
        target = links.nth(index).get_attribute("href")
        links.nth(index).click()
        assert page.locator(target).is_visible()
        assert page.evaluate("location.hash") == target
    buttons = page.locator("th button")
    assert buttons.count() > 20
    for index in range(buttons.count()):
        head = buttons.nth(index).locator("xpath=..")
        for direction in ("ascending", "descending"):
            buttons.nth(index).click()
            assert head.get_attribute("aria-sort") == direction
    page.reload()
    size = page.locator("table.models th button").nth(1)
    for turn in (1, -1):
        size.click()
        sizes = [float(row[1]) for row in numbers(page, "Small print")]
        assert sizes == sorted(sizes, reverse=turn < 0)
        assert len(sizes) == 3
    samples = saved["result"]["broken_samples"]
    filters = page.locator(".filter button")
    assert filters.count() == 3
    for index, model in ((1, 1), (2, 2), (0, None)):
        filters.nth(index).click()
        expected = sum(model is None or model in sample["wrong"] for sample in samples)
        assert page.locator(".samples li:visible").count() == expected
        assert filters.nth(index).get_attribute("aria-pressed") == "true"


def test_without_javascript_everything_is_there(opened, report):
    page = opened(java_script_enabled=False)
    for caption in page.locator("caption").all():
        assert caption.is_visible()
    assert page.locator(".samples li:visible").count() == len(report[1]["result"]["broken_samples"])
    assert not page.locator(".filter").is_visible()
    rows = page.locator("table.models tbody tr")
    assert rows.count() == 3
    assert EVIL in rows.nth(2).inner_text()
    assert page.locator("svg:visible").count() >= 6


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_page_does_not_scroll_sideways(opened, viewport):
    page = opened(viewport)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    # No text of a plot runs out of it.
    outside = page.evaluate(
        """() => [...document.querySelectorAll("svg text")].filter((text) => {
            const [own, plot] = [text.getBoundingClientRect(), text.ownerSVGElement.getBoundingClientRect()];
            return own.left < plot.left - 2 || own.right > plot.right + 2;
        }).map((text) => text.textContent)"""
    )
    assert outside == []


def test_light_and_dark(opened):
    def colors(scheme):
        page = opened(color_scheme=scheme)
        return page.evaluate(
            """() => {
                const style = getComputedStyle(document.body);
                const brightness = (text) => text.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0) / 3;
                return [brightness(style.backgroundColor), brightness(style.color)];
            }"""
        )

    paper, ink = colors("light")
    assert paper > 240
    assert ink < 60
    paper, ink = colors("dark")
    assert paper < 40
    assert ink > 200


def test_it_can_be_printed(opened, tmp_path):
    page = opened(color_scheme="dark")
    content = page.pdf(path=tmp_path / "page.pdf", format="A4")
    assert content.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", content)) >= 2
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").first.is_visible()


def test_headings_and_pictures_speak(opened):
    page = opened()
    levels = page.evaluate(
        "[...document.querySelectorAll('h1,h2,h3,h4')].map((head) => Number(head.tagName[1]))"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert page.locator("img:not([alt])").count() == 0
    assert page.locator("svg:not([aria-label])").count() == 0
    assert page.locator("table:not(:has(caption))").count() == 0
    identifiers = page.evaluate("[...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert len(set(identifiers)) == len(identifiers)


def test_two_schemes_and_two_widths_paint(opened, tmp_path):
    image_module = pytest.importorskip("PIL.Image", reason="needs pillow")
    for viewport in (DESKTOP, PHONE):
        for scheme in ("light", "dark"):
            shot = tmp_path / f"{viewport['width']}-{scheme}.png"
            opened(viewport, color_scheme=scheme).screenshot(path=shot, full_page=True)
            image = image_module.open(shot).convert("RGB")
            assert image.width == viewport["width"]
            # Ink, panels, three series and pictures: a blank or broken page has a handful of colors.
            assert len(image.getcolors(1 << 22)) > 200
