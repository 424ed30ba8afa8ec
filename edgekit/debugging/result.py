"""The noun ``Debugging``: what a comparison of all inner tensors came to, in words, in JSON and as findings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit import files
from edgekit.artifact import Artifact
from edgekit.debugging.graph import Hidden
from edgekit.debugging.pairing import Pairing
from edgekit.debugging.sums import Sums
from edgekit.debugging.verdict import TensorReport, Verdict, overall
from edgekit.findings import Finding, Level
from edgekit.pages.debug import page

_LISTED, _LONGEST = 5, 60
_LOSSES = frozenset({Verdict.DEGRADES, Verdict.DEFECT})
# Sums of real numbers in another order differ by less.
_EQUAL_DB = 100.0


@dataclass(frozen=True)
class Debugging:
    """Every pair of tensors in graph order, and what it comes to.

    ``hidden`` are A's and B's tensors that cannot be seen, ``output_keys`` B's outputs, and ``exposed`` how
    B's outputs change when all tensors are visible. ``noticed`` are findings about the samples.
    """

    a: Artifact
    b: Artifact
    runtimes: tuple[str, str]
    samples: int
    tensors: tuple[TensorReport, ...]
    pairing: Pairing
    hidden: tuple[Sequence[Hidden], Sequence[Hidden]]
    output_keys: tuple[str, ...]
    exposed: Sums
    noticed: tuple[Finding, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """What it comes to, over all tensors."""
        return overall(self.tensors, self.output_keys)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is worth knowing besides the numbers."""
        return (*self.noticed, *_verdict_findings(self), *_coverage_findings(self))

    @property
    def first(self) -> TensorReport | None:
        """The first tensor that differs by more than A's own kernels do; None where none does."""
        return next((report for report in self.tensors if report.is_beyond), None)

    @property
    def first_loss(self) -> TensorReport | None:
        """The first tensor whose operator loses more than rounding explains; None where none does."""
        return next((report for report in self.tensors if report.verdict in _LOSSES), None)

    def first_loss_text(self) -> str | None:
        """The same in words, with what it loses."""
        report = self.first_loss
        if report is None:
            return None
        text = (
            f"{_named(report)}: alone {report.own_db:.1f} dB, rounding explains {report.expected_db:.1f} dB"
        )
        if report.seen.saturated:
            text += f", and {100 * report.seen.saturated_share:.1f}% of its values are cut off"
        return text

    @property
    def defect(self) -> TensorReport | None:
        """The first tensor whose operator is defective."""
        return next((report for report in self.tensors if report.verdict is Verdict.DEFECT), None)

    @property
    def worst(self) -> TensorReport | None:
        """The tensor whose operator alone loses most, None where nothing differs."""
        losing = [report for report in self.tensors if report.verdict is not Verdict.IDENTICAL]
        return min(losing, key=lambda report: report.own_db, default=None)

    @property
    def outputs(self) -> tuple[TensorReport, ...]:
        """The model's outputs, as far as they could be paired."""
        return tuple(report for report in self.tensors if report.pair.b.key in self.output_keys)

    def describe(self) -> dict[str, Any]:
        """The result as it stands in JSON documents."""

        def named(report: TensorReport | None) -> str | None:
            return None if report is None else report.pair.b.name

        return {
            "a": {"path": str(self.a.path), "sha256": self.a.sha256, "runtime": self.runtimes[0]},
            "b": {"path": str(self.b.path), "sha256": self.b.sha256, "runtime": self.runtimes[1]},
            "samples": self.samples,
            "verdict": self.verdict.value,
            "defect": named(self.defect),
            "first_beyond_tolerance": named(self.first),
            "first_loss": named(self.first_loss),
            "loses_most": named(self.worst),
            "outputs": [report.pair.b.name for report in self.outputs],
            "exposed_difference": self.exposed.largest,
            "tensors": [report.describe() for report in self.tensors],
            "unpaired": {
                "a": [value.name for value in self.pairing.only_a],
                "b": [value.name for value in self.pairing.only_b],
            },
            "hidden": {
                side: [{"name": item.name, "reason": item.reason} for item in items]
                for side, items in zip(("a", "b"), self.hidden, strict=True)
            },
        }

    def write_page(self, path: Path) -> None:
        """Write one page that needs no network and no other file.

        Raises:
            OutputError: It cannot be written.
        """
        findings = [finding.describe() for finding in self.findings]
        files.write_bytes(path, page(self.describe(), findings, self.sentence()).encode())

    def sentence(self) -> str:
        """The verdict for people."""
        counted = f"{len(self.tensors)} tensors on {self.samples} samples"
        ends = ", ".join(f"{report.seen.whole.snr_db:.1f} dB" for report in self.outputs)
        reach = f" SNR of the outputs: {ends}." if ends and self.verdict is not Verdict.IDENTICAL else ""
        if self.defect is not None:
            return f"DEFECT in {_named(self.defect)}: {_why_defect(self.defect)} ({counted}).{reach}"
        if self.verdict is Verdict.IDENTICAL:
            return f"IDENTICAL: {counted}, not one value differs."
        if self.verdict is Verdict.ROUNDING:
            return f"ROUNDING: no operator differs by more than rounding explains ({counted}).{reach}"
        worst = f"; {_named(self.worst)} loses most" if self.worst else ""
        first = f", first in {_named(self.first_loss)}" if self.first_loss else ""
        return (
            f"DEGRADES: no defect, but more is lost than rounding explains{first}{worst} ({counted}).{reach}"
        )


def _named(report: TensorReport) -> str:
    return f"{report.pair.b.kind} {report.pair.b.name!r}"


def _why_defect(report: TensorReport) -> str:
    seen = report.seen
    if seen.whole.not_finite:
        return f"{seen.whole.not_finite:,} of its values are NaN or infinite"
    if report.is_cut_off:
        return f"{100 * seen.saturated_share:.1f}% of its values lie beyond its range"
    return (
        f"given the same inputs it is {seen.own.snr_db:.1f} dB from the reference's, where rounding explains "
        f"{report.expected_db:.1f} dB"
    )


def _verdict_findings(found: Debugging) -> Iterator[Finding]:
    defects = [report for report in found.tensors if report.verdict is Verdict.DEFECT]
    if defects:
        first, more = defects[0], len(defects) - 1
        others = f"; so are {more} more operators" if more else ""
        weighted = [report for report in found.tensors if report.pair.b.weights]
        everywhere = sum(report.verdict is Verdict.DEFECT for report in weighted) * 2 > len(weighted) > 1
        hint = (
            "Most layers with weights differ: B may have been made from another model than A."
            if everywhere
            else "Look at its weights, bias, scale and zero point in B."
            if first.pair.how in {"place", "name", "graph"}
            else f"It was paired by order, with {first.pair.a.name!r}: look whether they belong together."
        )
        text = f"{_named(first)} is defective: {_why_defect(first)}{others}."
        yield Finding("EK707", text, hint, Level.ERROR)
    elif found.verdict is Verdict.DEGRADES and found.worst is not None:
        text = f"{_named(found.worst)} alone leaves {found.worst.own_db:.1f} dB"
        if found.worst.seen.saturated:
            text += f", with {100 * found.worst.seen.saturated_share:.2f}% of its values cut off"
        yield Finding(
            "EK708", f"{text}.", "Calibrate with more samples, or keep the layer float: --keep-float."
        )


def _coverage_findings(found: Debugging) -> Iterator[Finding]:
    hidden = list(dict.fromkeys(f"{item.name} ({item.reason})" for side in found.hidden for item in side))
    if hidden:
        yield Finding("EK704", f"{len(hidden)} tensors cannot be seen: {_some(hidden)}.", "", Level.NOTE)
    only_a, only_b = ([value.name for value in side] for side in (found.pairing.only_a, found.pairing.only_b))
    if only_a or only_b:
        text = (
            f"{len(only_a)} tensors of A and {len(only_b)} of B have no partner: {_some([*only_a, *only_b])}."
        )
        yield Finding("EK705", text, "An error there shows in the next tensor that has one.", Level.NOTE)
    if found.exposed.snr_db < _EQUAL_DB:
        text = (
            f"With all tensors visible, B's outputs differ from its own by up to {found.exposed.largest:.3g}."
        )
        yield Finding("EK706", text, "The runtime uses other kernels then.", Level.NOTE)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    shown = (
        name if len(name) <= _LONGEST else f"\N{HORIZONTAL ELLIPSIS}{name[-_LONGEST:]}"
        for name in names[:_LISTED]
    )
    return ", ".join(shown) + more
