"""A recipe as the TOML file that ``edgekit quantize -r FILE.toml`` reads."""

from pathlib import Path

from edgekit import files
from edgekit.recipe import Recipe


def write_recipe(recipe: Recipe, path: Path, *, comments: tuple[str, ...] = ()) -> None:
    """Write ``schema``, ``base`` and one ``[[rules]]`` table for each rule.

    Args:
        recipe: What the file says.
        path: The file; it is replaced where it exists.
        comments: Lines at its top, such as where it comes from.

    Raises:
        OutputError: It cannot be written.
    """
    import tomli_w

    rules = [{key: value for key, value in rule.items() if value} for rule in recipe.describe()["rules"]]
    document = {"schema": 1, "base": recipe.default.name} | ({"rules": rules} if rules else {})
    lines = [f"# {line}\n" for line in comments]
    files.write_bytes(path, "".join([*lines, tomli_w.dumps(document)]).encode())
