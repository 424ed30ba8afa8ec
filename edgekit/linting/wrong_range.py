"""Samples in another range than the model takes: 0..255, 0..1 and -1..1 mistaken for each other."""

import numpy as np

from edgekit.evidence import Evidence
from edgekit.evidence.comparing import CERTAIN, information, standard_score
from edgekit.evidence.readings import AS_GIVEN, apparent_range
from edgekit.evidence.seen import main_input, takes_reals
from edgekit.linting import Judgement, clean, mistake, not_run

CODE = "EK240"
LOOKS_FOR = "values in another range than the model takes"

_PIXEL_MAX = 255
# Of the width of the expected range.
_MOST_BEYOND, _LEAST_WIDTH, _MOST_ASIDE = 0.25, 0.1, 0.45
_MUCH_WIDER = 8.0
# Of two classes one may well prevail among the samples, and says nothing of their range.
_MANY_CLASSES = 5
# What networks are given after a rescaling layer: about -3 to 3, and never a hair's breadth.
_LARGEST_RESCALED, _NARROWEST_RESCALED = 20.0, 0.05
# A first convolution whose channels lie so many deviations from zero computes hardly more than its biases.
_DEAF, _HEARING = 20.0, 5.0
# The reconstruction error of the samples as they are, over that of the other reading; there it has to be smaller than
# that of giving back the mean, or the model does something else than to reconstruct.
_MUCH_WORSE, _RECONSTRUCTS = 2.0, 1.0


def judge(evidence: Evidence) -> Judgement:
    """By what the model says of its input, a reference, labels, reconstruction, and what scores look like."""
    spec = main_input(evidence.artifact.inputs)
    if not takes_reals(spec):
        return not_run(f"{spec.name!r} takes {spec.dtype}, which has no scale.")
    low, high = evidence.samples.ends(spec.name)
    asked = []
    for way, found in (
        ("the contract in the model's lineage", _contract(evidence, low, high)),
        ("the scale of the model's input", _quantized(evidence, low, high)),
        ("the model's rescaling", _rescaled(evidence, low, high)),
        ("the reference", _reference(evidence, low, high)),
        ("labels", _labels(evidence)),
        ("reconstruction", _copies(evidence)),
        ("scores", _scores(evidence)),
        ("the first convolution", _first_layer(evidence)),
    ):
        if found is None:
            continue
        if found:
            own = apparent_range(low, high)
            text = (
                f"The samples have values of {_span(low, high)}{f', as {own} has' if own else ''}: {found}."
            )
            return mistake(text, _FIX)
        asked.append(way)
    if not asked:
        nothing = (
            "nothing tells the range: no labels, no --reference, no contract, no scale, no scores of classes."
        )
        return not_run(evidence.unseen or nothing)
    return clean(f"{_span(low, high)} fits {', '.join(asked)}.")


_FIX = (
    "Prepare the samples as in training: a contract with scale, mean and std (--preprocess SPEC), the same for "
    "calibration and on the device."
)


def _span(low: float, high: float) -> str:
    return f"{low:.3g} to {high:.3g}"


def _differs(low: float, high: float, wanted: tuple[float, float]) -> bool:
    """Whether a range reaches far beyond another, fills little of it, or keeps to one half of it."""
    width = max(wanted[1] - wanted[0], 1e-12)
    beyond = max(wanted[0] - low, high - wanted[1]) / width
    aside = max(low - wanted[0], wanted[1] - high) / width
    return beyond > _MOST_BEYOND or (high - low) / width < _LEAST_WIDTH or aside > _MOST_ASIDE


def _contract(evidence: Evidence, low: float, high: float) -> str | None:
    contract = evidence.contract
    if contract is None or (contract.scale, contract.mean, contract.std) == (1.0, (), ()):
        return None
    mean, std = np.asarray(contract.mean or (0.0,)), np.asarray(contract.std or (1.0,))
    ends = [(raw * contract.scale - mean) / std for raw in (0, _PIXEL_MAX)]
    wanted = float(np.min(ends)), float(np.max(ends))
    if not _differs(low, high, wanted):
        return ""
    return f"the contract {contract.name} of the model's lineage makes {_span(*wanted)} of pixels"


def _quantized(evidence: Evidence, low: float, high: float) -> str | None:
    spec = main_input(evidence.artifact.inputs)
    if spec.quantization is None or np.dtype(spec.dtype).itemsize != 1:
        return None
    limits, point = np.iinfo(spec.dtype), spec.quantization.zero_points[0]
    wanted = tuple(spec.quantization.scales[0] * (end - point) for end in (limits.min, limits.max))
    if not _differs(low, high, (wanted[0], wanted[1])):
        return ""
    return f"the model's input {spec.name!r} holds {_span(*wanted)}"


def _rescaled(evidence: Evidence, low: float, high: float) -> str | None:
    if evidence.behaviour is None or evidence.behaviour.rescaling is None:
        return None
    scale, shift = evidence.behaviour.rescaling
    ends = sorted((low * scale + shift, high * scale + shift))
    if ends[1] - ends[0] >= _NARROWEST_RESCALED and max(map(abs, ends)) <= _LARGEST_RESCALED:
        return ""
    return f"the model's first layers make {_span(*ends)} of them (times {scale:.3g}, plus {shift:.3g})"


def _reference(evidence: Evidence, low: float, high: float) -> str | None:
    if evidence.reference is None:
        return None
    wanted = evidence.reference.ends(main_input(evidence.artifact.inputs).name)
    if apparent_range(low, high) == apparent_range(*wanted):
        # Some recordings are louder than others.
        ratio = (high - low) / max(wanted[1] - wanted[0], 1e-12)
        is_other = not 1 / _MUCH_WIDER < ratio < _MUCH_WIDER
    else:
        is_other = _differs(low, high, wanted)
    return f"the reference has {_span(*wanted)}" if is_other else ""


def _labels(evidence: Evidence) -> str | None:
    best = evidence.by_labels
    if best is None:
        return None
    if best.kind != "range":
        return (
            ""
            if best.worse.intersection(evidence.behaviour.rivals("range") if evidence.behaviour else ())
            else None
        )
    return f"the model gives their labels {best.ratio:.2g} times the likelihood where they are read as {best.name}"


def _copies(evidence: Evidence) -> str | None:
    """A model that gives its input back does so best in the range that it learned."""
    behaviour = evidence.behaviour
    if behaviour is None or not behaviour.errors:
        return None
    given = behaviour.errors[AS_GIVEN]
    for name in behaviour.rivals("range"):
        error = behaviour.errors[name]
        worse = np.log(given + 1e-12) - np.log(error + 1e-12)
        is_certain = standard_score(worse) > CERTAIN and worse.mean() > np.log(_MUCH_WORSE)
        if is_certain and error.mean() < _RECONSTRUCTS:
            return f"the model's error in giving them back is {np.exp(worse.mean()):.2g} times that of {name}"
    return "" if given.mean() < _RECONSTRUCTS else None


def _scores(evidence: Evidence) -> str | None:
    """Without labels: scores that are all sure, or all alike, where another range gives neither."""
    behaviour = evidence.behaviour
    if behaviour is None or not behaviour.has_classes or evidence.by_labels is not None:
        return None
    given = information(behaviour.scores[AS_GIVEN])
    most = float(np.log(behaviour.scores[AS_GIVEN].shape[1]))
    for name in behaviour.rivals("range"):
        other = information(behaviour.scores[name])
        if given.told < 0.05 * most and other.told > max(0.1 * most, 10 * given.told) and other.sure < 0.3:
            return f"the model's scores are alike for all of them, and not where they are read as {name}"
        if given.sure > 0.3 and other.sure < given.sure / 4 and other.told > given.told / 4:
            return f"{given.sure:.0%} of the scores are saturated, and {other.sure:.0%} for {name}"
        is_varied = (
            other.variety - given.variety > 0.2 * most and len(behaviour.scores[name][0]) >= _MANY_CLASSES
        )
        if other.sure < given.sure + 0.05 and is_varied:
            return f"the model gives them few of its classes, and more where they are read as {name}"
    return ""


def _first_layer(evidence: Evidence) -> str | None:
    behaviour = evidence.behaviour
    if behaviour is None or not behaviour.offset:
        return None
    given = behaviour.offset[AS_GIVEN]
    for name in behaviour.rivals("range"):
        if given > _DEAF and behaviour.offset[name] < _HEARING:
            return (
                f"the first convolution gives little more than its biases, {given:.0f} deviations from zero, and "
                f"{behaviour.offset[name]:.1f} for {name}"
            )
    return ""
