"""Where things are found by name: the files of an extension point, and the data shipped with the package."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from edgekit.errors import UsageError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

_PACKAGE = Path(__file__).parent
_LISTED = 20


def names(kind: str) -> list[str]:
    """The extensions of one kind (``"metrics"``), sorted: every file of its folder, and every entry point.

    A file whose name begins with an underscore is no extension.
    """
    built_in = {file.stem for file in (_PACKAGE / kind).glob("[!_]*.py")}
    return sorted(built_in | {point.name for point in _plugins(kind)})


def load(kind: str, name: str) -> ModuleType:
    """Import one extension: ``load("metrics", "top1")``.

    Raises:
        UsageError: There is none of this name; the nearest one is named.
    """
    if name.isidentifier() and not name.startswith("_") and (_PACKAGE / kind / f"{name}.py").is_file():
        return importlib.import_module(f"edgekit.{kind}.{name}")
    for point in _plugins(kind):
        if point.name == name:
            module: ModuleType = point.load()
            return module
    raise unknown(kind.removesuffix("s"), name, names(kind))


def _plugins(kind: str) -> "Iterator[EntryPoint]":
    """The entry points that other packages register in the group ``edgekit.<kind>``."""
    # importlib.metadata takes as long to import as all of edgekit's command line, and most have no plug-in.
    if not any(
        b"[edgekit." in file.read_bytes() for folder in sys.path for file in _entry_point_files(folder)
    ):
        return
    from importlib.metadata import entry_points

    yield from entry_points(group=f"edgekit.{kind}")


def _entry_point_files(folder: str) -> Iterator[Path]:
    return Path(folder).glob("*-info/entry_points.txt")


def unknown(what: str, name: str, known: list[str]) -> UsageError:
    """The error for a name that does not exist, with the nearest one that does."""
    import difflib

    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {nearest[0]}? " if nearest else ""
    more = f" and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
    return UsageError(
        "EK901", f"There is no {what} named {name!r}.", f"{hint}Known: {', '.join(known[:_LISTED])}{more}."
    )


def data_folder(kind: str) -> Path:
    """The folder of shipped data: ``targets``, ``calibration`` or ``examples``.

    An installed wheel has it inside the package; in a checkout it stands at the top of the repository.
    """
    installed = _PACKAGE / "_data" / kind
    return installed if installed.is_dir() else _PACKAGE.parent / kind


def data_file(kind: str, name: str) -> Path:
    """A TOML file by path or by name: as a path, then in ``./<kind>/``, then built in.

    Raises:
        UsageError: There is none; the nearest name is given.
    """
    folders = (Path(kind), data_folder(kind))
    for candidate in (Path(name), *(folder / f"{name}.toml" for folder in folders)):
        if candidate.is_file():
            return candidate
    known = {file.stem for folder in folders for file in folder.glob("*.toml")}
    raise unknown(f"{kind.removesuffix('s')} file", name, sorted(known))
