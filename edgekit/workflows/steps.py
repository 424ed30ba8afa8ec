"""The steps of a run: which options each takes, which files and data it reads, and doing it."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

import edgekit
from edgekit import option_types
from edgekit.budget import Budget
from edgekit.catalog import unknown
from edgekit.data import open_dataset
from edgekit.documents import plain
from edgekit.errors import UsageError
from edgekit.findings import Finding
from edgekit.interleaved import BenchmarkOptions
from edgekit.recipe import Recipe
from edgekit.run_recipe import KINDS, MAKERS, SOURCE, RunRecipe, StepRecipe, beside
from edgekit.train.job import Job
from edgekit.workflows.input_digests import DATA_ARGUMENTS, DATA_ROLES, FILE_ARGUMENTS
from edgekit.workflows.judged import Judged

Tell = Callable[[Mapping[str, Any]], None]

# Keyword arguments of the verbs that a run sets itself.
_OWN = frozenset(
    [
        "model",
        "models",
        "output",
        "overwrite",
        "resume",
        "progress",
        "tflite",
        "method",
        "place",
        "bench",
        "keep_digests",
        "save_predictions",
        "save_candidate",
        "options",
        "training",
        "epochs_before",
        "baseline",
        "baseline_model",
        "budget",
        "limits",
        "plan",
    ]
)
_TIMED = {"benchmark", "compare", "check"}


@dataclass(frozen=True)
class Result:
    """What a step gave, as it is kept on disk.

    ``files`` are those that the step made, by their kind: ``{"model": "qat.keras", "tflite": "qat.tflite"}``.
    ``document`` is the verb's own JSON; ``measured`` holds an entry for each model that was evaluated.
    """

    document: Mapping[str, Any]
    findings: tuple[Finding, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    measured: tuple[Mapping[str, Any], ...] = ()
    exit_code: int = 0


@dataclass(frozen=True)
class Bound:
    """A step with everything that it reads: the verb's arguments, and the data and files among them.

    ``models`` are the files of its inputs by their ids, once those exist.
    """

    step: StepRecipe
    folder: Path
    arguments: Mapping[str, Any]
    models: Mapping[str, Path]

    @property
    def is_timed(self) -> bool:
        """Whether the result belongs to the machine that it was measured on."""
        return self.step.do in _TIMED

    @property
    def trains(self) -> bool:
        """Whether the step goes on after its last epoch when it was interrupted."""
        return trains(self.step.do)


def trains(do: str) -> bool:
    """Whether a kind of step trains."""
    return do in MAKERS and "train_data" in _parameters(do)


def epochs_of(bound: Bound) -> int | None:
    """How many epochs a step trains, None where it does not train."""
    if not bound.trains:
        return None
    return int(bound.arguments.get("epochs", _parameters(bound.step.do)["epochs"].default))


def check_options(recipe: RunRecipe) -> None:
    """Refuse what no step can be done with, before the first one is done.

    Raises:
        UsageError: An option is unknown, of the wrong type, or data are missing.
    """
    for step in recipe.steps:
        if step.do not in edgekit.__all__:
            raise unknown("step", step.do, [kind for kind in KINDS if kind in edgekit.__all__])
        known = known_options(step.do)
        for name, value in step.options.items():
            if name not in known:
                raise unknown(f"option of {step.id}", name, sorted(known))
            if not option_types.fits(value, known[name]):
                text = f"{name} of {step.id} is {value!r}; it must be {option_types.in_words(known[name])}."
                raise UsageError("EK771", text)
        if step.options.get("strategy") == "multiworker":
            hint = (
                "Train on several workers with the command of the step, and begin the recipe with its model."
            )
            raise UsageError(
                "EK739", f"A recipe does not train on several workers, as {step.id} shall.", hint
            )
        _check_needs(step, recipe)


def check_data(recipe: RunRecipe) -> None:
    """Refuse data that are not there before hours are spent on the steps that do not need them.

    Raises:
        DataError: There is nothing at a path, or it cannot be read.
    """
    base = recipe.path.resolve().parent
    found = [_arguments(step, recipe).items() for step in recipe.steps]
    specs = {str(value) for items in found for name, value in items if name in DATA_ARGUMENTS}
    for spec in sorted(specs):
        open_dataset(beside(base, spec))


def bind(step: StepRecipe, recipe: RunRecipe, work: Path, made: Mapping[str, Mapping[str, Path]]) -> Bound:
    """A step with its files.

    Args:
        step: The step.
        recipe: Where the data and the folder are said.
        work: The folder of the run.
        made: The files of every step that is done, by its id.
    """
    arguments = _arguments(step, recipe)
    base = recipe.path.resolve().parent
    for name in FILE_ARGUMENTS & arguments.keys():
        value = arguments[name]
        pick = _trainable if name == "teacher" else _runnable
        where = value if isinstance(value, dict) else {"model": value}
        if isinstance(where.get("model"), str):
            path = where["model"]
            path = str(pick(made[path])) if path in made else beside(base, path)
            arguments[name] = {**value, "model": path} if isinstance(value, dict) else path
    wanted = (*step.inputs, *([arguments["against"]] if "against" in arguments else []))
    pick = _trainable if step.do in MAKERS else _runnable
    return Bound(step, work / step.id, arguments, {name: pick(made[name]) for name in wanted})


def do(bound: Bound, *, judged: Judged, resume: bool, tell: Tell) -> Result:
    """Do a step; its files lie in its folder afterwards.

    Raises:
        EdgekitError: What the verb refuses.
    """
    bound.folder.mkdir(parents=True, exist_ok=True)
    if bound.step.do in MAKERS:
        return _make(bound, resume=resume, tell=tell)
    work = {"evaluate": _evaluate, "benchmark": _benchmark, "compare": _compare, "check": _check}
    return work[bound.step.do](bound, judged, tell)


def _make(bound: Bound, *, resume: bool, tell: Tell) -> Result:
    step, arguments = bound.step, dict(bound.arguments)
    verb = getattr(edgekit, step.do)
    is_onnx = step.do == "quantize" and arguments.get("format") == "onnx"
    suffix = ".keras" if bound.trains else ".onnx" if is_onnx else ".tflite"
    made = {"model": f"{step.id}{suffix}"}
    if bound.trains:
        arguments |= {"resume": resume, "progress": tell}
        if step.tflite:
            made["tflite"] = f"{step.id}.tflite"
            arguments["tflite"] = str(bound.folder / made["tflite"])
    else:
        arguments["progress"] = _counted(tell)
    known = known_options(step.do)
    arguments = {name: option_types.made(value, known.get(name)) for name, value in arguments.items()}
    output = bound.folder / made["model"]
    found = verb(bound.models[step.inputs[0]], output, overwrite=True, **arguments)
    return Result(plain(found.describe()), tuple(found.findings), made)


def _evaluate(bound: Bound, judged: Judged, tell: Tell) -> Result:
    arguments = dict(bound.arguments)
    data = arguments.pop("data")
    measured: list[Mapping[str, Any]] = []
    findings: list[Finding] = []
    for name in bound.step.inputs:
        found, noticed = judged.compared(name, bound.models[name], data, arguments, _counted(tell))
        measured.append(found)
        findings += noticed
    return Result({"evaluations": measured}, tuple(dict.fromkeys(findings)), measured=tuple(measured))


def _benchmark(bound: Bound, _judged: Judged, tell: Tell) -> Result:
    from edgekit.verbs.benchmark import benchmark

    options = BenchmarkOptions(**bound.arguments)
    found = benchmark(list(bound.models.values()), options, progress=_counted(tell))
    return Result(plain(found.describe()), found.findings)


def _compare(bound: Bound, _judged: Judged, tell: Tell) -> Result:
    from edgekit.workflows.compare import compare

    arguments = dict(bound.arguments)
    data = arguments.pop("data")
    found = compare(list(bound.models.values()), data, progress=_counted(tell), **arguments)
    found.save(bound.folder / "comparison.json")
    return Result(plain(found.describe()), found.findings, {"comparison": "comparison.json"})


def _check(bound: Bound, judged: Judged, tell: Tell) -> Result:
    from edgekit.workflows.check import check

    arguments = dict(bound.arguments)
    limits = {name: arguments.pop(name) for name in _limits() if name in arguments}
    against, metric = arguments.pop("against"), arguments.pop("metric", None)
    data = arguments.pop("data")
    shared: dict[str, Any] = {
        name: arguments[name] for name in ("samples", "workers", "preprocess") if name in arguments
    }
    baseline = judged.baseline(bound.models[against], data, {"metric": metric} | shared, _counted(tell))
    found = check(
        bound.models[bound.step.inputs[0]],
        baseline,
        data=data,
        limits=limits,
        baseline_model=bound.models[against],
        progress=_counted(tell),
        **arguments,
    )
    return Result(plain(found.describe()), found.findings, exit_code=found.exit_code)


def _counted(tell: Tell) -> Callable[[int, int], None]:
    return lambda done, total: tell({"event": "progress", "done": done, "total": total})


def _trainable(made: Mapping[str, Path]) -> Path:
    return made["model"]


def _runnable(made: Mapping[str, Path]) -> Path:
    """What is measured of a training that exported its model too is what was exported."""
    return made.get("tflite", made["model"])


def _parameters(do: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(getattr(edgekit, do)).parameters


def known_options(do: str) -> dict[str, Any]:
    """The options of a step, with their types: the keyword arguments of the verb that a file can hold."""
    verb = getattr(edgekit, do)
    hints = {name: hint for name, hint in get_type_hints(verb).items() if name in _parameters(do)}
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in _parameters(do).values()):
        # What the verb says of an argument itself goes before; tables of a job are its own business.
        job = {name: hint for name, hint in _typed_fields(Job).items() if not option_types.fits({}, hint)}
        hints = job | hints
    if do == "benchmark":
        hints |= _typed_fields(BenchmarkOptions)
    if do == "check":
        hints |= {**_typed_fields(Budget), "against": str, "metric": str}
    if do in MAKERS:
        for name in list(_parameters(do))[:2]:
            hints.pop(name, None)
    if trains(do):
        hints.pop("train", None)
    return {name: hint for name, hint in hints.items() if name not in _OWN}


def _typed_fields(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {item.name: hints[item.name] for item in fields(kind)}


def _limits() -> tuple[str, ...]:
    return tuple(item.name for item in fields(Budget))


def _arguments(step: StepRecipe, recipe: RunRecipe) -> dict[str, Any]:
    """The options of a step, and the recipe's data where the step says nothing else."""
    known = known_options(step.do)
    # Inputs of a benchmark do not change its time: they are given where the step asks for them.
    roles = {} if step.do == "benchmark" else DATA_ROLES
    data = {name: recipe.data[role] for name, role in roles.items() if name in known and role in recipe.data}
    arguments = {**data, **step.options}
    if step.do == "check":
        arguments.setdefault("against", SOURCE)
    return arguments


def _check_needs(step: StepRecipe, recipe: RunRecipe) -> None:
    arguments = _arguments(step, recipe)
    needed = [
        name for name in DATA_ROLES if name in known_options(step.do) and name in {"train_data", "data"}
    ]
    if step.do == "benchmark":
        needed = []
    if step.do == "quantize" and Recipe.load(_recipe_of(step, recipe)).needs_calibration:
        needed.append("calibration")
    for name in needed:
        if name not in arguments:
            text = f"{step.id} needs {name}, and [data] of {recipe.path} has no {DATA_ROLES[name]}."
            raise UsageError("EK774", text, f'Add it: [data] {DATA_ROLES[name]} = "FILE.npz"')
    required = [
        name
        for name, parameter in list(_parameters(step.do).items())
        if parameter.default is parameter.empty and parameter.kind is parameter.KEYWORD_ONLY
    ]
    for name in required:
        if name not in arguments and name not in _OWN:
            raise UsageError("EK774", f"{step.id} needs {name}.", f'Add it to the step: {name} = "..."')
    against = arguments.get("against", SOURCE)
    if against != SOURCE and against not in [other.id for other in recipe.steps if other.do in MAKERS]:
        text = f"{step.id} is to be checked against {against!r}, which is no step that makes a model."
        raise UsageError("EK773", text, "Name an earlier step, or source.")


def _recipe_of(step: StepRecipe, recipe: RunRecipe) -> str:
    name = str(step.options.get("recipe", "int8"))
    return beside(recipe.path.resolve().parent, name) if name.endswith(".toml") else name
