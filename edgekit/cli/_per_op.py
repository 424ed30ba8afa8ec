"""The times of operators as people read them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from edgekit.profiling import Profile

_LISTED = 12


def operator_times(model: str, profile: "Profile") -> "Table":
    """The operators that take longest, with all others in one line."""
    from rich.table import Table
    from rich.text import Text

    total = profile.total_us or 1.0
    slowest = sorted(profile.operators, key=lambda one: -one.mean_us)
    title = f"{model} by operator: {profile.method}, {profile.runs} runs"
    table = Table(title=title, title_justify="left")
    for heading in ("operator", "name", "us", "share", "kernels"):
        table.add_column(heading, justify="right" if heading in {"us", "share"} else "left", overflow="fold")
    for one in slowest[:_LISTED]:
        share = f"{one.mean_us / total:.1%}"
        table.add_row(*map(Text, (one.kind, one.name, f"{one.mean_us:,.1f}", share, ", ".join(one.kernels))))
    rest = slowest[_LISTED:]
    if rest:
        time_us = sum(one.mean_us for one in rest)
        table.add_row(f"{len(rest)} others", "", f"{time_us:,.1f}", f"{time_us / total:.1%}", "")
    return table
