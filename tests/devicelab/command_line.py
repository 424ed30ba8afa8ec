"""edgekit as its users run it: in processes of its own, with a configuration and a cache of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import jsonschema

from edgekit.verbs.schema import schema

_LIMIT_S = 240


class CommandLine:
    """The command line of one user.

    Attributes:
        folder: Where commands run.
        cache: The user's cache.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        """Begin with an empty configuration and an empty cache.

        Args:
            folder: An empty folder.
            environment: What commands find besides the environment of the tests.
        """
        self.folder = folder / "work"
        self.folder.mkdir()
        self.cache = folder / "cache"
        self._environment = {
            **os.environ,
            **(environment or {}),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "XDG_CACHE_HOME": str(self.cache),
        }

    def share_wheels(self, folder: Path) -> None:
        """Keep the packages for devices in a folder of the lab, so that they are fetched once for all runs."""
        folder.mkdir(parents=True, exist_ok=True)
        wheels = self.cache / "edgekit/wheels"
        wheels.parent.mkdir(parents=True)
        wheels.symlink_to(folder)

    def share_toolchains(self, cache: Path) -> None:
        """Use the toolchains of another cache."""
        toolchains = self.cache / "edgekit/toolchains"
        toolchains.parent.mkdir(parents=True, exist_ok=True)
        toolchains.symlink_to(cache / "edgekit/toolchains")

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        """Start a command; the caller ends it."""
        return subprocess.Popen(
            [sys.executable, "-m", "edgekit", *map(str, words)],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Ctrl-C in the terminal of the tests is not for it.
            start_new_session=True,
        )

    def read(self, *words: str | Path, timeout_s: float = _LIMIT_S) -> str:
        """Run a command and return what it prints for people on standard output.

        Raises:
            AssertionError: It failed.
        """
        output, errors, status = self._finish(self.start(*words), timeout_s)
        assert status == 0, (words, status, output, errors)
        return output

    def run(self, *words: str | Path, expect: int = 0, timeout_s: float = _LIMIT_S) -> dict:
        """Run a command with ``--json`` and return its document, held against the command's schema.

        Raises:
            AssertionError: Its exit status is another than expected, or its document is none.
        """
        return self.document(self.start(*words, "--json"), *words, expect=expect, timeout_s=timeout_s)

    def document(
        self,
        process: subprocess.Popen[str],
        *words: str | Path,
        expect: int = 0,
        timeout_s: float = _LIMIT_S,
    ) -> dict:
        """The document of a command that was started with ``--json``; see ``run``."""
        output, errors, status = self._finish(process, timeout_s)
        assert status == expect, (words, status, output, errors)
        document = json.loads(output)
        jsonschema.Draft202012Validator(schema(str(words[0]))).validate(document)
        return document

    def _finish(self, process: subprocess.Popen[str], timeout_s: float) -> tuple[str, str, int]:
        try:
            output, errors = process.communicate(timeout=timeout_s)
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()
        return output, errors, process.returncode


def codes(document: Mapping) -> list[str]:
    """The codes of a document's findings."""
    return [finding["code"] for finding in document["findings"]]
