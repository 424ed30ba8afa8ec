"""Optuna asked in generations: the same seed asks the same, whoever answers and however often it was interrupted."""

import pytest

from edgekit.errors import DataError, DependencyError, UsageError
from edgekit.workflows.searching import study as module
from edgekit.workflows.searching.space import Space
from edgekit.workflows.searching.study import Study

_SPACE = Space(
    ("static_wi4_ai8", "static_wi8_ai8", "float16"),
    ("ai_edge_quantizer",),
    {"effort": ("none", "low", "medium")},
    6,
    ("static_wi8_ai8", "float32"),
)


def study(storage=None, *, seed=1, sampler="nsga2", generation=4, identity=None):
    return Study(
        storage,
        identity or {"model": "m"},
        _SPACE,
        objectives=2,
        sampler=sampler,
        generation=generation,
        seed=seed,
    )


def answer(point):
    """A size and a drop that depend on the point alone; a combination that fails."""
    if point["recipe"] == "float16" and point["spared"] == 5:
        return None
    size = {"static_wi4_ai8": 40, "static_wi8_ai8": 80, "float16": 160}[point["recipe"]] + point["spared"]
    return [size, 100 / size + (point["effort"] == "none")]


def rest_of(made, most, *, stop_after=None):
    """Ask and tell up to ``most`` trials; ``stop_after`` so many answers it stops, as if it was killed."""
    told = 0
    while batch := made.ask(most):
        for trial, point in batch:
            if told == stop_after:
                return
            made.tell(trial, answer(point))
            told += 1


@pytest.mark.parametrize("sampler", ["nsga2", "tpe", "random"])
def test_a_search_that_was_interrupted_goes_on_as_if_it_had_not_been(tmp_path, sampler):
    whole = study(sampler=sampler)
    rest_of(whole, 24)
    cut = tmp_path / "journal"
    for stop in (3, 4, 7):
        rest_of(study(cut, sampler=sampler), 24, stop_after=stop)
    rest_of(study(cut, sampler=sampler), 24)
    assert study(cut, sampler=sampler).finished == whole.finished
    assert len(whole.finished) == 24


def test_a_generation_is_asked_for_before_it_is_answered(tmp_path):
    made = study(tmp_path / "journal")
    batch = made.ask(10)
    assert [trial.number for trial, _ in batch] == [0, 1, 2, 3]
    assert [point for _, point in study(tmp_path / "journal").ask(10)] == [point for _, point in batch]
    for trial, point in batch:
        made.tell(trial, answer(point))
    assert [trial.number for trial, _ in made.ask(6)] == [4, 5]


def test_a_seed_chooses():
    first, second = study(seed=1), study(seed=2)
    assert [point for _, point in first.ask(8)] != [point for _, point in second.ask(8)]


def test_answers_guide_it():
    """Of 60 points NSGA-II asks for more of those on the front than chance does."""
    shares = {}
    for sampler in ("nsga2", "random"):
        made = study(sampler=sampler, generation=10)
        rest_of(made, 60)
        late = [answer(point) for point in made.finished[30:]]
        shares[sampler] = sum(found is not None and found[1] < 2 for found in late)
    assert shares["nsga2"] > shares["random"]


def test_the_storage_of_another_search_is_refused(tmp_path):
    study(tmp_path / "journal")
    with pytest.raises(UsageError, match="another model"):
        study(tmp_path / "journal", identity={"model": "another"})


def test_a_file_that_is_no_journal_is_refused(tmp_path):
    (tmp_path / "journal").write_text("not a journal\n" * 3)
    with pytest.raises(DataError, match="cannot be read"):
        study(tmp_path / "journal")


def test_a_lock_that_a_killed_process_left_holds_nobody_up(tmp_path):
    (tmp_path / "journal.lock").write_text("")
    assert len(study(tmp_path / "journal").ask(4)) == 4


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(module, "is_installed", lambda name: name != "optuna")
    with pytest.raises(DependencyError, match="needs Optuna") as caught:
        study()
    assert "edgekit[search]" in caught.value.hint
    monkeypatch.setattr(module, "is_installed", lambda name: name != "torch")
    with pytest.raises(DependencyError, match="needs PyTorch"):
        study(sampler="gp")
