"""Two models run on the same samples, tensor by tensor; what is kept are sums, and never a tensor."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit.artifact import Artifact, TensorSpec
from edgekit.debugging.graph import Graph, Value, fed
from edgekit.debugging.pairing import Pair, Pairing
from edgekit.debugging.sums import Seen, Sums
from edgekit.errors import ModelError
from edgekit.formats import open_artifact
from edgekit.runtimes import Session
from edgekit.sampling import batch_size
from edgekit.tensor import Array, dequantize, quantize

Opener = Callable[[Artifact], Session]
Tensors = dict[str, Array]
# The grid of real inputs that a kernel rounds by itself: symmetric, eight bits, over the largest.
_HYBRID_LEVELS = 127


@dataclass(frozen=True)
class Side:
    """A model, what can be seen inside of it, and what executes it: here or on a device."""

    artifact: Artifact
    graph: Graph
    open: Opener


class Comparison:
    """Two models with all their pairs visible, and A cut into single operators to be fed with B's tensors.

    ``seen`` holds what was seen of each pair, by the key of B's tensor. ``alone`` holds sums over B's tensors
    without a partner. ``exposed`` compares B's outputs in the file that shows all tensors with those of B as it is.

    Args:
        a: The reference.
        b: The version that is judged.
        pairing: Which tensors stand for each other.
        folder: Where the edited files may lie.
        repeat: Opens A in other kernels, to see how far those of one model differ; None where there are none.
    """

    def __init__(self, a: Side, b: Side, pairing: Pairing, *, folder: Path, repeat: Opener | None) -> None:
        self._a, self._b, self._pairing = a, b, pairing
        self._folder, self._repeat = folder, repeat
        self.seen = {pair.b.key: Seen() for pair in pairing.pairs}
        self.alone = {value.key: Sums() for value in pairing.only_b}
        self.exposed = Sums()
        self._partners = {pair.b.key: pair.a.key for pair in pairing.pairs}
        batch = batch_size(a.artifact)
        # What A's operators are given in place of what A's operators before them made.
        self._fed = {p.a.key: p.b.key for p in pairing.pairs if p.is_read and _can_be_fed(p.a, batch)}

    def run(self, samples: Iterable[tuple[Mapping[str, Array], Mapping[str, Array]]]) -> Iterator[None]:
        """Compare sample by sample; each is a pair of inputs, A's and B's, with a leading axis of 1.

        Raises:
            ModelError: A model fails, or the reference gives NaN or infinity.
        """
        with ExitStack() as stack:
            sessions = self._sessions(stack)
            for inputs_a, inputs_b in samples:
                self._sample(sessions, inputs_a, inputs_b)
                yield

    def _sessions(self, stack: ExitStack) -> dict[str, Session]:
        a, b = self._a, self._b
        keys = list(dict.fromkeys(pair.a.key for pair in self._pairing.pairs if not pair.a.is_input))
        inner = [key for key in keys if key in self._fed]
        watched = [key for key in keys if key not in self._fed]
        files = {
            "a": (a.open, a.graph.expose(keys)),
            "b": (b.open, b.graph.expose([value.key for value in b.graph.values if not value.is_input])),
            "replay": (a.open, a.graph.cut(inner, watched, {})),
        }
        rounded: Tensors = {}
        for pair in self._pairing.pairs:
            own = {} if pair.b.is_conversion else _rounded_weights(a.graph, pair)
            self.seen[pair.b.key].has_rounded_weights = own is not None
            rounded |= own or {}
        if rounded:
            files["rounded"] = (a.open, a.graph.cut(inner, watched, rounded))
        if self._repeat is not None:
            files["repeat"] = (self._repeat, files["a"][1])
        sessions: dict[str, Session] = {}
        for name, (opener, content) in files.items():
            path = self._folder / f"{name}.{a.artifact.format}"
            path.write_bytes(content)
            sessions[name] = opener(open_artifact(path))
            stack.callback(sessions[name].close)
        sessions["plain"] = b.open(b.artifact)
        stack.callback(sessions["plain"].close)
        return sessions

    def _sample(
        self, sessions: Mapping[str, Session], inputs_a: Mapping[str, Array], inputs_b: Mapping[str, Array]
    ) -> None:
        in_a, in_b = _as_seen(inputs_a, self._a.artifact.inputs), _as_seen(inputs_b, self._b.artifact.inputs)
        a = sessions["a"].run(inputs_a) | in_a
        b = sessions["b"].run(inputs_b) | in_b
        inputs = {spec.name: b[self._fed[spec.name]] for spec in self._a.artifact.inputs}
        inputs |= {fed(key): b[other] for key, other in self._fed.items() if key not in inputs}
        replay = sessions["replay"].run(inputs)
        rounded = sessions["rounded"].run(inputs) if "rounded" in sessions else {}
        repeat = sessions["repeat"].run(inputs_a) if "repeat" in sessions else {}
        for pair in self._pairing.pairs:
            self._check_finite(pair, a[pair.a.key])
            seen, measured = self.seen[pair.b.key], b[pair.b.key]
            if a[pair.a.key].shape != measured.shape:
                raise _shapes_differ(pair, a[pair.a.key], measured)
            seen.whole.add(a[pair.a.key], measured)
            seen.add_clipping(a[pair.a.key], pair.b)
            if pair.a.key in repeat:
                seen.repeat.add(a[pair.a.key], repeat[pair.a.key])
            exact = self._exact(pair, a, b, replay)
            seen.add_own(exact, rounded.get(pair.a.key, exact), measured, pair.b)
            for value in (pair.a, pair.b):
                if value.is_hybrid:
                    seen.add_hybrid(exact, [b[key] for key in pair.b.inputs if key in b], _HYBRID_LEVELS)
        for key, sums in self.alone.items():
            sums.add(b[key], b[key])
        self._compare_with_plain(sessions["plain"].run(inputs_b), b)

    def _exact(self, pair: Pair, a: Tensors, b: Tensors, replay: Mapping[str, Array]) -> Array:
        """What B's operator should have written, given what it was given."""
        source = pair.b.inputs[0] if pair.b.is_conversion and not pair.a.is_conversion else ""
        if source in b and self._partners.get(source) == pair.a.key:
            return b[source]
        return a[pair.a.key] if pair.a.is_input else replay[pair.a.key]

    def _compare_with_plain(self, plain: Mapping[str, Array], b: Tensors) -> None:
        for name, key in self._b.graph.outputs.items():
            if key in b:
                self.exposed.add(plain[name], b[key])

    def _check_finite(self, pair: Pair, values: Array) -> None:
        if values.dtype.kind == "f" and np.isnan(values).any():
            raise ModelError(
                "EK702",
                f"{self._a.artifact.path.name} gives NaN in {pair.a.name!r}, so there is nothing to compare with.",
                "Check the model and the samples: the first of the two models is the reference.",
            )


def _can_be_fed(value: Value, batch: int) -> bool:
    """Whether a tensor can be an input: those have the batch as their first axis."""
    return value.is_input or (bool(value.shape) and (value.shape[0] or 1) == batch)


def _as_seen(inputs: Mapping[str, Array], specs: tuple[TensorSpec, ...]) -> Tensors:
    """The inputs as the model's first operators see them: rounded where the model takes integers."""
    seen = {}
    for spec in specs:
        values = inputs[spec.name]
        if spec.quantization is not None:
            values = dequantize(quantize(values, spec.quantization, spec.dtype), spec.quantization)
        seen[spec.name] = values.astype(np.float32)
    return seen


def _rounded_weights(graph: Graph, pair: Pair) -> Tensors | None:
    """A's weights rounded to the grids of B's: the best that B could have in their place.

    None where B has weights on a grid that are not those of A.
    """
    rounded: Tensors = {}
    for place, weight in pair.b.weights.items():
        own = pair.a.weights.get(place)
        if weight.step is None and not weight.is_half:
            continue
        if own is None or own.shape != weight.shape or (values := graph.constant(own.key)).dtype.kind != "f":
            if weight.is_matrix:
                return None
        elif weight.step is None:
            rounded[own.key] = values.astype(np.float16).astype(np.float32)
        else:
            step = np.where(weight.step > 0, weight.step, 1.0).astype(np.float32)
            rounded[own.key] = np.rint(values / step) * step
    return rounded


def _shapes_differ(pair: Pair, one: Array, other: Array) -> ModelError:
    return ModelError(
        "EK701",
        f"{pair.b.name!r} has the shape {list(other.shape)}, and {pair.a.name!r} of the reference "
        f"{list(one.shape)}.",
        "Compare versions that were made from the same model, in one format.",
    )
