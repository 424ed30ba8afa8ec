"""``edgekit check``: the gate of CI, which says pass, fail, or how many samples it would take to know."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli._group import edgekit_command
from edgekit.cli._output import Outcome, command_line, progress
from edgekit.cli._reports import report_options, reporting, wants_reports

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edgekit.gates import Gate
    from edgekit.sample_plan import SamplePlan
    from edgekit.workflows.check import Check

_EPILOG = """\b
Exit codes: 0 passed, 1 failed, 6 inconclusive: too few samples or too much noise to tell.

\b
Examples:
  edgekit baseline create model.keras --data test.npz -o baseline.json
  edgekit check model.int8.tflite --baseline baseline.json --data test.npz --max-drop 0.01
  edgekit check model.int8.tflite --baseline baseline.json --budget budget.toml --json
  edgekit check model.int8.tflite --baseline baseline.json --junit check.xml --markdown check.md
  edgekit check model.int8.tflite --baseline baseline.json --plan --max-drop 0.005
"""
_STATUS = {0: "ok", 1: "failed", 6: "inconclusive"}
_STYLES = {"pass": "green", "fail": "bold red", "inconclusive": "yellow"}
_INCONCLUSIVE = {"fail": "failure", "warn": "warning", "pass": "pass"}
_SHOWN_CLASSES = 10


def _limit(_context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, float]:
    """``size_bytes=300000`` as a number by its name; the budget knows which names there are."""
    found: dict[str, float] = {}
    for text in given:
        name, _, value = text.partition("=")
        try:
            found[name.strip()] = float(value) if set(value) & set(".einf") else int(value)
        except ValueError:
            raise click.BadParameter(f"{text!r} is not of the form NAME=NUMBER.") from None
    return found


@edgekit_command(epilog=_EPILOG)
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--baseline",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What `edgekit baseline create` wrote.",
)
@click.option("--data", metavar="DATA", help="The baseline's samples.  [default: where it found them]")
@click.option("--budget", type=click.Path(path_type=Path), metavar="FILE", help="A TOML file of limits.")
@click.option("--max-drop", type=float, metavar="X", help="Largest drop: 0.01 is one point.  [default: 0.01]")
@click.option("--per-class-max-drop", type=float, metavar="X", help="Largest drop of any class.")
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="NAME=X",
    callback=_limit,
    help="Any limit of a budget: size_bytes, gzip_bytes, latency_ratio, latency_ms, peak_memory_bytes, placement_pct, "
    "min_sparsity, max_clusters.",
)
@click.option("--alpha", type=float, metavar="P", help="Error rate of each verdict.  [default: 0.05]")
@click.option("--power", type=float, metavar="P", help="How often samples asked for tell.  [default: 0.8]")
@click.option("--plan", is_flag=True, help="Only say how many samples a verdict takes.")
@click.option("--sequential", is_flag=True, help="Count looks at the baseline; spend alpha once over all.")
@click.option(
    "--inconclusive",
    type=click.Choice(["fail", "warn", "pass"]),
    help="How CI sees an inconclusive verdict.  [default: exit code 6]",
)
@click.option("--samples", type=click.IntRange(min=1), metavar="N", help="Only N samples, evenly spread.")
@click.option("--reference", metavar="MODEL", help="What snr, mse and others compare with, if it was moved.")
@click.option("--baseline-model", metavar="MODEL", help="The baseline's model for latency, if it was moved.")
@click.option("--runtime", metavar="NAME", help="What executes the model.  [default: its format's]")
@click.option(
    "--workers", type=click.IntRange(min=1), metavar="N", help="Processes.  [default: one per core]"
)
@click.option("--preprocess", metavar="SPEC", help="Preprocessing contract.  [default: the baseline's]")
@click.option("--max-seconds", type=float, metavar="S", help="Time to benchmark each model.  [default: 3]")
@click.option(
    "--save-candidate",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write what was measured, ready for `edgekit baseline promote`.",
)
@report_options
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
def command(
    model: Path,
    *,
    max_drop: float | None,
    per_class_max_drop: float | None,
    alpha: float | None,
    power: float | None,
    inconclusive: str | None,
    limits: dict[str, float],
    **options: Any,
) -> Outcome:
    """Judge MODEL against a baseline: pass, fail or inconclusive.

    Both are compared sample by sample, so the verdict holds at the error rate asked for, and where the samples
    do not tell, the answer is how many would.
    """
    import edgekit

    named = {"max_drop": max_drop, "per_class_max_drop": per_class_max_drop, "alpha": alpha, "power": power}
    limits |= {name: value for name, value in named.items() if value is not None}
    if options["plan"] and wants_reports(options):
        raise click.UsageError("--plan gives no verdict, so there is nothing to report.")
    with reporting(options, overwrite=options["overwrite"]) as reported:
        with progress(f"checking {model.name}") as advance:
            found = edgekit.check(model, limits=limits, progress=advance, **options)
        code, findings = _exit_code(found, inconclusive)
        outcome = Outcome(
            {**found.describe(), "exit_code": code},
            view=_view(found),
            findings=[*found.findings, *findings],
            status=_STATUS[found.exit_code],
            exit_code=code,
            next_steps=_next_steps(found, options["save_candidate"]),
        )
        return reported(outcome)


def _exit_code(found: "Check", inconclusive: str | None) -> tuple[int, Sequence[Any]]:
    from edgekit.findings import Finding

    if found.exit_code != 6 or inconclusive is None:
        return found.exit_code, ()
    text = f"The verdict is inconclusive, which counts as a {_INCONCLUSIVE[inconclusive]}."
    return int(inconclusive == "fail"), (Finding("EK486", text),)


def _next_steps(found: "Check", saved: Path | None) -> Sequence[str]:
    if found.plan is not None or found.exit_code == 6:
        return ()
    if found.exit_code == 1:
        return [command_line("compare", found.baseline.model["path"], found.model.path, "--data", found.data)]
    return [command_line("baseline", "promote", saved, found.baseline_path)] if saved else ()


def _view(found: "Check") -> "list[RenderableType]":
    from rich.text import Text

    if found.plan is not None:
        return _plan_view(found.plan)
    reasons = [
        Text(f"{gate.name}: {gate.reason}", style="" if gate.verdict == "pass" else _STYLES[gate.verdict])
        for gate in found.gates
    ]
    method = (
        f"{found.evaluation.n:,} samples of {found.data}; error rate {found.alpha_spent:.3g} for each verdict"
    )
    verdict = Text(f"{found.verdict.value.upper()}", style=_STYLES[found.verdict])
    return [_gates_table(found.gates), *reasons, *_classes(found.gates), method, verdict]


def _gates_table(gates: Sequence["Gate"]) -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("gate")
    for heading in ("baseline", "candidate", "difference", "95% interval", "limit"):
        table.add_column(heading, justify="right")
    table.add_column("verdict")
    for gate in gates:
        ends = "" if gate.ci95 is None else " to ".join(_difference(end, gate.unit) for end in gate.ci95)
        table.add_row(
            gate.name,
            _value(gate.baseline, gate.unit),
            _value(gate.candidate, gate.unit),
            _difference(gate.difference, gate.unit),
            ends,
            _difference(gate.limit, gate.unit)
            if gate.name in {"accuracy", "per_class"}
            else _value(gate.limit, gate.unit),
            Text(gate.verdict.value, style=_STYLES[gate.verdict]),
        )
    return table


def _classes(gates: Sequence["Gate"]) -> "list[RenderableType]":
    """The classes that lost the most, where classes were judged."""
    from rich.table import Table

    judged = [gate for gate in gates if "classes" in gate.details]
    if not judged:
        return []
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("class")
    for heading in ("n", "baseline", "candidate", "drop", "95% interval", "broken", "fixed", "verdict"):
        table.add_column(heading, justify="right")
    worst = sorted(judged[0].details["classes"], key=lambda item: -item["drop"])
    for item in worst[:_SHOWN_CLASSES]:
        table.add_row(
            item["name"],
            str(item["n"]),
            _value(item["baseline"], "fraction"),
            _value(item["candidate"], "fraction"),
            _difference(item["drop"], "fraction"),
            " to ".join(_difference(end, "fraction") for end in item["drop_ci95"]),
            str(item["broken"]),
            str(item["fixed"]),
            item["verdict"],
        )
    left_out = len(worst) - _SHOWN_CLASSES
    return [table, *([f"and {left_out} more classes: see --json"] if left_out > 0 else [])]


def _plan_view(plan: "SamplePlan") -> "list[RenderableType]":
    from rich.table import Table

    from edgekit.gates import points

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("predictions that differ")
    for drop in plan.drops:
        table.add_column(f"true drop {points(drop, plan.unit)}", justify="right")
    for share, needed in plan.rows:
        seen = share is None or (plan.seen is not None and abs(share - plan.seen) < 5e-5)
        name = "as seen" if share is None else f"{100 * share:.2f}%{' (as seen)' if seen else ''}"
        table.add_row(name, *("-" if n is None else f"{n:,}" for n in needed), style="bold" if seen else "")
    head = (
        f"Samples for the right verdict at a limit of {points(plan.limit, plan.unit)}, "
        f"error rate {plan.alpha:g}, power {plan.power:g}:"
    )
    tail = f"seen on {plan.n:,} samples"
    if plan.seen is not None and plan.seen_ci95 is not None:
        low, high = plan.seen_ci95
        tail = f"{100 * plan.seen:.2f}% differ (95% {100 * low:.2f}% to {100 * high:.2f}%), {tail}"
    return [head, table, tail]


def _value(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    shown = {
        "fraction": f"{100 * value:.2f}%",
        "percent": f"{value:.1f}%",
        "bytes": f"{value:,.0f} B",
        "ms": f"{value:.3f} ms",
        "ratio": f"{value:.3f}",
        "dB": f"{value:.2f} dB",
    }
    return shown.get(unit, f"{value:.5g}")


def _difference(value: float | None, unit: str) -> str:
    """Of fractions in points, without the percent sign that would make them look like shares."""
    if value is None:
        return ""
    return f"{100 * value:+.2f}" if unit == "fraction" else _value(value, unit)
