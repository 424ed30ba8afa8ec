"""How long does ``edgekit --help`` take? Wanted: under 0.25 s.

python benchmarks/startup.py
"""

import statistics
import sys

import _commands

LIMIT_S = 0.25
_RUNS = 11


def main() -> int:
    """Time whole processes; exit 1 where the median is above the limit."""
    _commands.seconds(["edgekit", "--help"])
    times = [_commands.seconds(["edgekit", "--help"]) for _ in range(_RUNS)]
    bare = [_commands.seconds([sys.executable, "-c", "import click"]) for _ in range(_RUNS)]
    median = statistics.median(times)
    print(
        f"edgekit --help: median {median:.3f} s of {_RUNS} runs ({min(times):.3f} to {max(times):.3f}), "
        f"python -c 'import click': {statistics.median(bare):.3f} s, limit {LIMIT_S} s"
    )
    return 0 if median <= LIMIT_S else 1


if __name__ == "__main__":
    sys.exit(main())
