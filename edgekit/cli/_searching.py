"""What the two searches have in common on the command line: lines while they run, and the table of what was tried."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgekit.cli._output import say

if TYPE_CHECKING:
    from rich.table import Table

    from edgekit.workflows.searching.tried import Tried

_MOST_ROWS = 40


def report(tried: "Tried") -> None:
    """A line on standard error for each trial as it is done."""
    head = f"trial {tried.number}: {tried.configuration.name}"
    if not tried.is_done:
        say(f"{head}: {tried.document['error']['message']}")
        return
    kept = ", kept from before" if tried.was_kept else ""
    found = tried.document
    say(f"{head}: {found['size_bytes']:,} B, {tried.snr_db:.1f} dB, drop {drop_text(tried)}{kept}")


def drop_text(tried: "Tried") -> str:
    """The drop with its interval, in points where the metric is a share."""
    scale = 100 if tried.document["unit"] == "fraction" else 1
    low, high = tried.document["drop_ci95"]
    ends = [
        ("-inf", "inf")[number] if end is None else f"{scale * end:+.2f}"
        for number, end in enumerate((low, high))
    ]
    return f"{scale * tried.drop:+.2f} [{ends[0]}, {ends[1]}]"


def table(
    tried: Sequence["Tried"], on_front: Sequence[bool], *, title: str, winner: int | None = None
) -> "Table":
    """All trials by size: what each is, and whether another beats it."""
    from rich.table import Table

    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    made.add_column("#", justify="right")
    made.add_column("configuration")
    for heading in ("size", "latency", "SNR", "drop, 95% interval", "n"):
        made.add_column(heading, justify="right")
    made.add_column("")
    done = [(one, front) for one, front in zip(tried, on_front, strict=True) if one.is_done]
    # Without those that an equal configuration answered, and of many the best alone.
    once = list({one.key: (one, front) for one, front in reversed(done)}.values())
    shown = (
        once
        if len(once) <= _MOST_ROWS
        else [(one, front) for one, front in once if front or one.number == winner]
    )
    for one, front in sorted(shown, key=lambda pair: (pair[0].document["size_bytes"], pair[0].number)):
        mark = "winner" if one.number == winner else "front" if front else ""
        latency = "" if one.latency_ms is None else f"{one.latency_ms:.3g} ms"
        made.add_row(
            str(one.number),
            one.configuration.name,
            f"{one.document['size_bytes']:,} B",
            latency,
            f"{one.snr_db:.1f} dB",
            drop_text(one),
            f"{one.document['n']:,}",
            mark,
            style="bold" if mark == "winner" else "" if front else "dim",
        )
    return made
