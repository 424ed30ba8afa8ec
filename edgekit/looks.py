"""How often a baseline was used to judge candidates: each use spends a share of its error rate."""

import json
from datetime import UTC, datetime
from pathlib import Path

from edgekit import files
from edgekit.errors import DataError

SCHEMA_VERSION = 1

_MOST_BYTES = 64 << 20


def looks_path(baseline: Path) -> Path:
    """Where the looks at ``baseline.json`` are counted: ``baseline.json.looks``, to be committed with it."""
    return baseline.with_name(baseline.name + ".looks")


def count_look(baseline: Path, candidate: str, samples: str) -> int:
    """The number of this look at a baseline, from 1; the same candidate on the same samples is one look.

    Args:
        baseline: The baseline's file; a new content begins a new count.
        candidate: Digest of the candidate's file.
        samples: Digest of the samples that it was judged on.

    Raises:
        DataError: The count is damaged.
        OutputError: It cannot be written.
    """
    path = looks_path(baseline)
    with files.locked_folder(baseline.resolve().parent):
        digest = files.sha256(baseline)
        looks = _read(path, digest)
        for number, look in enumerate(looks, start=1):
            if (look["candidate"], look["samples"]) == (candidate, samples):
                return number
        time = datetime.now(UTC).isoformat(timespec="seconds")
        looks.append({"candidate": candidate, "samples": samples, "time": time})
        document = {
            "schema_version": SCHEMA_VERSION,
            "kind": "looks",
            "baseline_sha256": digest,
            "looks": looks,
        }
        files.write_bytes(path, json.dumps(document, indent=1).encode() + b"\n")
        return len(looks)


def _read(path: Path, baseline: str) -> list[dict[str, str]]:
    if not path.exists():
        return []
    try:
        document = json.loads(files.read_bytes(path, most_bytes=_MOST_BYTES))
        if document["kind"] != "looks" or document["schema_version"] != SCHEMA_VERSION:
            raise ValueError("no count of looks")
        looks = [
            {key: str(look[key]) for key in ("candidate", "samples", "time")} for look in document["looks"]
        ]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            "EK474",
            f"{path} should count the looks at the baseline, and is damaged.",
            "Take its last version from your repository, or make a new baseline.",
        ) from error
    return looks if document["baseline_sha256"] == baseline else []
