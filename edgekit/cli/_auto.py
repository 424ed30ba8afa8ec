"""`edgekit quantize --auto`: its options, and how its result is shown."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli._output import Outcome, command_line, progress
from edgekit.cli._searching import report, table

if TYPE_CHECKING:
    from edgekit.workflows.auto import AutoQuantized

_STATUS = {0: "ok", 1: "failed", 6: "inconclusive"}
# What the search takes from the command; all other options are what it searches for, or does not know.
_TAKEN = ("calibration", "preprocess", "format", "io", "batch", "time_budget_s", "overwrite", "seed")


def auto_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--auto`` and what belongs to it."""
    for option in (
        click.option(
            "--workers",
            type=click.IntRange(min=1),
            metavar="N",
            help="With --auto: trials side by side.  [default: 1]",
        ),
        click.option(
            "--judge",
            metavar="DATA",
            help="With --auto: other labelled samples for the verdict.  [default: half of --evaluate]",
        ),
        click.option(
            "--objective",
            type=click.Choice(["size", "latency"]),
            help="With --auto: what is to be small.  [default: size]",
        ),
        click.option(
            "--auto",
            is_flag=True,
            help="Search for the best recipe, and judge it on samples not searched on.",
        ),
    ):
        command = option(command)
    return command


def taken(options: dict[str, Any]) -> dict[str, Any]:
    """The options of ``--auto``, taken out of those of the command.

    Raises:
        click.UsageError: They were given without ``--auto``.
    """
    given = {name: options.pop(name) for name in ("auto", "objective", "judge", "workers")}
    if not given["auto"]:
        lonely = [name for name, value in given.items() if value not in {None, False}]
        if lonely:
            raise click.UsageError(f"--{lonely[0].replace('_', '-')} belongs to --auto.")
    return given


def auto(
    model: Path, output: Path, options: Mapping[str, Any], given: Mapping[str, Any], *, dry_run: bool
) -> Outcome:
    """Search, and show what was found."""
    import edgekit
    from edgekit.workflows.auto import planned

    _check(options, given)
    shared = {name: options[name] for name in _TAKEN}
    shared |= {"judge": given["judge"], "metric": options["metric"]}
    if dry_run:
        plan = planned(model, output, options["evaluate"], **shared)
        return Outcome({"plan": plan}, [_plan_text(plan)])
    with progress(f"judging {model.name}") as advance:
        found = edgekit.auto_quantize(
            model,
            output,
            options["evaluate"],
            max_drop=options["max_drop"],
            objective=given["objective"] or "size",
            workers=given["workers"] or 1,
            report=report,
            progress=advance,
            **shared,
        )
    steps = [command_line("benchmark", found.artifact.path)] if found.exit_code != 1 else []
    return Outcome(
        found.describe(),
        _view(found),
        found.findings,
        status=_STATUS[found.exit_code],
        exit_code=found.exit_code,
        next_steps=steps,
    )


def _check(options: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    if options["max_drop"] is None or options["evaluate"] is None:
        raise click.UsageError("--auto needs --max-drop POINTS and --evaluate DATA.")
    known = {*_TAKEN, *given, "model", "output", "evaluate", "max_drop", "metric", "dry_run"}
    context = click.get_current_context()
    for parameter in context.command.params:
        name = parameter.name or ""
        asked = context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if asked and parameter.expose_value and name not in known:
            text = f"{parameter.opts[-1]} is what --auto searches for, or does not know."
            raise click.UsageError(text)


def _plan_text(plan: Mapping[str, Any]) -> str:
    lines = [f"{plan['source_format']} to {plan['output_format']}; trials are kept in {plan['trials']}"]
    lines += [f"  first: {name}" for name in plan["first"]]
    lines += [
        f"  then, where that loses too much, {name}: {', '.join(values)}"
        for name, values in plan["knobs"].items()
    ]
    lines.append("  then the most sensitive layers more exactly")
    lines.append(f"  searched on {plan['searched']:,} samples, judged on {plan['judged']:,} others")
    return "\n".join(lines)


def _view(found: "AutoQuantized") -> list[Any]:
    judged, winner = found.judged, found.winner
    title = f"tried on {found.searched}"
    written = f"{found.artifact.path}: {winner.configuration.name}, {found.artifact.size_bytes:,} B"
    if found.exit_code == 1:
        written = f"nothing was written; the best found is {winner.configuration.name}"
    return [
        table(found.tried, found.on_front, title=title, winner=winner.number),
        written,
        judged.sentence(),
        f"the limit of {judged.limit_text()}: {judged.verdict.value.upper()}",
    ]
