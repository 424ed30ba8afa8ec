"""``edgekit report``: saved runs as one HTML page."""

from pathlib import Path

import click

from edgekit.cli._group import edgekit_command
from edgekit.cli._output import Outcome

_EPILOG = """\b
Examples:
  edgekit compare float.tflite int8.tflite --data test.npz --save run.json
  edgekit report run.json --html report.html
  edgekit quantize model.keras -o int8.tflite --calibration DATA --json > made.json
  edgekit report run.json made.json --html report.html --title "Release 7"
"""


@edgekit_command(epilog=_EPILOG)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option(
    "--html", required=True, type=click.Path(path_type=Path), metavar="FILE", help="The page to write."
)
@click.option("--title", metavar="TEXT", help="The page's heading.  [default: the run's name]")
@click.option("--overwrite", is_flag=True, help="Replace the page if it exists.")
def command(runs: tuple[Path, ...], *, html: Path, title: str | None, overwrite: bool) -> Outcome:
    """Write one HTML page that shows saved RUNs.

    A RUN is a file of `edgekit compare --save` or `benchmark --save`, a baseline, or what any command printed with
    --json. The page needs no network and no other file, and can be printed.
    """
    import edgekit

    written = edgekit.report(runs, html, title=title, overwrite=overwrite)
    count = len(written.runs)
    line = f"{html}: {count} run{'s' if count > 1 else ''}, {written.size_bytes / 1000:,.0f} kB"
    return Outcome(written.describe(), [line], written.findings)
