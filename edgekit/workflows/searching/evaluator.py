"""Configurations in, trials out, in the order in which they were asked for: from the store, or from workers."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import edgekit
from edgekit.errors import EdgekitError
from edgekit.interleaved import BenchmarkOptions
from edgekit.workflows.searching.configuration import Configuration
from edgekit.workflows.searching.store import Store
from edgekit.workflows.searching.tried import Tried

_BENCHMARK = BenchmarkOptions(max_seconds=1.0, warmup_runs=20)


class Runner(Protocol):
    """Who runs trials: processes here, or a cluster."""

    def run(
        self, jobs: Sequence[tuple[Configuration, Path]], until: float
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each job's number and document, as they are done; none is begun after ``until``."""


@dataclass
class Evaluator:
    """Tries configurations, each once.

    Args:
        runner: Who runs trials.
        store: Where they are kept.
        identity: What decides results apart from configurations.
        until: When no more trials are begun, as ``time.monotonic`` tells it.
        report: Told of each trial as it is done.
        measures_latency: Whether each file's latency is measured, here and one after the other, when no worker runs.
    """

    runner: Runner
    store: Store
    identity: Mapping[str, Any]
    until: float
    report: Callable[[Tried], None]
    measures_latency: bool = False
    tried: list[Tried] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() >= self.until

    def key(self, configuration: Configuration) -> str:
        """What a configuration's trial goes by."""
        return configuration.digest(self.identity)

    def run(self, configurations: Sequence[Configuration], *, again: bool = True) -> list[Tried | None]:
        """Try them, and wait for all; None for those that the time was over for.

        Args:
            configurations: What to try.
            again: Whether one whose worker died before is tried again.
        """
        keys = [self.key(configuration) for configuration in configurations]
        known = {one.key: one.document for one in self.tried}
        kept = set(known)
        fresh: dict[str, Configuration] = {}
        for key, configuration in zip(keys, configurations, strict=True):
            if key in known:
                continue
            stored = self.store.read(key)
            if stored is not None and not (again and _may_go_better(stored)):
                known[key] = stored
                kept.add(key)
            else:
                fresh[key] = configuration
        # Those that the time was over for keep their numbers.
        first = max((one.number for one in self.tried), default=0)
        for key, document in self._run(fresh):
            known[key] = document
            number = first + keys.index(key) + 1
            self.report(self._tried(number, fresh[key], key, document, was_kept=False))
        answered = [
            self._tried(
                first + place + 1, configuration, key, known[key], was_kept=key in kept or key in keys[:place]
            )
            if key in known
            else None
            for place, (configuration, key) in enumerate(zip(configurations, keys, strict=True))
        ]
        for one in answered:
            if one is not None and one.key in kept and one.key not in {other.key for other in self.tried}:
                self.report(one)
        measured = [None if one is None else self._with_latency(one) for one in answered]
        self.tried += [one for one in measured if one is not None]
        return measured

    def _run(self, fresh: Mapping[str, Configuration]) -> Iterator[tuple[str, dict[str, Any]]]:
        keys = list(fresh)
        jobs = [(fresh[key], self.store.model(key)) for key in keys]
        for number, document in self.runner.run(jobs, self.until) if jobs else ():
            self.store.save(keys[number], document)
            yield keys[number], document

    def _tried(
        self,
        number: int,
        configuration: Configuration,
        key: str,
        document: Mapping[str, Any],
        *,
        was_kept: bool,
    ) -> Tried:
        model = self.store.model(key) if document["status"] == "done" else None
        return Tried(number, configuration, document, model, key, was_kept, document.get("latency_ms"))

    def _with_latency(self, one: Tried) -> Tried:
        if not self.measures_latency or not one.is_done or one.latency_ms is not None:
            return one
        return replace(one, latency_ms=self._latency_ms(one))

    def measure(self, chosen: Callable[[Tried], bool]) -> None:
        """Measure the latencies of some of the trials, one file after the other."""
        for place, one in enumerate(self.tried):
            if one.is_done and one.latency_ms is None and chosen(one):
                self.tried[place] = replace(one, latency_ms=self._latency_ms(one))

    def _latency_ms(self, one: Tried) -> float | None:
        """The median latency of a trial's file on this machine, None where it cannot be measured."""
        if one.model is None:
            return None
        digest = one.document["sha256"]
        known = [
            other.latency_ms for other in self.tried if other.is_done and other.document["sha256"] == digest
        ]
        latency_ms = next((value for value in known if value is not None), None)
        if latency_ms is None:
            try:
                found = edgekit.benchmark([one.model], _BENCHMARK)
            except EdgekitError:
                return None
            latency_ms = float(found.models[0].describe()["latency_ms"]["median"])
        self.store.save(one.key, {**one.document, "latency_ms": latency_ms})
        return latency_ms


def _may_go_better(document: Mapping[str, Any]) -> bool:
    """A worker that was killed says nothing about its configuration."""
    return bool(document["status"] == "failed" and document["error"]["code"] == "EK574")


Runners = AbstractContextManager[Runner]
