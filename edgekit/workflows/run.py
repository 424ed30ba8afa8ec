"""``run``: the steps of a recipe in order, each taken from what is kept of it where nothing has changed."""

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import edgekit
from edgekit import files
from edgekit.catalog import unknown
from edgekit.documents import plain
from edgekit.errors import EdgekitError, UsageError
from edgekit.findings import Finding
from edgekit.formats import open_artifact
from edgekit.run_recipe import SOURCE, RunRecipe, StepRecipe
from edgekit.workflows import step_cache
from edgekit.workflows.judged import Judged
from edgekit.workflows.steps import Bound, Result, bind, check_data, check_options, do, epochs_of

Report = Callable[[Mapping[str, Any]], None]

_STATUS = {0: "ok", 1: "failed", 6: "inconclusive"}
_FAILED = 1


@dataclass(frozen=True)
class StepRun:
    """A step of a run: ``status`` is ``"done"``, ``"cached"``, ``"planned"`` or ``"left out"``, ``why`` its reason.

    ``seconds`` is how long the step took when it was done; None where it was not.
    """

    step: StepRecipe
    folder: Path
    status: str
    why: str = ""
    seconds: float | None = None
    result: Result | None = None

    @property
    def files(self) -> dict[str, Path]:
        """The files that the step made, by their kind: ``"model"``, ``"tflite"``."""
        return {} if self.result is None else {k: self.folder / v for k, v in self.result.files.items()}

    def describe(self) -> dict[str, Any]:
        """The step as it stands in JSON documents."""
        found = self.result or Result({})
        made = self.files
        return {
            "id": self.step.id,
            "do": self.step.do,
            "input": list(self.step.inputs),
            "status": self.status,
            "why": self.why,
            "seconds": self.seconds,
            "artifact": open_artifact(made["model"]).describe() if "model" in made else None,
            "tflite": open_artifact(made["tflite"]).describe() if "tflite" in made else None,
            "measured": [dict(entry) for entry in found.measured],
            "exit_code": found.exit_code,
            "findings": [finding.describe() for finding in found.findings],
            "result": dict(found.document),
        }


@dataclass(frozen=True)
class Run:
    """What became of every step of a recipe; ``work`` is the folder that keeps it."""

    recipe: RunRecipe
    work: Path
    steps: tuple[StepRun, ...]
    seconds: float

    @property
    def exit_code(self) -> int:
        """That of the recipe's checks: 1 where one failed, else 6 where one is inconclusive, else 0."""
        codes = {step.result.exit_code for step in self.steps if step.result is not None}
        return next((code for code in (1, 6) if code in codes), 0)

    @property
    def status(self) -> str:
        """The exit code in a word: ``"ok"``, ``"failed"`` or ``"inconclusive"``."""
        return _STATUS[self.exit_code]

    @property
    def model(self) -> Path | None:
        """The last model that was made, as it runs on a device where it was exported."""
        made = [step.files for step in self.steps if "model" in step.files]
        return made[-1].get("tflite", made[-1]["model"]) if made else None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the steps noticed, each with the step's id; and that a failed check ended the run."""
        found = [
            replace(finding, message=f"{step.step.id}: {finding.message}")
            for step in self.steps
            if step.result is not None
            for finding in step.result.findings
        ]
        left = [step.step.id for step in self.steps if step.status == "left out"]
        if left:
            text = f"A check failed, so {', '.join(left)} {'was' if len(left) == 1 else 'were'} left out."
            found.append(Finding("EK777", text, "Put what is wanted anyway before the check."))
        return tuple(dict.fromkeys(found))

    def describe(self) -> dict[str, Any]:
        """The run as it stands in JSON documents."""
        document: dict[str, Any] = plain(
            {
                "recipe": str(self.recipe.path),
                "name": self.recipe.name,
                "work": str(self.work),
                "source": open_artifact(self.recipe.model).describe(),
                "model": None if self.model is None else str(self.model),
                "exit_code": self.exit_code,
                "steps": [step.describe() for step in self.steps],
                "seconds": self.seconds,
            }
        )
        return document

    def save(self, path: Path) -> None:
        """Write the run as the document that ``edgekit run --json`` prints, for ``edgekit report``.

        Raises:
            OutputError: The disk is full or read-only.
        """
        document = {
            "schema_version": 1,
            "command": "run",
            "edgekit_version": edgekit.__version__,
            "status": self.status,
            "findings": [finding.describe() for finding in self.findings],
            "result": self.describe(),
        }
        files.write_bytes(path, json.dumps(document, indent=1, allow_nan=False).encode() + b"\n")


def run(
    recipe: str | Path | RunRecipe,
    *,
    changes: Mapping[str, Any] | None = None,
    work: str | Path | None = None,
    force: Collection[str] = (),
    resume: bool = True,
    dry_run: bool = False,
    progress: Report | None = None,
) -> Run:
    """Do the steps of a recipe, each unless what is kept of it still holds.

    A run that was killed goes on where it was: finished steps are kept, and a training goes on after its last epoch.

    Args:
        recipe: A TOML file, or a recipe that was read before.
        changes: Values in the place of those of the file: ``{"qat.epochs": 5}``.
        work: The folder that keeps every step; the recipe's name with ``.run`` beside the recipe when None.
        force: Ids of steps that are done anew; what comes after them follows where it changes.
        resume: False does every step anew.
        dry_run: Only say which steps would be done, and why.
        progress: Told ``{"event": "begin", "number": 2, "count": 5, "id": "qat", ...}`` at each step, and
            what happens in it: ``{"event": "progress", "done": 3, "total": 9}``, and a training's own events.

    Raises:
        UsageError: The recipe does not fit, or another run is at work in the folder.
        EdgekitError: What a step refuses, with the step's id in the message.
    """
    began = time.perf_counter()
    loaded = recipe if isinstance(recipe, RunRecipe) else RunRecipe.load(Path(recipe), changes)
    check_options(loaded)
    known = [step.id for step in loaded.steps]
    for name in force:
        if name not in known:
            raise unknown("step", name, known)
    open_artifact(loaded.model)
    check_data(loaded)
    anew = set(known) if not resume else set(force)
    folder = Path(work) if work is not None else loaded.path.with_name(f"{loaded.path.stem}.run")
    at_work = _Work(loaded, folder.absolute(), anew, progress or (lambda _event: None))
    if dry_run:
        return Run(loaded, at_work.folder, tuple(at_work.planned()), time.perf_counter() - began)
    with _alone(at_work.folder):
        steps = tuple(at_work.done())
        found = Run(loaded, at_work.folder, steps, time.perf_counter() - began)
        found.save(at_work.folder / "run.json")
    return found


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other runs out of the folder: two trainings would write the same files."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise files.output_error(folder, error) from error
    try:
        with files.locked_folder(folder, wait=False):
            yield
    except BlockingIOError as error:
        text = f"Another run is at work in {folder}."
        raise UsageError("EK775", text, "Wait for it to end, or give --work another folder.") from error


@dataclass(frozen=True)
class _Work:
    """A recipe on its way: the folder, the steps that are done anew in any case, and who is told."""

    recipe: RunRecipe
    folder: Path
    anew: Collection[str]
    tell: Report

    def planned(self) -> Iterator[StepRun]:
        """What would become of each step; nothing is done."""
        made = {SOURCE: {"model": self.recipe.model}}
        for step in self.recipe.steps:
            needs = [name for name in self._needs(step) if name not in made]
            if needs:
                why = f"its input {', '.join(needs)} is made anew"
                yield StepRun(step, self.folder / step.id, "planned", why)
                continue
            bound = bind(step, self.recipe, self.folder, made)
            kept = self._kept(bound)
            status = "planned" if kept.result is None else "cached"
            found = StepRun(step, bound.folder, status, kept.why, kept.seconds or None, kept.result)
            if found.files:
                made[step.id] = found.files
            yield found

    def done(self) -> Iterator[StepRun]:
        """Each step, done or taken from what is kept of it."""
        made, failed = {SOURCE: {"model": self.recipe.model}}, False
        judged = Judged(self.folder / ".judged", self.recipe.model)
        for number, step in enumerate(self.recipe.steps, start=1):
            if failed:
                yield StepRun(step, self.folder / step.id, "left out", "a check failed")
                continue
            bound = bind(step, self.recipe, self.folder, made)
            found = self._step(number, bound, judged)
            failed = found.result is not None and found.result.exit_code == _FAILED
            made[step.id] = found.files
            yield found

    def _needs(self, step: StepRecipe) -> list[str]:
        """The earlier steps whose models a step reads."""
        ids = {other.id for other in self.recipe.steps}
        values = [value.get("model") if isinstance(value, dict) else value for value in step.options.values()]
        named = [value for value in values if isinstance(value, str) and value in ids]
        return [*step.inputs, *named]

    def _step(self, number: int, bound: Bound, judged: Judged) -> StepRun:
        kept, step = self._kept(bound), bound.step
        self.tell(
            {
                "event": "begin",
                "number": number,
                "count": len(self.recipe.steps),
                "id": step.id,
                "do": step.do,
                "cached": kept.result is not None,
                "why": kept.why,
                "epochs": epochs_of(bound),
            }
        )
        if kept.result is not None:
            return StepRun(step, bound.folder, "cached", "", kept.seconds, kept.result)
        began = time.perf_counter()
        try:
            result = do(bound, judged=judged, resume=step.id not in self.anew, tell=self.tell)
        except EdgekitError as error:
            text = f"Step {step.id}: {error.message}"
            raise type(error)(error.code, text, error.hint, detail=error.detail) from error
        seconds = time.perf_counter() - began
        step_cache.save(bound, result, seconds)
        return StepRun(step, bound.folder, "done", kept.why, seconds, result)

    def _kept(self, bound: Bound) -> step_cache.Kept:
        if bound.step.id in self.anew:
            return step_cache.Kept(None, 0.0, "it is to be done anew")
        return step_cache.read(bound)
