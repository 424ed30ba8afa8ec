"""What a search leaves for the user: files with their lineages, recipes, and the commands that make them again."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgekit import files
from edgekit.artifact import lineage_path, read_lineage
from edgekit.documents import plain
from edgekit.workflows.searching.configuration import Configuration
from edgekit.workflows.searching.material import Asked
from edgekit.workflows.searching.tried import Tried

# A folder of a front has it, and no other folder is ever replaced.
MARK = "front.json"


def write_lineage(asked: Asked, configuration: Configuration, made: Path, path: Path) -> None:
    """The lineage of a trial's file as one of what the user gave, and not of the copies that trials start from."""
    document: dict[str, Any] = dict(read_lineage(made) or {})
    calibration: Mapping[str, Any] | None = document.get("calibration")
    data = asked.calibration
    if data is not None and calibration is not None:
        document["calibration"] = {**calibration, "data": data.spec, "sha256": data.digest()}
        contract = data.preprocessing
        document["preprocessing"] = None if contract is None else contract.describe()
    document |= {"source_path": asked.source.path.name, "source_sha256": asked.source.sha256}
    document["options"] = {**document.get("options", {}), "searched": configuration.describe()}
    files.write_bytes(lineage_path(path), json.dumps(document, indent=2).encode())


def write_front(front: Sequence[Tried], asked: Asked, folder: Path, *, preprocess: str | None) -> None:
    """The files of a front with their lineages, recipes and commands, as one folder that appears whole.

    Raises:
        OutputError: The disk is full or read-only.
    """
    with TemporaryDirectory(prefix="edgekit-") as name:
        made = Path(name)
        members = [
            _member(one, one.model, asked, made / f"{place:02}-{one.configuration.recipe}{one.model.suffix}")
            for place, one in enumerate(front, 1)
            if one.model is not None
        ]
        for one, member in zip(front, members, strict=True):
            words = ["--seed", str(asked.seed), "-o", str(folder / f"again-{member['model']}")]
            words += ["--calibration", asked.calibration.spec] if asked.calibration is not None else []
            words += ["--preprocess", preprocess] if preprocess is not None else []
            words += ["--batch", "free" if asked.batch is None else str(asked.batch)]
            recipe = folder / member["recipe"]
            member["command"] = shlex.join(one.configuration.command(asked.source.path, recipe, *words))
        document = {"schema_version": 1, "front": members}
        (made / MARK).write_text(json.dumps(plain(document), indent=1), encoding="utf-8")
        commands = "".join(f"{member['command']}\n" for member in members)
        (made / "commands.sh").write_text(commands, encoding="utf-8")
        files.copy_folder(made, folder)


def _member(one: Tried, model: Path, asked: Asked, path: Path) -> dict[str, Any]:
    """One file of the front, written, as it stands in ``front.json``."""
    path.write_bytes(model.read_bytes())
    write_lineage(asked, one.configuration, model, path)
    recipe = path.with_suffix(".toml")
    if one.configuration.has_rules:
        recipe.write_text(one.configuration.toml(), encoding="utf-8")
    named = recipe.name if one.configuration.has_rules else one.configuration.recipe
    return {
        "model": path.name,
        "lineage": lineage_path(path).name,
        "recipe": named,
        **one.describe(on_front=True),
    }
