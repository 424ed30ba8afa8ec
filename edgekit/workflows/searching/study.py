"""Which configurations a wide search tries next: Optuna's samplers, asked in generations of a fixed size.

The same seed gives the same search however many workers there are, and however often it was interrupted:

1. This process alone asks; workers only try what was asked for.
2. A whole generation is asked for before the first answer is told, and answers are told in the order of the asking.
3. Each question has a sampler of its own, seeded by the search's seed and the question's number. What a sampler makes
   of it then depends on the answers that the storage holds, and on nothing that happened in this process.

The storage is Optuna's journal, a file to which lines are appended: it survives being killed at any moment, needs no
database and no lock server, and Optuna's own tools (its dashboard) read it.
"""

import contextlib
import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from edgekit.errors import DataError, DependencyError, UsageError
from edgekit.framework_process import is_installed
from edgekit.workflows.searching.space import Space

Sampler = Literal["nsga2", "tpe", "gp", "random"]
_INSTALL = 'pip install "edgekit[search]"'
_ATTRIBUTE = "edgekit"


class Study:
    """A search as Optuna keeps it.

    Args:
        storage: The journal's file, None for memory.
        identity: What the search is about: another one is refused on resuming.
        space: What may vary.
        objectives: How many numbers are told of each trial, all to be minimized.
        sampler: The name of the sampler.
        generation: How many trials are asked for at once.
        seed: Chooses them.

    Raises:
        DependencyError: Optuna, or what the sampler needs, is not installed.
        UsageError: The storage holds another search.
        DataError: The storage cannot be read.
    """

    def __init__(
        self,
        storage: Path | None,
        identity: Mapping[str, Any],
        space: Space,
        *,
        objectives: int,
        sampler: Sampler,
        generation: int,
        seed: int,
    ) -> None:
        require(sampler)
        self._space, self._sampler, self._generation, self._seed = space, sampler, generation, seed
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        with _quiet():
            self._study = _opened(storage, objectives)
            stored = self._study.user_attrs.get(_ATTRIBUTE)
            if stored is None:
                self._study.set_user_attr(_ATTRIBUTE, digest)
        if stored not in {None, digest}:
            raise UsageError(
                "EK578",
                f"{storage} holds the search of another model, data, space, seed or version.",
                "Name another --storage, or give the options that it was begun with.",
            )

    def ask(self, most: int) -> list[tuple[Any, dict[str, Any]]]:
        """The next generation, or what is left of one that was interrupted: Optuna's trials with their points.

        Args:
            most: How many trials there will be in all.
        """
        import optuna

        asked = []
        with _quiet():
            trials = self._study.get_trials(deepcopy=False)
            waiting = [trial for trial in trials if not trial.state.is_finished()]
            first = waiting[0].number if waiting else len(trials)
            last = min(most, (first // self._generation + 1) * self._generation)
            for number in range(first, last):
                self._study.sampler = self._made(number)
                if number < len(trials):
                    trial = optuna.trial.Trial(self._study, trials[number]._trial_id)
                else:
                    trial = self._study.ask()
                point = {
                    name: trial.suggest_categorical(name, values)
                    for name, values in self._space.dimensions().items()
                }
                asked.append((trial, point))
        return asked

    def tell(self, trial: Any, values: Sequence[float] | None) -> None:
        """What a trial came to, None where it gave nothing."""
        import optuna

        with _quiet():
            if values is None:
                self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                self._study.tell(trial, list(values))

    @property
    def finished(self) -> list[dict[str, Any]]:
        """The points of the trials that were told, in order."""
        trials = self._study.get_trials(deepcopy=False)
        return [dict(trial.params) for trial in trials if trial.state.is_finished()]

    def _made(self, number: int) -> Any:
        import optuna

        seed = int.from_bytes(hashlib.sha256(f"{self._seed} {number}".encode()).digest()[:4], "big")
        if self._sampler == "nsga2":
            return optuna.samplers.NSGAIISampler(seed=seed, population_size=max(2, self._generation))
        if self._sampler == "tpe":
            return optuna.samplers.TPESampler(seed=seed, n_startup_trials=self._generation)
        if self._sampler == "gp":
            return optuna.samplers.GPSampler(seed=seed, n_startup_trials=self._generation)
        return optuna.samplers.RandomSampler(seed=seed)


def require(sampler: Sampler) -> None:
    """Refuse to go on without Optuna, or without what a sampler needs.

    Raises:
        DependencyError: Something is not installed.
    """
    if not is_installed("optuna"):
        raise DependencyError("EK576", "edgekit search needs Optuna, which is not installed.", _INSTALL)
    if sampler == "gp" and not is_installed("torch"):
        raise DependencyError(
            "EK576", "The sampler gp needs PyTorch, which is not installed.", "Use --sampler nsga2 or tpe."
        )


def _opened(storage: Path | None, objectives: int) -> Any:
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    kept: Any = None
    try:
        if storage is not None:
            lock = JournalFileOpenLock(str(storage))
            # Whoever opens a study holds edgekit's own lock: this one was left by a process that was killed.
            storage.with_name(f"{storage.name}.lock").unlink(missing_ok=True)
            backend = JournalFileBackend(str(storage), lock_obj=lock)
            kept = optuna.storages.JournalStorage(backend)
        return optuna.create_study(
            storage=kept, study_name="edgekit", directions=["minimize"] * objectives, load_if_exists=True
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise DataError(
            "EK579", f"{storage} cannot be read as a search: {error}.", "Name another --storage."
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Optuna logs each trial, and warns where a number of trials is small."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)
