"""Random inputs for what a compiler made, and how far its outputs are from those of the model."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from edgekit import flatbuffer
from edgekit.artifact import Artifact, Format, TensorSpec
from edgekit.findings import Finding
from edgekit.operators import operators
from edgekit.passes._graph import numbers, signature_entries
from edgekit.runtimes import open_session
from edgekit.tensor import Array, Difference, dequantize, difference

SAMPLES = 8


def border(artifact: Artifact) -> tuple[list[TensorSpec], list[TensorSpec]]:
    """Inputs and outputs in the order of the file; the signature of a ``.tflite`` file may have another."""
    if artifact.format is not Format.TFLITE:
        return list(artifact.inputs), list(artifact.outputs)
    tree = flatbuffer.read(artifact.path.read_bytes())
    graph = tree.subgraphs[0]
    sides = []
    for side, specs in (("inputs", artifact.inputs), ("outputs", artifact.outputs)):
        signed = {entry.tensorIndex: entry.name.decode() for entry in signature_entries(tree, 0, side)}
        by_name = {spec.name: spec for spec in specs}
        order = [signed.get(index, "") for index in numbers(getattr(graph, side))]
        sides.append([by_name[name] for name in order] if set(order) == set(by_name) else list(specs))
    return sides[0], sides[1]


def random_samples(inputs: Sequence[TensorSpec]) -> dict[str, Array]:
    """Values as the file's tensors hold them, ``{"image": (8, 1, 32, 32, 3)}``: one run, of the file's batch, a row.

    Real numbers from 0 to 1, narrow integers of any value, and 0 and 1 of wide ones, which are indices.
    """
    return {spec.name: _random(spec) for spec in inputs}


def _random(spec: TensorSpec) -> Array:
    generator = np.random.default_rng(0)
    shape, dtype = (SAMPLES, *(size or 1 for size in spec.shape)), np.dtype(spec.dtype)
    if dtype.kind == "f":
        return generator.random(shape).astype(dtype)
    if dtype.itemsize <= 2 and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return generator.integers(limits.min, limits.max, shape, endpoint=True).astype(dtype)
    return generator.integers(0, 2, shape).astype(dtype)


def differences(
    artifact: Artifact,
    samples: Mapping[str, Array],
    measured: Mapping[str, Array],
    runtime: str | None = None,
) -> Iterator[tuple[TensorSpec, Difference]]:
    """Each output of the model, with how far the measured one is from what a runtime gives for the same samples."""
    session = open_session(artifact, runtime)
    try:
        # Both axes, of the runs and of the batch in the file, are samples to a session.
        given = {
            spec.name: _real(samples[spec.name].reshape(-1, *samples[spec.name].shape[2:]), spec)
            for spec in artifact.inputs
        }
        exact = session.run(given)
    finally:
        session.close()
    for spec in artifact.outputs:
        expected = np.asarray(exact[spec.name])
        yield spec, difference(expected, _real(measured[spec.name].reshape(expected.shape), spec))


def _real(values: Array, spec: TensorSpec) -> Array:
    """Real numbers out of what a tensor holds."""
    return values if spec.quantization is None else dequantize(values, spec.quantization)


def is_integer(artifact: Artifact) -> bool:
    """Whether operators of the model compute in integers, whatever its inputs and outputs are."""
    return not all(one.is_float for one in operators(artifact.path, artifact.format) if one.weights)


def far(found: Iterable[tuple[TensorSpec, Difference]], near_db: float) -> Iterator[Finding]:
    """A finding for each output whose SNR is below ``near_db``."""
    for spec, off in found:
        if off.snr_db < near_db:
            text = f"The output {spec.name} has an SNR of {off.snr_db:.1f} dB to the model's"
            hint = "Evaluate it on real samples before it is used."
            yield Finding("EK398", f"{text} on {SAMPLES} random inputs.", hint)
