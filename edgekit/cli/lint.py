"""``edgekit lint``: mistakes in calibration data."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli._group import edgekit_command
from edgekit.cli._output import Outcome, command_line, progress

if TYPE_CHECKING:
    from rich.table import Table

    from edgekit.verbs.lint import Linting

_EPILOG = """\b
Exit codes: 0, or 7 where there is a mistake.

\b
Examples:
  edgekit lint calibration.npz --model model.keras
  edgekit lint calibration.npz --model model.tflite --against test.npz
  edgekit lint photos --model model.onnx --preprocess imagenet.toml --reference train.npz
"""
_MISTAKE = 7
_STYLES = {"clean": "green", "mistake": "red", "not run": "dim"}


@edgekit_command(epilog=_EPILOG)
@click.argument("data", metavar="DATA")
@click.option(
    "--model",
    required=True,
    type=click.Path(path_type=Path),
    metavar="MODEL",
    help="The model that the samples are for.",
)
@click.option("--against", metavar="DATA", help="Evaluation data, which must have no sample in common.")
@click.option("--reference", metavar="DATA", help="Samples known to be prepared rightly, to compare with.")
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    metavar="N",
    help="Run at most N samples through the model; all are read.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Chooses the samples that are run.")
@click.option(
    "--preprocess", metavar="SPEC", help="Preprocessing contract of the samples; none ignores the lineage's."
)
@click.option("--dry-run", is_flag=True, help="List the checks and what they need, and stop.")
def command(data: str, *, model: Path, dry_run: bool, **options: Any) -> Outcome:
    """Find mistakes in the calibration data DATA for a model.

    Wrong range, colors or axes in another order, copies, samples of the evaluation data, missing or sorted classes,
    NaN, outliers, too few samples. DATA is what `edgekit quantize --calibration` takes; its labels help.
    """
    import edgekit

    if dry_run:
        from edgekit.verbs.lint import planned

        plan, findings = planned(data, model, **options)
        steps = [f"would look for {check['looks_for']}" for check in plan["checks"]]
        return Outcome(
            {"dry_run": True, **plan},
            view=[f"would read {plan['samples']} samples of {data}", *steps],
            findings=findings,
        )
    with progress(f"reading {data}") as advance:
        found = edgekit.lint(data, model, progress=advance, **options)
    count = len(found.mistakes)
    return Outcome(
        found.describe(),
        view=[_sentence(found), _table(found)],
        findings=found.findings,
        status="failed" if count else "ok",
        exit_code=_MISTAKE if count else 0,
        next_steps=()
        if count
        else [command_line("quantize", model, "-o", "int8.tflite", "--calibration", data)],
    )


def _sentence(found: "Linting") -> str:
    count = len(found.mistakes)
    what = "no mistake was found" if not count else f"{count} mistake{'s' if count > 1 else ''}"
    name = found.artifact.path.name
    return f"{found.data}: {found.samples} samples, {found.samples_run} of them run through {name}: {what}."


def _table(found: "Linting") -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for heading in ("check", "verdict", "evidence", "fix"):
        table.add_column(heading, overflow="fold")
    for line in found.lines:
        document = line.describe()
        verdict = document["verdict"]
        table.add_row(
            Text(line.check),
            Text(verdict, style=_STYLES[verdict]),
            Text(document["evidence"]),
            Text(document["fix"]),
        )
    return table
