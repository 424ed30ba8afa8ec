"""Target profiles: those that are shipped, and what a wrong one is told."""

import tomllib

import pytest

import edgekit
from edgekit.catalog import data_folder, names
from edgekit.cli._group import run
from edgekit.errors import UsageError
from edgekit.target import ACCELERATORS, FACTS, Target

_PROFILES = sorted(data_folder("targets").glob("*.toml"))
_WANTED = [
    "raspberry-pi-3",
    "raspberry-pi-4",
    "raspberry-pi-5",
    "raspberry-pi-zero-2-w",
    "raspberry-pi-32bit",
    "jetson-orin-nano",
    "linux-x86-64",
    "android-arm64",
    "android-gpu",
    "linux-gpu",
    "ios-coreml",
    "ethos-u55-128",
    "ethos-u55-256",
    "ethos-u65-256",
    "ethos-u85-256",
    "coral-edgetpu",
    "qualcomm-htp",
    "rockchip-rk3588",
    "intel-npu",
    "intel-cpu-openvino",
    "microcontroller-tflm",
]
_OWN_RUNTIMES = {"litert", "onnxruntime", "tflite_runtime", "native"}


@pytest.fixture(params=_PROFILES, ids=lambda file: file.stem)
def target(request):
    return Target.read(request.param)


def test_there_are_profiles():
    assert sorted(file.stem for file in _PROFILES) == sorted(_WANTED)


def test_every_sentence_is_one(target):
    notes = [getattr(target, key).note for key in FACTS] + [fact.note for fact in target.limits.values()]
    for text in (target.description, target.untested, *filter(None, notes)):
        assert text.endswith("."), text


def test_what_runs_there_is_known(target):
    assert target.accelerator in ACCELERATORS
    assert target.runtimes.values
    if target.accelerator == "xnnpack":
        assert set(target.runtimes.values) <= _OWN_RUNTIMES
        assert {"litert", "onnxruntime", "tflite_runtime"} <= set(names("runtimes"))


def test_the_recipe_is_one_that_the_target_computes(target):
    from edgekit.artifact import Format
    from edgekit.targeting import choose

    choice = choose(target, None, None, Format(target.formats.values[0]))
    assert choice.recipe == target.default_recipe
    assert {finding.code for finding in choice.findings} == {"EK380"}


def profile(**changes):
    """A right profile as a document, with other values."""
    document = tomllib.loads((data_folder("targets") / "linux-x86-64.toml").read_text())
    for key, value in changes.items():
        head, _, tail = key.partition("__")
        holder = document.setdefault(head, {}) if tail else document
        holder[tail or head] = value
    return document


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"schema": 2}, "needs schema = 1"),
        ({"description": ""}, "needs the text description"),
        ({"accelerator": "xnpack"}, "xnpack"),
        ({"procesor": {}}, "procesor"),
        ({"processor__source": "somewhere"}, "needs a source"),
        ({"processor__date": "yesterday"}, "needs the date"),
        ({"processor__vlaue": 3}, "vlaue"),
        ({"processor__values": ["a"]}, "either value or values"),
        ({"formats__values": ["tflite", "ort"]}, "ort"),
        ({"recipe__value": "int9"}, "int9"),
        ({"recipe__note": ""}, "reason for its recipe"),
        (
            {"limits": {"ram": {"value": 1, "source": "https://a", "date": "2026-11-29"}}},
            "ends with its unit",
        ),
        ({"limits": {"ram_bytes": {"value": 0, "source": "https://a", "date": "2026-11-29"}}}, "above 0"),
        ({"compiler": {"name": 3}}, "no texts"),
    ],
)
def test_a_wrong_profile_is_told_where(tmp_path, changes, says):
    import tomli_w

    file = tmp_path / "mine.toml"
    file.write_text(tomli_w.dumps(profile(**changes)))
    with pytest.raises(UsageError, match=says):
        edgekit.target_validate(file)


@pytest.mark.parametrize("content", [b"", b"schema = ", b"\xff\xfe", b"#" * (2 << 20)])
def test_what_is_no_profile_is_refused_in_a_sentence(tmp_path, content):
    file = tmp_path / "mine.toml"
    file.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        edgekit.target_validate(file)
    assert caught.value.code == "EK913"


def test_ones_own_takes_the_place_of_the_built_in(tmp_path, monkeypatch):
    import tomli_w

    (tmp_path / "targets").mkdir()
    (tmp_path / "targets" / "linux-x86-64.toml").write_text(tomli_w.dumps(profile(description="Mine.")))
    (tmp_path / "targets" / "board.toml").write_text(tomli_w.dumps(profile(description="A board.")))
    monkeypatch.chdir(tmp_path)
    described = {target.name: target.description for target in edgekit.target_list()}
    assert described["linux-x86-64"] == "Mine."
    assert edgekit.target_show("board").description == described["board"] == "A board."
    with pytest.raises(UsageError) as caught:
        edgekit.target_show("baord")
    assert "Did you mean board?" in caught.value.hint


@pytest.mark.parametrize("arguments", [["list"], ["show", "linux-x86-64"], ["validate", str(_PROFILES[0])]])
def test_the_commands(arguments, capsys):
    assert run(["targets", *arguments]) == 0
    assert capsys.readouterr().out
