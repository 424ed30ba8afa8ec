"""``edgekit run``: a recipe's steps in order, from a model to a checked file, each kept on disk."""

import tomllib
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli._group import edgekit_command
from edgekit.cli._output import Outcome, command_line, say
from edgekit.cli._training import duration, epoch_progress

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edgekit.workflows.run import Run, StepRun

_EPILOG = """\b
A recipe:
  [recipe]
  schema = 1
  model = "model.keras"
  [data]
  train = "train.npz"
  test = "test.npz"
  [[step]]
  do = "qat"
  epochs = 5
  [[step]]
  do = "evaluate"
  [check]
  max_drop = 0.01
  size_bytes = 100000

\b
Steps: prune, cluster, distill, qat, quantize, evaluate, benchmark, compare, check. Their options are the keyword
arguments of the Python functions of the same names. A step reads the model of the step before it, or of input = "ID".

\b
Exit codes: those of the checks: 0 passed, 1 failed, 6 inconclusive.

\b
Examples:
  edgekit run recipe.toml --dry-run
  edgekit run recipe.toml
  edgekit run recipe.toml --set qat.epochs=10 --set data.test=other.npz
  edgekit run recipe.toml --force qat --work /tmp/run --html run.html
"""


def _changes(_context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, Any]:
    """``qat.epochs=5`` as a value of TOML by its name; what is no TOML is a text, so that quotes may be left out."""
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or "." not in name:
            raise click.BadParameter(f"{text!r} is not of the form STEP.OPTION=VALUE.")
        try:
            found[name.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            found[name.strip()] = value
    return found


@edgekit_command(epilog=_EPILOG)
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="STEP.OPTION=VALUE",
    callback=_changes,
    help="Change the recipe for this run. May be repeated.",
)
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder that keeps every step.  [default: RECIPE's name with .run]",
)
@click.option("--force", multiple=True, metavar="STEP", help="Do a step anew. May be repeated.")
@click.option(
    "--resume/--no-resume",
    default=True,
    show_default=True,
    help="Take finished steps from what is kept of them.",
)
@click.option("--dry-run", is_flag=True, help="Say which steps would be done, and why.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write a page about the run.")
@click.option("--overwrite", is_flag=True, help="Replace a page that exists.")
def command(recipe: Path, *, html: Path | None, overwrite: bool, **options: Any) -> Outcome:
    """Do the steps of a recipe: train, quantize, measure, check.

    Steps that are done are kept, and done again only when something that they depend on has changed. After ctrl-C
    or a kill the same command goes on, a training after its last epoch.
    """
    import edgekit
    from edgekit import files

    if html is not None:
        files.check_output(html, overwrite=overwrite)
    with _Teller() as told:
        found = edgekit.run(recipe, progress=told, **options)
    if options["dry_run"]:
        return Outcome({**found.describe(), "dry_run": True}, [_plan(found)])
    if html is not None:
        saved = [
            found.work / "run.json",
            *(step.files["comparison"] for step in found.steps if "comparison" in step.files),
        ]
        edgekit.report(saved, html, title=found.recipe.name, overwrite=overwrite)
    steps = [command_line("inspect", found.model)] if found.model is not None else []
    return Outcome(
        found.describe(),
        _view(found),
        found.findings,
        status=found.status,
        exit_code=found.exit_code,
        next_steps=steps,
    )


class _Teller:
    """Turns the events of a run into lines and bars, one step after the other."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._step: Any = None

    def __enter__(self) -> "_Teller":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stack.close()
        if kind is KeyboardInterrupt:
            say("Finished steps are kept: the same command goes on from here.")

    def __call__(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "begin":
            self._begin(event)
        elif event["event"] == "progress":
            self._step({"event": "step", "epoch": 0, "step": event["done"], "steps": event["total"]})
        else:
            self._step(event)

    def _begin(self, event: Mapping[str, Any]) -> None:
        self._stack.close()
        head = f"step {event['number']} of {event['count']}: {_name(event['id'], event['do'])}"
        say(f"{head} (cached)" if event["cached"] else f"{head} ({event['why']})")
        self._step = self._stack.enter_context(epoch_progress(event["id"], event["epochs"] or 1))


def _name(name: str, do: str) -> str:
    return do if name == do else f"{name} ({do})"


def _plan(found: "Run") -> "RenderableType":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("step", "from", "would be", "because"):
        table.add_column(heading)
    for step in found.steps:
        would = "taken from what is kept" if step.status == "cached" else "done"
        table.add_row(_name(step.step.id, step.step.do), ", ".join(step.step.inputs), would, step.why)
    return table


def _view(found: "Run") -> "list[RenderableType]":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("step")
    for heading in ("", "time", "bytes", "metric", "95% interval", "drop", "95% interval"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for step in found.steps:
        took = "" if step.seconds is None else duration(step.seconds)
        cells = [_name(step.step.id, step.step.do), step.status, took, _bytes(step)]
        rows = [_measured(entry) for entry in (step.result.measured if step.result else ())] or [[""] * 4]
        table.add_row(*cells, *rows[0], _remark(step))
        for row in rows[1:]:
            table.add_row("", "", "", "", *row)
    style, word = {0: ("green", "OK"), 1: ("bold red", "FAILED"), 6: ("yellow", "INCONCLUSIVE")}[
        found.exit_code
    ]
    last = [] if found.model is None else [f"{found.model}: {found.model.stat().st_size:,} B"]
    judged = any(step.step.do == "check" and step.result for step in found.steps)
    return [table, *_reasons(found), *last, *([Text(word, style=style)] if judged else [])]


def _reasons(found: "Run") -> list[str]:
    """What each gate of the checks says."""
    gates = [
        gate
        for step in found.steps
        if step.step.do == "check" and step.result
        for gate in step.result.document["gates"]
    ]
    return [f"{gate['name']}: {gate['reason']}" for gate in gates]


def _bytes(step: "StepRun") -> str:
    runnable = step.files.get("tflite", step.files.get("model"))
    return "" if runnable is None else f"{runnable.stat().st_size:,}"


def _measured(entry: Mapping[str, Any]) -> list[str]:
    """An evaluation: the metric and its drop against the source, fractions as points of a hundred."""
    scale = 100 if entry["unit"] == "fraction" else 1

    def points(value: float | None, form: str) -> str:
        return "" if value is None else format(scale * value, form)

    low, high = (points(end, ".2f") for end in entry["ci95"])
    value = f"{entry['input']} {entry['metric']} {points(entry['value'], '.2f')}"
    if entry["drop"] is None:
        return [value, f"{low} to {high}", "", ""]
    ends = " to ".join(points(end, "+.2f") for end in entry["drop_ci95"])
    return [value, f"{low} to {high}", points(entry["drop"], "+.2f"), ends]


def _remark(step: "StepRun") -> str:
    """What a check or a benchmark came to."""
    document = step.result.document if step.result else {}
    if step.step.do == "check" and document:
        return str(document["verdict"])
    if step.step.do != "benchmark" or not document:
        return "" if step.status == "done" else step.why
    models = document.get("models", [document])
    times = ", ".join(f"{model['latency_ms']['median']:.3f} ms" for model in models)
    ratios = ", ".join(f"{ratio['median_ratio']:.3f}" for ratio in document.get("ratios", []))
    return f"{times}; ratio {ratios}" if ratios else times
