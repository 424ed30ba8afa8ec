"""The target profiles: those of edgekit and the user's own."""

from pathlib import Path

from edgekit.catalog import data_folder
from edgekit.errors import UsageError
from edgekit.target import Target


def target_list() -> tuple[Target, ...]:
    """Every profile by name; one in ``./targets/`` takes the place of edgekit's of the same name.

    Raises:
        UsageError: One of them is wrong.
    """
    files = {
        file.stem: file
        for folder in (data_folder("targets"), Path("targets"))
        for file in sorted(folder.glob("*.toml"))
    }
    return tuple(Target.read(file) for _name, file in sorted(files.items()))


def target_show(name: str) -> Target:
    """A profile by name or path, with the source of each fact.

    Raises:
        UsageError: There is none (the nearest name is given), or it is wrong.
    """
    return Target.load(name)


def target_validate(file: str | Path) -> Target:
    """Read a profile of your own, and refuse it where something is missing, unknown or without a source.

    Raises:
        UsageError: It is wrong; the sentence says where.
    """
    path = Path(file)
    if not path.is_file():
        raise UsageError("EK913", f"{path} does not exist.", "Give the path of a TOML file.")
    return Target.read(path)
