"""The order of `quantize --auto`, on trials whose results follow from their configurations by a formula."""

import math

import pytest

from edgekit.artifact import Format
from edgekit.workflows.searching import climb as module
from edgekit.workflows.searching.climb import Climb, bases
from edgekit.workflows.searching.configuration import Configuration
from edgekit.workflows.searching.evaluator import Evaluator
from edgekit.workflows.searching.ranking import Harmed, by_noise, by_noise_per_weight
from edgekit.workflows.searching.store import Store
from edgekit.workflows.searching.tried import Tried

_LAYERS = tuple(Harmed(f"layer{number}", 1.0 / number, 10) for number in range(1, 11))
_BASES = bases(Format.TFLITE, Format.TFLITE, has_calibration=True)


class Formula:
    """4 bits take 40 bytes and lose 20 points, 2 fewer for each spared layer, which takes 4 bytes; 8 bits lose 0.2."""

    def __init__(self, *, medium=0.0, error=0.0):
        self.medium, self.error, self.begun = medium, error, []

    def run(self, jobs, _until):
        for number, (configuration, _) in enumerate(jobs):
            self.begun.append(configuration)
            yield number, self.document(configuration)

    def document(self, configuration):
        four = "wi4" in configuration.recipe
        drop = 20.0 - 2 * len(configuration.spared) if four else 0.2
        drop -= self.medium * (configuration.knobs.get("effort") == "medium")
        size = {True: 40}.get(four, 160 if configuration.recipe == "float16" else 80)
        size += (len(configuration.recipe) % 3) + 4 * len(configuration.spared)
        return {
            "status": "done",
            "size_bytes": size,
            "snr_db": 30 - drop,
            "drop": drop / 100,
            "drop_ci95": [(drop - 1.96 * self.error) / 100, (drop + 1.96 * self.error) / 100],
            "sha256": configuration.digest(),
        }


@pytest.fixture
def climbed(tmp_path, monkeypatch):
    def climbed(formula, limit, objective="size"):
        asked = []
        monkeypatch.setattr(
            module, "harmed_layers", lambda _material, recipe: asked.append(recipe) or _LAYERS
        )
        store = Store(tmp_path, ".tflite")
        evaluator = Evaluator(formula, store, {}, math.inf, lambda _tried: None)
        made = Climb(evaluator, None, Format.TFLITE, objective, limit / 100)
        made.run(_BASES)
        return made.best, evaluator.tried

    return climbed


def test_it_begins_with_every_whole_recipe(climbed):
    _, tried = climbed(Formula(), 0.5)
    assert [one.configuration for one in tried[: len(_BASES)]] == list(_BASES)
    assert {one.recipe for one in _BASES} == {
        "float16", "dynamic_wi8_afp32", "dynamic_wi4_afp32", "weight_only_wi8_afp32", "weight_only_wi4_afp32",
        "static_wi8_ai8", "static_wi8_ai16", "static_wi4_ai8",
    }  # fmt: skip


def test_it_finds_the_fewest_layers_that_have_to_be_spared(climbed):
    # 20 points less 2 for each of 8 layers leave 4: within 5 points, and 7 leave 6, which are not.
    best, tried = climbed(Formula(), 5.0)
    assert best.document["drop"] == pytest.approx(0.04)
    assert len(best.configuration.spared) == 8
    assert set(best.configuration.spared) == {f"layer{number}" for number in range(1, 9)}
    counts = [
        len(one.configuration.spared)
        for one in tried
        if one.configuration.recipe == best.configuration.recipe
    ]
    assert {1, 2, 4, 8, 6, 7} <= set(counts)


def test_nothing_is_tried_that_would_be_larger_than_what_fits(climbed):
    # With 10 points allowed, 5 layers are enough.
    best, tried = climbed(Formula(), 10.0)
    assert len(best.configuration.spared) == 5
    larger = [one for one in tried[len(_BASES) :] if one.document["size_bytes"] > 80]
    assert larger == []


def test_a_knob_goes_before_layers(climbed):
    best, _ = climbed(Formula(medium=19.7), 0.5)
    assert best.configuration.name == "static_wi4_ai8, effort medium"
    assert best.document["drop"] == pytest.approx(0.003)


def test_where_nothing_fits_the_least_drop_is_the_best(climbed):
    best, _ = climbed(Formula(), -1.0)
    assert best.document["drop"] == pytest.approx(0.002)


def test_a_drop_has_to_be_within_the_limit_by_a_standard_error(climbed):
    # 8 spared layers leave 4 points, 9 leave 2: with a standard error of 1.5 only those are within 5.
    best, _ = climbed(Formula(error=1.5), 5.0)
    assert len(best.configuration.spared) == 9


def test_with_too_few_samples_the_drop_alone_counts_for_near_outputs(climbed):
    # Nothing is within 5 points by 10 of them. 30 dB less the drop are 26 with 8 spared layers.
    best, _ = climbed(Formula(error=10.0), 5.0)
    assert len(best.configuration.spared) == 8
    best, _ = climbed(Formula(error=30.0), 12.0)
    assert best.snr_db >= 20
    assert len(best.configuration.spared) == 5


def test_a_still_more_exact_type_is_no_second_try(climbed):
    _, tried = climbed(Formula(), 5.0)
    assert {one.configuration.spared_as for one in tried} == {
        "", "static_wi8_ai8", "dynamic_wi8_afp32", "weight_only_wi8_afp32"
    }  # fmt: skip


def test_of_equally_small_files_a_slow_one_is_not_taken(tmp_path):
    evaluator = Evaluator(Formula(), Store(tmp_path, ".tflite"), {}, math.inf, print)
    document = {"status": "done", "size_bytes": 1000, "drop": 0.0, "drop_ci95": [0.0, 0.0], "sha256": ""}
    evaluator.tried = [
        Tried(
            1, Configuration("weight_only_wi8_afp32"), document | {"snr_db": 40}, None, "1", latency_ms=4.0
        ),
        Tried(2, Configuration("dynamic_wi8_afp32"), document | {"snr_db": 30}, None, "2", latency_ms=1.0),
        Tried(3, Configuration("static_wi8_ai8"), document | {"snr_db": 35}, None, "3", latency_ms=1.1),
        Tried(4, Configuration("float16"), document | {"snr_db": 60, "size_bytes": 2000}, None, "4"),
    ]
    assert Climb(evaluator, None, Format.TFLITE, "size", 0.01).best.number == 3


def test_without_calibration_no_recipe_needs_it():
    found = bases(Format.TFLITE, Format.TFLITE, has_calibration=False)
    assert {one.recipe for one in found} == {
        one.recipe for one in _BASES if not one.recipe.startswith("static")
    }


def test_for_size_light_layers_are_spared_first():
    layers = (Harmed("heavy", 0.5, 1000), Harmed("light", 0.4, 10), Harmed("calm", 0.001, 10))
    assert by_noise(layers) == ("heavy", "light", "calm")
    assert by_noise_per_weight(layers) == ("light", "heavy", "calm")


def test_the_engine_of_keras_is_tried_whole_alone():
    found = bases(Format.KERAS, Format.TFLITE, has_calibration=True)
    assert Configuration("static_wi8_ai8", "tensorflow") in found
    assert Configuration("static_wi4_ai8", "tensorflow") not in found
