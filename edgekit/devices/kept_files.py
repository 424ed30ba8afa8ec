"""What runs that are over leave on a device: models kept for the next run, and pieces of what was cut off.

A model that a worker runs at this moment is never removed: workers carry its path in their environment. What was
not used for a day may go; after a new model was sent that happens by itself, but for the four that were used last.
Releases are no matter of this file: deployments keep their own folder tidy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.devices.shell import Shell
from edgekit.errors import DeviceError

# Set for workers: the path of the model that they run.
IN_USE = "EDGEKIT_MODEL"

_DAY_MINUTES = 1440
# A piece that younger than this may belong to a run that goes on, whatever else is to be removed.
_HOUR_MINUTES = 60
_NEWEST = 4
_SWEEP_S = 120.0
# $1 folder, $2 age in minutes of models, 0 for any, $3 that of pieces, $4 how many models stay in any case, $5 "remove"
# or "show". One line for each: what becomes of it, what it is, its bytes, its path. Of models whose names are not
# edgekit's nothing is said.
_SWEEP = (
    'cd "$1" 2>/dev/null || exit 0; here=$1 age=$2 pieces=$3 newest=$4 doing=$5; '
    'is_old() { [ "$2" = 0 ] || [ -n "$(find "$1" -prune -mmin "+$2" 2>/dev/null)" ]; }; '
    f'is_used() {{ grep -qsF "{IN_USE}=$here/$1" /proc/[0-9]*/environ; }}; '
    'bytes() { if [ -d "$1" ]; then k=$(du -sk "$1"); echo $((${k%%[!0-9]*} * 1024)); else wc -c < "$1"; fi; }; '
    'say() { size=$(bytes "$2"); what=$3; if [ "$what" = may ] && [ "$doing" = remove ]; then '
    'rm -rf "$2" 2>/dev/null; if [ -e "$2" ]; then what=stuck; else what=gone; fi; fi; '
    'echo "$what" "$1" $size "$2"; }; '
    'ls -1t models 2>/dev/null | grep -E "^[0-9a-f]{64}" | { n=0; while IFS= read -r f; do '
    'case $f in *.part) continue; esac; f="models/$f"; [ -f "$f" ] || continue; n=$((n + 1)); '
    'if [ "$n" -gt "$newest" ] && is_old "$f" "$age" && ! is_used "$f"; then say model "$f" may; '
    'else say model "$f" stays; fi; done; }; '
    '{ find models tools runtimes -type f -name "*.part" 2>/dev/null; '
    "for f in runtimes/*.new runtimes/*.tar.gz runtimes/.trial-* .edgekit-probe-* */.edgekit-probe-*; do "
    '[ -e "$f" ] && echo "$f"; done; } | while IFS= read -r f; do '
    'if is_old "$f" "$pieces"; then say piece "$f" may; else say piece "$f" stays; fi; done; exit 0'
)
_TOUCH = 'touch -c "$1"'


@dataclass(frozen=True)
class KeptFile:
    """A file, or a folder of a set-up that was cut off. ``path`` is below edgekit's folder.

    ``kind`` is model or piece. ``state`` is stays, may (be removed), gone, or stuck, where it could not be removed.
    """

    path: str
    kind: str
    size_bytes: int
    state: str

    def describe(self) -> dict[str, Any]:
        """The file as it stands in JSON documents."""
        return {
            "path": self.path,
            "kind": self.kind,
            "size_bytes": self.size_bytes,
            "removable": self.state != "stays",
        }


def look(shell: Shell, *, everything: bool = False) -> tuple[KeptFile, ...]:
    """What lies on a device, and what of it may be removed; see ``clean``.

    Raises:
        DeviceError: The link is lost.
    """
    return _sweep(shell, "show", everything=everything)


def clean(shell: Shell, *, everything: bool = False) -> tuple[KeptFile, ...]:
    """Remove what was not used for a day, and no worker uses.

    Args:
        shell: The device.
        everything: Remove all models that no worker uses, and what is older than an hour of what was cut off.

    Returns:
        All that lay there.

    Raises:
        DeviceError: The link is lost, or something cannot be removed.
    """
    found = _sweep(shell, "remove", everything=everything)
    stuck = [file.path for file in found if file.state == "stuck"]
    if stuck:
        raise DeviceError(
            "EK819",
            f"{len(stuck)} files on {shell.device.name} cannot be removed, {shell.folder}/{stuck[0]} the first.",
            "Somebody else may own them, or the disk be read-only. Look there by hand.",
        )
    return found


def used(shell: Shell, path: str, *, is_new: bool) -> None:
    """Note that a model is used now. After a new one was sent, old ones are removed.

    A device that cannot do it keeps what it has: no run fails for that.

    Raises:
        DeviceError: The link is lost.
    """
    shell.script(_TOUCH, path, check=False)
    if is_new:
        _sweep(shell, "remove", newest=_NEWEST)


def total_bytes(found: Sequence[KeptFile]) -> int:
    """The bytes of several."""
    return sum(file.size_bytes for file in found)


def _sweep(shell: Shell, doing: str, *, everything: bool = False, newest: int = 0) -> tuple[KeptFile, ...]:
    ages = ("0", str(_HOUR_MINUTES)) if everything else (str(_DAY_MINUTES), str(_DAY_MINUTES))
    done = shell.script(
        _SWEEP,
        shell.folder,
        *ages,
        str(newest),
        doing,
        deadline_s=max(_SWEEP_S, shell.limits.command_s),
        check=False,
    )
    found = []
    for line in done.output.decode(errors="replace").splitlines():
        state, _, rest = line.partition(" ")
        kind, _, rest = rest.partition(" ")
        size, _, path = rest.partition(" ")
        if state in {"stays", "may", "gone", "stuck"} and size.isdigit():
            found.append(KeptFile(path, kind, int(size), state))
    return tuple(found)
