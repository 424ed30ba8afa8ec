"""The order in which ``quantize --auto`` tries configurations: from whole recipes to single layers.

1. Every recipe that writes the format, with every engine that can, as ``quantize`` does it by itself.
2. Then the recipes that would beat the best so far in the objective and lose too much, the best first: every other
   value of every knob, one after the other; the value that leaves the least noise stays.
3. Where that is not enough, in the same order, the layers that lose most get a more exact precision (for the size,
   those that lose most for their weights): one, two, four and so on, and between the last number that loses too much
   and the first that does not, halves.
4. The knobs of the best are turned once more, for less noise at the same cost.

The smallest of many files that seem to lose little is mostly one that was lucky on these samples. So a file fits where
its drop and one standard error more are within the limit (Breiman et al., Classification and Regression Trees, 1984).
Where the samples are so few that not even a whole recipe does, the drop alone counts, for outputs of 20 dB and more.
"""

from collections.abc import Iterator, Mapping, Sequence

from edgekit.artifact import Format
from edgekit.recipe import recipe_names
from edgekit.workflows.searching.configuration import KNOBS, Configuration, engines
from edgekit.workflows.searching.evaluator import Evaluator
from edgekit.workflows.searching.material import Material
from edgekit.workflows.searching.ranking import by_noise, by_noise_per_weight, harmed_layers
from edgekit.workflows.searching.space import sparing
from edgekit.workflows.searching.tried import Objective, Tried

# Files this close in the objective are equally good: of those that are as fast, the one with less noise is taken.
_EQUAL = {"size": 1.01, "latency": 1.05}
_EQUALLY_FAST = 1.25
_NEAR_DB = 20.0
# Half of a 95% interval in standard errors.
_HALF_WIDTH = 1.96


def bases(source: Format, output: Format, *, has_calibration: bool) -> tuple[Configuration, ...]:
    """The whole recipes that a search begins with."""
    return tuple(
        Configuration(recipe, engine)
        for recipe in recipe_names()
        for engine in engines(source, output, recipe)
        if has_calibration or not Configuration(recipe).recipe_with_rules.needs_calibration
    )


class Climb:
    """A search for the best file whose drop on the samples of the search is within ``limit``."""

    def __init__(
        self, evaluator: Evaluator, material: Material, output: Format, objective: Objective, limit: float
    ) -> None:
        self._evaluator, self._material, self._output = evaluator, material, output
        self._objective: Objective = objective
        self._limit = limit
        # How many standard errors a drop has to be within the limit.
        self._errors = 1.0
        self._rankings: dict[str, tuple[str, ...]] = {}

    def run(self, whole: Sequence[Configuration]) -> None:
        """Try what is worth it; ``evaluator.tried`` has it all."""
        begun = sorted(self._done(whole), key=self._cost)
        self._errors = float(any(self._fits(base) for base in begun))
        turned = [self._turn_knobs(base) for base in begun if self._is_worth_it(base)]
        for base in turned:
            if self._is_worth_it(base):
                self._spare(base)
        if self.best is not None:
            self._turn_knobs(self.best)

    @property
    def best(self) -> Tried | None:
        """The best of those that fit, or where none does the one with the least drop; None where there is no file."""
        done = [one for one in self._evaluator.tried if one.is_done]
        fitting = [one for one in done if self._fits(one)]
        if not fitting:
            return min(done, key=lambda one: (one.drop, -one.snr_db), default=None)
        near = self.candidates
        # Of equally small files one may be several times slower; where nothing was measured all are equally fast.
        fastest = min((one.latency_ms for one in near if one.latency_ms is not None), default=0.0)
        quick = [one for one in near if one.latency_ms is None or one.latency_ms <= _EQUALLY_FAST * fastest]
        return max(quick, key=lambda one: (one.snr_db, -self._cost(one), -one.number))

    @property
    def candidates(self) -> list[Tried]:
        """Those that fit and are as good as the best of them in the objective."""
        fitting = [one for one in self._evaluator.tried if one.is_done and self._fits(one)]
        limit = min((self._cost(one) for one in fitting), default=0.0) * _EQUAL[self._objective]
        return [one for one in fitting if self._cost(one) <= limit]

    def fits(self, one: Tried) -> bool:
        """Whether a trial's drop on the samples of the search is within the limit."""
        return self._fits(one)

    def _is_worth_it(self, base: Tried) -> bool:
        """Whether it would be the best, if it lost less."""
        return not self._fits(base) and self._beats(base)

    def _turn_knobs(self, base: Tried) -> Tried:
        best = base
        for name, knob in KNOBS.items():
            usual = best.configuration.knobs.get(name, knob.usual)
            others = [best.configuration.with_knob(name, value) for value in knob.values if value != usual]
            # What changes nothing for this recipe would be the same file.
            fresh = [one for one in others if one != best.configuration]
            for one in self._done(fresh):
                if (self._fits(one), one.snr_db) > (self._fits(best), best.snr_db):
                    best = one
        return best

    def _spare(self, base: Tried) -> None:
        configuration = base.configuration
        for precision in sparing(configuration.recipe, self._output):
            layers = self._ranking(configuration.recipe)
            counts = list(_doubling(len(layers)))
            if not counts or not self._beats(base):
                return
            lost, enough = 0, None
            for count in counts:
                found = self._spared(configuration, layers[:count], precision)
                if found is None or _same(found, base):
                    break
                if self._is_enough(found):
                    enough = count
                    break
                lost = count
            while enough is not None and enough - lost > 1:
                between = (lost + enough) // 2
                found = self._spared(configuration, layers[:between], precision)
                is_enough = found is not None and self._is_enough(found)
                lost, enough = (lost, between) if is_enough else (between, enough)
            if lost or enough is not None:
                return  # what is still lost comes from the other layers, whatever these are stored as

    def _spared(self, configuration: Configuration, layers: Sequence[str], precision: str) -> Tried | None:
        return next(iter(self._done([_mixing(configuration).sparing(layers, precision)])), None)

    def _is_enough(self, one: Tried) -> bool:
        """Whether more layers make no better file: it fits, or is no better than what fits."""
        return self._fits(one) or not self._beats(one)

    def _ranking(self, recipe: str) -> tuple[str, ...]:
        if recipe not in self._rankings:
            order = by_noise_per_weight if self._objective == "size" else by_noise
            layers = () if self._evaluator.is_over else harmed_layers(self._material, recipe)
            self._rankings[recipe] = order(layers)
        return self._rankings[recipe]

    def _done(self, configurations: Sequence[Configuration]) -> list[Tried]:
        return [one for one in self._evaluator.run(configurations) if one is not None and one.is_done]

    def _fits(self, one: Tried) -> bool:
        high = one.document["drop_ci95"][1]
        if high is None:
            return False
        error = (high - one.drop) / _HALF_WIDTH
        is_near = self._errors > 0 or one.snr_db >= _NEAR_DB
        return bool(is_near and one.drop + self._errors * error <= self._limit)

    def _beats(self, one: Tried) -> bool:
        """Whether a file like this is, or would be, better than all others that fit."""
        others = [other for other in self._evaluator.tried if other.is_done and other.key != one.key]
        return all(self._cost(one) < self._cost(other) for other in others if self._fits(other))

    def _cost(self, one: Tried) -> float:
        cost = one.cost(self._objective)
        return float("inf") if cost is None else cost


def _mixing(configuration: Configuration) -> Configuration:
    """By an engine that takes rules for layers."""
    if configuration.engine != "tensorflow":
        return configuration
    return Configuration(configuration.recipe, knobs=configuration.knobs)


def _same(one: Tried, other: Tried) -> bool:
    """Whether an engine took no notice of what was asked."""
    return bool(one.document["sha256"] == other.document["sha256"])


def _doubling(layers: int) -> Iterator[int]:
    """1, 2, 4 and so on up to all but one layer: all of them would be another recipe."""
    count = 1
    while count < layers - 1:
        yield count
        count *= 2
    if layers > 1:
        yield layers - 1


def knobs_searched() -> Mapping[str, tuple[object, ...]]:
    """Every knob with its values, for people."""
    return {name: knob.values for name, knob in KNOBS.items() if len(knob.values) > 1}
