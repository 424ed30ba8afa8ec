"""Options that several commands share."""

from collections.abc import Callable
from typing import Any

import click


def _batch(_ctx: click.Context, _parameter: click.Parameter, value: str) -> int | None:
    if value == "free":
        return None
    if not value.isdigit() or int(value) < 1:
        raise click.BadParameter(f"{value!r} is neither a number nor 'free'")
    return int(value)


def batch_option() -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``--batch N|free``: the size of the batch axis in what is written, None for a free one."""
    return click.option(
        "--batch",
        default="1",
        show_default=True,
        metavar="N|free",
        callback=_batch,
        help="Batch size fixed in the file.",
    )
