"""What is kept of every trial: its document, its model file and that one's lineage, found by what decides it all."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit import files
from edgekit.artifact import lineage_path

# 1 (2026): the trial's document with the digest of its file.
SCHEMA_VERSION = 1
_MOST_BYTES = 16 << 20


@dataclass(frozen=True)
class Store:
    """A folder of trials; ``suffix`` is that of the model files."""

    folder: Path
    suffix: str

    def model(self, key: str) -> Path:
        """Where the model file of a trial lies, or will."""
        return self.folder / f"{key}{self.suffix}"

    def read(self, key: str) -> dict[str, Any] | None:
        """A trial that was done before, None where there is none, or where it is damaged."""
        try:
            document = json.loads(files.read_bytes(self._document(key), most_bytes=_MOST_BYTES))
            if document["schema_version"] != SCHEMA_VERSION:
                return None
            trial: dict[str, Any] = document["trial"]
            if trial["status"] == "done" and files.sha256(self.model(key)) != trial["sha256"]:
                return None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return trial

    def save(self, key: str, trial: dict[str, Any]) -> None:
        """Keep a trial; its model file lies there already, so that one that was cut off is not taken for done."""
        document = {"schema_version": SCHEMA_VERSION, "trial": trial}
        files.write_bytes(self._document(key), json.dumps(document, indent=1, allow_nan=False).encode())

    def prepare(self) -> None:
        """Make the folder.

        Raises:
            OutputError: It cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise files.output_error(self.folder, error) from error

    def clear(self, key: str) -> None:
        """Forget the model file of a trial."""
        for path in (self.model(key), lineage_path(self.model(key))):
            path.unlink(missing_ok=True)

    def _document(self, key: str) -> Path:
        return self.folder / f"{key}.trial.json"
