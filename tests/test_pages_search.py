"""The page of ``edgekit search``: what is drawn, what is listed, and that names are no markup."""

from edgekit.pages.search import page, panels

_NAMES = ("float16", "static_wi8_ai8", "<script>alert(1)</script>")


def trial(number, size, drop, *, front, status="done"):
    return {
        "number": number, "status": status, "size_bytes": size, "drop": drop, "drop_ci95": [drop, None],
        "latency_ms": 0.5, "snr_db": 30.0, "n": 100, "pareto": front, "was_kept": False,
        "configuration": {"name": _NAMES[number - 1]},
    }  # fmt: skip


_TRIALS = [
    trial(1, 160_000, 0.0, front=True), trial(2, 80_000, 0.01, front=True), trial(3, 90_000, 0.02, front=False)
]  # fmt: skip
_RESULT = {
    "source": {"path": "a<b>.tflite"}, "tried": [*_TRIALS, _TRIALS[0]], "objectives": ["size", "drop"],
    "unit": "fraction", "sampler": "tpe", "seed": 3, "metric": "top1", "data": "test.npz",
}  # fmt: skip


def test_each_pair_of_objectives_is_a_plot():
    (panel,) = panels(_TRIALS, ["size", "drop"], "fraction")
    assert (panel.x_title, panel.y_title) == ("size, kB", "drop, points")
    assert [point.hollow for point in panel.points] == [False, False, True]
    first, second, third = panel.points
    assert second.x < third.x < first.x
    assert first.y > second.y > third.y  # pixels count downwards
    assert len(panels(_TRIALS, ["size", "drop", "snr"], "fraction")) == 3


def test_a_single_objective_is_drawn_over_the_size():
    (panel,) = panels(_TRIALS, ["snr"], "fraction")
    assert (panel.x_title, panel.y_title) == ("size, kB", "SNR, dB")
    (panel,) = panels(_TRIALS, ["size"], "dB")
    assert panel.y_title == "drop"


def test_the_page_lists_every_configuration_once_and_the_front_first():
    text = page(_RESULT, [{"code": "EK575", "message": "1 of 4 failed.", "hint": ""}])
    assert text.count("<tr>") == 1 + 3
    table = text[text.index("<table") :]
    assert table.index(">static_wi8_ai8<") < table.index(">float16<") < table.index("&lt;script&gt;")
    assert "<script" not in text
    assert "a<b>" not in text
    assert "EK575" in text
