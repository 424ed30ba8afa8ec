"""Magnitude pruning: weights of least magnitude become zero while training, and stay zero.

1. The share of zeros grows with the step: at once, or along (arXiv:1710.01878, equation 1)
   s(t) = s_f + (s_i - s_f) (1 - (t - t_0) / (t_1 - t_0))^3.
2. Every so many steps the weights that go are chosen anew; what is zero has least magnitude and stays.
3. After each step the chosen weights and what the optimizer remembers of them are set to zero.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from edgekit.errors import UsageError
from edgekit.findings import Finding, Level
from edgekit.train.kernels import Kernel, kernels_of, zeros
from edgekit.train.masks import Pattern, fits, mask_for, parse_pattern
from edgekit.train.methods import Context, Prepared


@dataclass(frozen=True)
class PruningSchedule:
    """How the share of zeros, 0 to 1, grows with the step; weights are chosen anew every ``frequency`` steps."""

    final_sparsity: float
    initial_sparsity: float = 0.0
    begin_step: int = 0
    end_step: int = 0
    frequency: int = 100

    def __post_init__(self) -> None:
        if not 0 <= self.initial_sparsity <= self.final_sparsity < 1:
            shares = f"{self.initial_sparsity:g} to {self.final_sparsity:g}"
            hint = "Give shares of zeros from 0 to less than 1, the last not below the first."
            raise UsageError("EK751", f"A sparsity from {shares} is not possible.", hint)
        if not 0 <= self.begin_step <= self.end_step or self.frequency < 1:
            raise ValueError(f"steps {self.begin_step} to {self.end_step} every {self.frequency}")

    @classmethod
    def constant(cls, sparsity: float, *, begin_step: int = 0, frequency: int = 100) -> Self:
        """All at once at ``begin_step``."""
        return cls(sparsity, sparsity, begin_step, begin_step, frequency)

    @classmethod
    def polynomial(
        cls,
        sparsity: float,
        *,
        end_step: int,
        begin_step: int = 0,
        initial_sparsity: float = 0.0,
        frequency: int = 100,
    ) -> Self:
        """Fast at first and slower towards ``end_step``."""
        return cls(sparsity, initial_sparsity, begin_step, end_step, frequency)

    def sparsity_at(self, step: int) -> float:
        """The share of zeros that is wanted after so many steps."""
        if step < self.begin_step:
            return 0.0
        if step >= self.end_step:
            return self.final_sparsity
        left = 1 - (step - self.begin_step) / (self.end_step - self.begin_step)
        return self.final_sparsity + (self.initial_sparsity - self.final_sparsity) * left**3

    def due(self, step: int, before: int) -> bool:
        """Whether weights are to be chosen anew at a step, when that was last done at the step ``before``."""
        if step >= self.end_step:
            return before < self.end_step
        return step >= self.begin_step and step // self.frequency > before // self.frequency


def prune_magnitude(
    model: Any,
    schedule: PruningSchedule,
    *,
    pattern: Pattern | str | None = None,
    layers: Mapping[str, float] | None = None,
    exclude: Sequence[str] = (),
) -> "MagnitudePruning":
    """A callback that prunes a model while it is fitted: ``model.fit(x, y, callbacks=[pruning])``.

    Kernels of convolutions and dense layers are pruned. Those of depthwise convolutions, which are few and
    matter much, stay dense unless ``layers`` names them.

    Args:
        model: A Functional or Sequential Keras 3 model; it is changed in place while it is fitted.
        schedule: How many weights are zero at which step.
        pattern: None for single weights, ``"2:4"`` or ``"block:1x16"`` for zeros in groups and blocks.
        layers: Final sparsity of layers by regular expression: ``{"^dense": 0.9}``. The last that matches counts.
        exclude: Regular expressions; layers whose names match stay dense.

    Raises:
        ModelError: The model is subclassed.
        UsageError: A rule or a pattern is not possible, or nothing is left to prune.
    """
    if isinstance(pattern, str):
        pattern = parse_pattern(pattern)
    rules = dict(layers or {})
    _check_rules([*rules, *exclude])
    pruned: list[_Pruned] = []
    unfit: list[str] = []
    for kernel in kernels_of(model):
        wanted = [sparsity for expression, sparsity in rules.items() if kernel.matches([expression])]
        if kernel.matches(exclude) or (kernel.depthwise and not wanted):
            continue
        if not fits(pattern, tuple(kernel.variable.shape), kernel.axes):
            unfit.append(kernel.name)
            continue
        own = replace(schedule, final_sparsity=wanted[-1], initial_sparsity=0.0) if wanted else schedule
        pruned.append(_Pruned(kernel, own, tf.Variable(tf.ones(kernel.variable.shape), trainable=False)))
    if not pruned:
        raise UsageError("EK752", f"{model.name} has no layer left to prune.", "Exclude fewer layers.")
    return MagnitudePruning(pruned, pattern, tuple(unfit))


def _check_rules(expressions: Sequence[str]) -> None:
    for expression in expressions:
        try:
            re.compile(expression)
        except re.error as error:
            raise UsageError("EK753", f"{expression!r} is no regular expression: {error}.") from error


@dataclass(frozen=True)
class _Pruned:
    kernel: Kernel
    schedule: PruningSchedule
    mask: Any


class MagnitudePruning(keras.callbacks.Callback):  # type: ignore[misc] # Keras has no types
    """Chooses which weights go, and keeps them zero; made by ``prune_magnitude``.

    ``unfit`` names the layers that cannot have the pattern and stay dense.
    """

    def __init__(self, pruned: Sequence[_Pruned], pattern: Pattern | None, unfit: tuple[str, ...]) -> None:
        super().__init__()
        self._pruned, self._pattern, self.unfit = pruned, pattern, unfit
        self._optimizer: Any = None
        self._set_to_zero: Any = None
        self._chosen_at = 0

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002 - Keras's signature
        """Take up where the optimizer is, and prune before the first step."""
        if self._optimizer is not self.model.optimizer:
            # Traced once for an optimizer: a call for each variable would cost more than all of them together.
            self._optimizer = self.model.optimizer
            if not self._optimizer.built:  # before that it has no moments
                self._optimizer.build(self.model.trainable_variables)
            self._set_to_zero = tf.function(self._multiply, autograph=False)
        self._choose(self._step())

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Prune what the schedule wants, and undo what the step did to the pruned weights."""
        step = self._step()
        if any(entry.schedule.due(step, self._chosen_at) for entry in self._pruned):
            self._choose(step)
        else:
            self._set_to_zero()

    def report(self) -> list[dict[str, Any]]:
        """For each pruned kernel its layer, weights, zeros and sparsity as they are now."""
        found = []
        for entry in self._pruned:
            values = entry.kernel.values
            gone = zeros(values)
            row = {"layer": entry.kernel.name, "weights": values.size, "zeros": gone}
            found.append({**row, "sparsity": gone / values.size})
        return found

    def missed(self) -> tuple[str, ...]:
        """The layers that have fewer zeros than was asked for, because training ended before the schedule."""
        step = self._step()
        return tuple(
            entry.kernel.name
            for entry in self._pruned
            if step < entry.schedule.end_step
            and entry.schedule.sparsity_at(step) < entry.schedule.final_sparsity
        )

    def _step(self) -> int:
        return int(np.asarray(self.model.optimizer.iterations))

    def _choose(self, step: int) -> None:
        for entry in self._pruned:
            values, axes = entry.kernel.values, entry.kernel.axes or (-1, -2)
            sparsity = entry.schedule.sparsity_at(step)
            entry.mask.assign(mask_for(values, sparsity, self._pattern, axes))
        self._chosen_at = step
        self._set_to_zero()

    def _multiply(self) -> None:
        for entry in self._pruned:
            for variable in (entry.kernel.variable, *_slots(self.model.optimizer, entry.kernel.variable)):
                variable.assign(variable * tf.cast(entry.mask, variable.dtype))


def _slots(optimizer: Any, variable: Any) -> list[Any]:
    """What an optimizer remembers of a variable: moments, velocities."""
    # Keras names them after the variable.
    prefix = f"{variable.path.replace('/', '_')}_"
    shape = tuple(variable.shape)
    return [
        slot for slot in optimizer.variables if slot.name.startswith(prefix) and tuple(slot.shape) == shape
    ]


def prepare_magnitude(model: Any, context: Context) -> Prepared:
    """Magnitude pruning as a method of training.

    Options of the job: ``sparsity``, ``schedule`` (``"polynomial"`` or ``"constant"``), ``begin_step``,
    ``end_step``, ``frequency``, ``pattern``, ``layers``, ``exclude`` and ``sparse_encoding``.
    """
    options, job = context.job.options, context.job
    steps = -(-context.train.count // job.batch_size) * job.epochs
    schedule = job_schedule(options, steps)
    pruning = prune_magnitude(
        model,
        schedule,
        pattern=options["pattern"],
        layers=options.get("layers"),
        exclude=options["exclude"],
    )
    dense = {kernel.name for kernel in kernels_of(model)} - {row["layer"] for row in pruning.report()}
    findings = []
    if pruning.unfit:
        unfit = ", ".join(pruning.unfit)
        message = f"These layers cannot have the pattern {options['pattern']} and stay dense: {unfit}."
        findings.append(Finding("EK754", message, level=Level.WARNING))

    def finish(fitted: Any) -> Any:
        if missed := pruning.missed():
            message = f"Training ended before the schedule; there are less zeros than wanted in {', '.join(missed)}."
            hint = "Train for more epochs, or lower --end-step."
            findings.append(Finding("EK755", message, hint))
        return fitted

    return Prepared(
        model,
        [pruning],
        finish=finish,
        report=lambda fitted: _report(fitted, pruning.report(), dense),
        findings=findings,
        export="sparse" if options.get("sparse_encoding") else "none",
        judged_from=max(1, min(job.epochs, math.ceil(schedule.end_step / steps * job.epochs))),
    )


def _report(model: Any, rows: list[dict[str, Any]], dense: set[str]) -> dict[str, Any]:
    weights = sum(int(np.asarray(variable).size) for variable in model.weights)
    share = sum(row["zeros"] for row in rows) / weights
    return {"kernels": rows, "dense_layers": sorted(dense), "weights": weights, "sparsity": share}


def job_schedule(options: Mapping[str, Any], steps: int) -> PruningSchedule:
    """The schedule of a training of so many steps: without ``end_step`` it ends after two thirds of them."""
    sparsity, begin = float(options["sparsity"]), int(options["begin_step"])
    frequency = int(options["frequency"])
    if options["schedule"] == "constant":
        return PruningSchedule.constant(sparsity, begin_step=begin, frequency=frequency)
    end = int(options["end_step"] or begin + max(0, steps - begin) * 2 // 3)
    if begin > end:
        raise UsageError("EK751", f"Pruning cannot begin at step {begin} and end at step {end}.")
    # At least twenty choices on the way: each takes so few that the rest can make up for them.
    frequency = max(1, min(frequency, (end - begin) // 20))
    return PruningSchedule.polynomial(sparsity, begin_step=begin, end_step=end, frequency=frequency)
