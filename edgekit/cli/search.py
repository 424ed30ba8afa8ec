"""``edgekit search``: the best of many quantizations, in several respects at once."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli._devices import Duration
from edgekit.cli._group import edgekit_command
from edgekit.cli._options import batch_option
from edgekit.cli._output import Outcome, command_line
from edgekit.cli._searching import report, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgekit.workflows.search import Search

_EPILOG = """\b
A space says what may vary; what it leaves out stays as `edgekit quantize` has it:
  schema = 1
  [choices]                     # options of `edgekit quantize`, each with the values to try
  recipe = ["int8", "int4", "dynamic", "float16"]     # left out: all
  engine = ["ai-edge-quantizer"]                      # left out: all that fit the model
  effort = ["low", "medium"]
  calibration_samples = [64, 256]
  [spare]                       # up to so many of the layers that lose most are more exact
  layers = 6
  as = ["int8", "int16x8", "float32"]
  [layers]                      # layers by regular expression, each with the precisions to try
  "conv2d_1" = ["int8", "float32"]

\b
The same seed finds the same front however many workers there are: configurations are asked for in
generations of a fixed size. Latency as an objective is measured, and promises no such thing.

\b
Examples:
  edgekit search model.keras --calibration train.npz --data test.npz --trials 100 --output front
  edgekit search model.tflite --space space.toml --calibration train.npz --data test.npz --objective snr
  edgekit search model.tflite --calibration train.npz --data test.npz --storage s.journal --budget 30m
  edgekit search model.tflite --calibration train.npz --data test.npz --storage s.journal --resume
  edgekit search model.onnx --calibration train.npz --data test.npz --ray auto --workers 16
"""


@edgekit_command(epilog=_EPILOG)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--data", required=True, metavar="DATA", help="Labelled samples on which drops are measured.")
@click.option("--calibration", metavar="DATA", help="Samples that set the ranges; static recipes need them.")
@click.option(
    "--space",
    type=click.Path(path_type=Path),
    metavar="FILE.toml",
    help="What may vary.  [default: everything]",
)
@click.option(
    "--objective",
    "objectives",
    type=click.Choice(["size", "latency", "drop", "snr"]),
    multiple=True,
    default=["size", "drop"],
    show_default=True,
    help="What is to be best; several give a front.",
)
@click.option(
    "--trials", type=click.IntRange(min=1), default=50, show_default=True, metavar="N", help="How many."
)
@click.option(
    "--budget", "time_budget_s", type=Duration(), help="When no more trials are begun: 90s, 10m, 2h."
)
@click.option(
    "--workers", type=click.IntRange(min=1), metavar="N", help="Trials side by side.  [default: one per core]"
)
@click.option(
    "--ray", metavar="ADDRESS", help="Run them on a Ray cluster: auto, HOST:PORT or ray://HOST:PORT."
)
@click.option(
    "--sampler",
    type=click.Choice(["nsga2", "tpe", "gp", "random"]),
    default="nsga2",
    show_default=True,
    help="How Optuna chooses what is tried next; gp needs PyTorch.",
)
@click.option(
    "--generation",
    type=click.IntRange(min=2),
    default=10,
    show_default=True,
    metavar="N",
    help="Configurations that are asked for before the first answer counts.",
)
@click.option(
    "--storage",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Keep the search in this journal, and its trials beside it.",
)
@click.option("--resume", is_flag=True, help="Go on with the search in --storage.")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Keep the front's files here, with the command that makes each of them again.",
)
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE.html", help="Write the front as a page."
)
@click.option(
    "-f", "--format", type=click.Choice(["tflite", "onnx"]), help="Format.  [default: MODEL's or tflite]"
)
@click.option("--metric", help="What the drop is of.  [default: chosen from labels and outputs]")
@click.option("--preprocess", metavar="SPEC", help="Preprocessing contract of the samples.")
@batch_option()
@click.option("--overwrite", is_flag=True, help="Replace --output and --plot where they exist.")
@click.option("--seed", default=0, show_default=True, help="Chooses configurations and calibration samples.")
@click.option("--dry-run", is_flag=True, help="Print what would be searched and stop.")
def command(model: Path, *, plot: Path | None, dry_run: bool, **options: Any) -> Outcome:
    """Search for the best quantizations of MODEL.

    Recipes, options and layers vary; Optuna chooses what is tried, and processes of this machine, or a Ray cluster, try
    it. The result is the front: what no other trial beats in all objectives. Its drops were looked at while choosing,
    so judge what you take on other samples: `edgekit check`.
    """
    import edgekit
    from edgekit import files
    from edgekit.workflows.search import planned

    if dry_run:
        plan = planned(model, **options)
        return Outcome({"plan": plan}, [_plan_text(plan)])
    if plot is not None:
        files.check_output(plot, overwrite=options["overwrite"])
    found = edgekit.search(model, report=report, **options)
    if plot is not None:
        found.write_page(plot)
    return Outcome(found.describe(), _view(found), found.findings, next_steps=_next_steps(found))


def _plan_text(plan: "Mapping[str, Any]") -> str:
    lines = [
        f"{plan['trials']} trials of {plan['source_format']} to {plan['output_format']} by {plan['sampler']}"
    ]
    lines += [f"  {name}: {', '.join(map(str, values))}" for name, values in plan["space"].items()]
    lines.append(f"  for {' and '.join(plan['objectives'])}, on {plan['samples']:,} samples")
    return "\n".join(lines)


def _view(found: "Search") -> list[Any]:
    title = f"{len(found.tried)} trials, drops on {found.data}; front of {' and '.join(found.objectives)}"
    return [table(found.tried, found.on_front, title=title)]


def _next_steps(found: "Search") -> list[str]:
    if found.output is None:
        return []
    files = sorted(path for path in found.output.iterdir() if path.suffix in {".tflite", ".onnx"})
    return [command_line("benchmark", *files)]
